"""Report schemas (``schemas/reports/<report_type>.v1.json``) as data, and what of them a provider offers.

The files state grain, key, columns in order, types and nullability for all providers; nothing is ever inferred from
data. New columns are added at the end and nullable; anything else is a new version in a new file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app.domain.model import Field, ReportType

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "reports"
KINDS = ("string", "date", "int64", "decimal(18,6)", "list<string>")
ROLES = ("key", "attribute", "metric")
OURS = ("connector_id", "time_zone")
"""Columns no provider is asked for: the connector says them."""


@dataclass(frozen=True, slots=True)
class ReportSchema:
    """One report type as every provider must deliver it; ``columns`` carry no provider names yet."""

    report_type: str
    version: int
    grain: str
    key: tuple[str, ...]
    columns: tuple[Field, ...]


@cache
def load(report_type: str, version: int = 1) -> ReportSchema:
    """Reads and checks one schema file. Raises ``FileNotFoundError``, or ``ValueError`` naming what is wrong in it."""
    text = (FOLDER / f"{report_type}.v{version}.json").read_text(encoding="utf-8")
    raw = json.loads(text)
    columns = tuple(_column(entry) for entry in raw["columns"])
    if (raw["report_type"], raw["version"]) != (report_type, version):
        raise ValueError(f"{report_type}.v{version} calls itself {raw['report_type']}.v{raw['version']}")
    keys = tuple(column.name for column in columns if column.role == "key")
    if keys != tuple(raw["key"]) or len({column.name for column in columns}) != len(columns):
        raise ValueError(f"{report_type}.v{version}: key and columns disagree")
    return ReportSchema(report_type, version, raw["grain"], keys, columns)


def offered(
    report_type: str, provider_names: Mapping[str, str], *, retention_days: int, settling_days: int
) -> ReportType:
    """What a provider offers of a schema: ``provider_names`` maps our column to its name. Standard columns it lacks
    stay (null in every file, provider name ``""``); others it lacks are not offered."""
    columns = load(report_type).columns
    unknown = set(provider_names) - {column.name for column in columns}
    if unknown:
        raise ValueError(f"{report_type} has no column {sorted(unknown)}")
    kept = [column for column in columns if column.standard or column.name in provider_names]
    fields = tuple(_named(column, provider_names.get(column.name, "")) for column in kept)
    return ReportType(report_type, fields, retention_days, settling_days)


def wanted(report: ReportType, asked: tuple[str, ...]) -> tuple[Field, ...]:
    """The columns of one file, in order: all standard ones, then the extras that were asked for."""
    return tuple(field for field in report.fields if field.standard or field.name in asked)


def _column(raw: Mapping[str, Any]) -> Field:
    if raw["type"] not in KINDS or raw["role"] not in ROLES:
        raise ValueError(f"column {raw['name']}: unknown type or role")
    return Field(raw["name"], raw["type"], raw["role"], "", raw["additive"], raw["standard"], raw["nullable"])


def _named(field: Field, provider_name: str) -> Field:
    return Field(field.name, field.kind, field.role, provider_name, field.additive, field.standard, field.nullable)
