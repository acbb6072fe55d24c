"""The rules of a CSV server as data."""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

FILES = "files"
"""Charge of a file."""

QUOTAS: tuple[Quota, ...] = (
    Quota("files_per_minute", ConnectorType.CSV_HTTPS, FILES, "application", 60, 60_000, None, "assumed: one a second"),
)
