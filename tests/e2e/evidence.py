"""What a run left behind, as the checker sees it: raw topics, the provider's arrival log, result files.

Nothing here comes from the product's own counters. Events are cut down while they are read, since a merged batch names
up to two hundred others in each of its members' receipts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

Source = tuple[str, int, int]
"""Topic, partition, offset of a record."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """One record of the command topic. ``at``: its LogAppendTime, ms."""

    source: Source
    at: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Told:
    """One record of the event topic, in log order per partition. ``data`` without the names in ``batched_with``, whose
    number stands in ``others``."""

    partition: int
    offset: int
    event_id: str
    kind: str
    org_id: int | None
    connector_id: str | None
    request_id: str | None
    labels: Mapping[str, str]
    data: Mapping[str, Any]
    others: int = 0
    names_itself: bool = False

    @property
    def refused(self) -> bool:
        return bool(self.data.get("refused", False))


@dataclass(frozen=True, slots=True)
class Dead:
    """One record of the dead-letter topic. ``source`` is None where its headers do not say."""

    source: Source | None
    code: str
    detail: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A provider's quota, as the sandbox was told to keep it. ``value`` is the application, user or account."""

    name: str
    group: str
    scope: str
    value: str
    limit: int | None
    period_s: float
    calendar_zone: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What a connector reads: the provider's account, and the time zone its rows are told to have."""

    connector_id: str
    org_id: int
    account_id: str
    time_zone: str = "UTC"


Cells = Mapping[str, Any]
"""A row by column name: text, ``int``, ``Decimal``; the day is not part of it."""

Truth = Callable[[str, str, date, date], Mapping[date, Sequence[Cells]]]
"""(id of a report at the provider or ``""`` for the figures as they are now, account, first day, last day) -> true rows
per day, one per campaign."""


@dataclass(slots=True)
class Evidence:
    """Everything the checks look at. ``views``: request id -> the last state on the view topic; ``calls`` and
    ``reports`` are the sandbox's own rows; ``own_over`` what the sandbox itself counted over its quotas; ``usage`` the
    entries of the ledger, windows left out."""

    commands: list[CommandRecord] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    views: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    usage: list[Mapping[str, Any]] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    own_over: int = 0
    reports: list[Mapping[str, Any]] = field(default_factory=list)


def told(partition: int, offset: int, event: Mapping[str, Any], shared: dict[Any, Any]) -> Told:
    """A decoded event, cut down; ``shared`` keeps one copy of files that many receipts name."""
    data = dict(event["data"])
    others = data.pop("batched_with", None) or ()
    if "files" in data:
        data["files"] = tuple(shared.setdefault(_key(f), f) for f in data["files"])
    return Told(
        partition=partition,
        offset=offset,
        event_id=event["event_id"],
        kind=event["type"],
        org_id=event["org_id"],
        connector_id=event["connector_id"],
        request_id=event["request_id"],
        labels=event["labels"],
        data=data,
        others=len(others),
        names_itself=event["request_id"] in others,
    )


def _key(file: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(file.values())


@dataclass(frozen=True, slots=True)
class Stored:
    """A result file as it lies in the store. ``rows``: day -> its rows; ``columns`` in the file's order; ``report_id``
    the provider's report that it says it was made of."""

    size_bytes: int
    checksum: str
    count: int
    columns: tuple[str, ...]
    rows: Mapping[date, Sequence[Cells]]
    report_id: str = ""


def read_file(uri: str) -> Stored | None:
    """Reads a ``file:`` result whole; None if there is none. Raises ``ValueError`` for another kind of store."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"only file: results can be read here, not {parts.scheme}:")
    path = Path(unquote(parts.path))
    if not path.is_file():
        return None
    content = path.read_bytes()
    table = pq.read_table(pa.BufferReader(content))
    days: dict[date, list[Cells]] = {}
    for row in table.to_pylist():
        days.setdefault(row.pop("date"), []).append(row)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    said = json.loads((pq.read_metadata(pa.BufferReader(content)).metadata or {}).get(b"connector_service", b"{}"))
    report_id = str(said.get("remote", {}).get("report_id", ""))
    return Stored(len(content), digest, table.num_rows, tuple(table.column_names), days, report_id)


def account_rows(rows: Sequence[Cells]) -> list[Cells]:
    """Campaigns' rows of one day summed to the one row of their account."""
    if not rows:
        return []
    summed = {name: rows[0][name] for name in ("account_id", "currency")}
    for name in ("impressions", "clicks", "conversions", "spend", "media_cost", "billable_impressions"):
        summed[name] = sum((row[name] for row in rows), start=type(rows[0][name])(0))
    return [summed]


def true_cells(row: Mapping[str, Any]) -> Cells:
    """A row of ``GET /_sandbox/truth`` in the columns of our files."""
    return {
        "account_id": row["advertiser_id"],
        "currency": row["currency"],
        "campaign_id": row["campaign_id"],
        "campaign_name": row["campaign_name"],
        "impressions": row["impressions"],
        "clicks": row["clicks"],
        "conversions": Decimal(row["conversions"]),
        "spend": Decimal(row["spend"]),
        "media_cost": Decimal(row["media_cost"]),
        "billable_impressions": row["billable_impressions"],
    }
