"""The nouns of the house: one word, one meaning (docs/glossary.md).

Units used everywhere in the domain: an instant is an integer of *milliseconds* since the epoch, UTC (the resolution of
the broker's LogAppendTime) in a name that ends in ``_at`` or is called ``now``; a span is milliseconds in ``_ms`` or
seconds in ``_s``; a day is the proleptic ordinal of a calendar date in the account's own zone (``date.toordinal()``),
both ends of a range included. Ids are the text forms of the wire: ``conn_``, ``req_``, ``bat_``, ``evt_``, ``grant_`` +
32 hex digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

PARTITIONS = 8
"""P: the partition count of every topic and table of the service (spec section 14)."""


class ConnectorType(StrEnum):
    """The connector types, as written on the wire; settings keys are the same in lower case."""

    DV360 = "DV360"
    TTD = "TTD"
    META = "META"
    GOOGLE_ADS = "GOOGLE_ADS"
    SHEETS = "SHEETS"
    CSV_HTTPS = "CSV_HTTPS"


INBOX_PARTITION: Mapping[str, int] = {
    ConnectorType.DV360: 0,
    ConnectorType.TTD: 1,
    ConnectorType.META: 2,
    ConnectorType.GOOGLE_ADS: 3,
    ConnectorType.SHEETS: 4,
    ConnectorType.CSV_HTTPS: 6,
}
"""Connector type -> its one partition of ``connector.planner``. An explicit map: hashing a few keys collides. A number
that was given is never given to another type, since rows and records lie there; 7 is spare."""

UNTYPED_PARTITION = 5
"""Inbox partition of commands whose connector, and so whose type, is unknown: they can only be refused."""


class Priority(StrEnum):
    """What a command may ask for; ``retry`` is internal and cannot be asked for."""

    PREMIUM = "premium"
    NORMAL = "normal"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"


PRIORITY_CLASS: Mapping[str, int] = {"premium": 1, "normal": 2, "scheduled": 3, "retry": 4, "backfill": 5}
SQL_PRIORITY: Mapping[int, int] = {1: 10, 2: 30, 3: 50, 4: 70, 5: 90}
"""Priority class -> the seed's 0-100 column."""


class RequestState(StrEnum):
    """States of a request; the moves between them are ``lifecycle.MOVES``."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DayState(StrEnum):
    """How much a day's figures may still move at the provider."""

    OPEN = "open"
    SETTLING = "settling"
    FINAL = "final"


@dataclass(frozen=True, slots=True, order=True)
class Days:
    """A run of days, both ends included, as ordinals."""

    start: int
    end: int

    def overlaps(self, other: Days) -> bool:
        return self.start <= other.end and other.start <= self.end

    def covers(self, other: Days) -> bool:
        return self.start <= other.start and other.end <= self.end

    def union(self, other: Days) -> Days:
        """The smallest run holding both; exact only for runs that overlap or touch."""
        return Days(min(self.start, other.start), max(self.end, other.end))

    def clip(self, other: Days) -> Days | None:
        """What of this run lies inside the other, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Days(start, end) if start <= end else None

    def __len__(self) -> int:
        return self.end - self.start + 1

    @property
    def first(self) -> str:
        return date.fromordinal(self.start).isoformat()

    @property
    def last(self) -> str:
        return date.fromordinal(self.end).isoformat()


@dataclass(frozen=True, slots=True)
class ConnectorFacts:
    """What intake and planner must know of a connector; never a credential. One row of ``connector.connectors``.

    ``subject`` names the provider's user behind the grant: the scope of per-user quotas. ``plan`` is the
    organisation's. ``status`` is one of pending, connected, paused, reauthorise, revoked, error; ``deleted`` rows are
    refused as unknown. ``manager_id`` is the account through which this one is reached, where that must be said.
    """

    connector_id: str
    org_id: int
    connector_type: str
    account_id: str
    grant_id: str
    subject: str
    status: str = "connected"
    time_zone: str = "UTC"
    currency: str | None = None
    plan: str = "standard"
    deleted: bool = False
    manager_id: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a report type: our name, Arrow-like type, and whether it may be summed over merged dimensions.

    ``kind`` is ``string``, ``date``, ``int64``, ``decimal(18,6)`` or ``list<string>``. ``role`` is ``key``,
    ``attribute`` or ``metric``.
    ``standard`` columns are fetched by default and always present in the file; others are asked for by name.
    """

    name: str
    kind: str
    role: str
    provider_name: str
    additive: bool = True
    standard: bool = True
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ReportType:
    """What a connector type offers under one report name. Day counts; 0 for ``longest_range_days`` means no limit."""

    name: str
    fields: tuple[Field, ...]
    retention_days: int
    settling_days: int
    longest_range_days: int = 0
    standard_names: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """Columns that are always fetched, in order."""
    apart_names: frozenset[str] = field(init=False, compare=False, repr=False)
    """Columns that do not add up (reach): read together only with exactly the same others of their kind. Standard
    columns are in every file, so they never tell two fetches apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "standard_names", tuple(f.name for f in self.fields if f.standard))
        apart = frozenset(f.name for f in self.fields if not f.additive and not f.standard)
        object.__setattr__(self, "apart_names", apart)

    def field(self, name: str) -> Field | None:
        return next((f for f in self.fields if f.name == name), None)

    @property
    def askable_names(self) -> tuple[str, ...]:
        """Attributes and metrics; keys are always there and need not be asked for."""
        return tuple(f.name for f in self.fields)


Catalogue = Mapping[str, Mapping[str, ReportType]]
"""Connector type -> report type name -> what it offers."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A provider's rule: at most ``limit`` calls in any ``period_ms`` (sliding) or a calendar day of ``calendar_zone``.

    ``scope`` is application, account or user. ``charge`` names the kind of call that spends from it (``reports``,
    ``entities``, ``read``, ``write``); a call spends from every quota with its charge, all or none.
    """

    name: str
    connector_type: str
    charge: str
    scope: str
    limit: int
    period_ms: int
    calendar_zone: str | None = None
    source: str = ""
    enforced: bool = True
    """False (shadow): calls are counted and shown, and nothing waits but for the provider's own refusals."""
    reserve: Decimal | None = None
    """Share of the limit, 0 to 0.9, that is kept for classes 1 and 2; None: as ``domain.reserve`` has it."""
