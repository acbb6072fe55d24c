"""The tables ``usage`` and ``rate_limits``: the planner's ledger, call by call and window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from app.domain.identity import normalise
from app.domain.ledger import WHOLE, Entry, LedgerRecord, Share, WindowCount
from app.domain.model import PRIORITY_CLASS, SQL_PRIORITY
from app.storage.postgres.database import Database, plain
from app.storage.postgres.queries import statements
from app.storage.postgres.rows import moment, uuid_text

_SQL: Final = statements("usage")
_AT_ONCE: Final = 5_000
"""Rows of one write: a call of a full batch is two hundred."""
_ENDPOINT_MAX: Final = 255
_PRIORITY: Final = {str(SQL_PRIORITY[number]): name for name, number in PRIORITY_CLASS.items()}

By = Literal["organisation", "connector", "connector_type", "label", "priority", "day"]


@dataclass(frozen=True, slots=True)
class Total:
    """Calls of one value of a dimension; ``name`` is None for calls that have none. ``unknown`` of them may not have
    left."""

    name: str | None
    calls: Decimal
    unknown: Decimal


class PostgresUsage:
    """``ports.Usage``. Raises ``StoreUnavailable`` when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def project(self, records: Sequence[LedgerRecord]) -> None:
        """Writes entries and closed windows; in any order, again at will. What is written when it fails stays."""
        shares = [row for one in records if isinstance(one, Entry) for row in _shares(one)]
        # In order of their keys, so that two projectors cannot wait for each other.
        await self._write("add", sorted(shares, key=lambda row: (row[0], row[1] or "")))
        windows = [_window(one) for one in records if isinstance(one, WindowCount)]
        await self._write("count_window", sorted(windows, key=lambda row: (row[0], row[2], row[5])))

    async def totals(self, org_id: int | None, since: int, until: int, by: By, label: str = "") -> list[Total]:
        """Calls granted from ``since`` until before ``until`` (ms) of one organisation, or of all, by a dimension:
        days are UTC's, priorities the classes' names, ``label`` names the label."""
        span = (moment(since), moment(until))
        rows = await self._database.run(lambda c: c.fetch(_SQL["totals"], org_id, *span, by, label))
        return [Total(_name(by, row["name"]), row["calls"], row["unknown"]) for row in rows]

    async def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for first in range(0, len(rows), _AT_ONCE):
            await self._write_some(statement, rows[first : first + _AT_ONCE])

    async def _write_some(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        await self._database.run(lambda c: c.executemany(_SQL[statement], rows))


def _name(by: By, found: str | None) -> str | None:
    if by == "priority" and found is not None:
        return _PRIORITY[found]
    return normalise("conn", found) if by == "connector" and found is not None else found


def _shares(entry: Entry) -> Iterator[tuple[Any, ...]]:
    """The arguments of ``add``, in its order, for each member, or once for the organisation alone."""
    for share in entry.members or (Share("", {}, WHOLE),):
        yield (
            entry.ask_id, uuid_text("req", share.request_id), entry.org_id, uuid_text("conn", entry.connector_id),
            entry.connector_type, uuid_text("bat", entry.batch_id), entry.charge, [plain(key) for key in entry.buckets],
            SQL_PRIORITY[entry.priority_class], share.labels, Decimal(share.millionths) / WHOLE, entry.outcome,
            moment(entry.granted_at), moment(entry.ended_at),
        )  # fmt: skip


def _window(count: WindowCount) -> tuple[Any, ...]:
    """The arguments of ``count_window``. The bucket's key names its quota and the account or user it counts for."""
    bucket = (plain(count.bucket.removesuffix("|")) or "")[:_ENDPOINT_MAX]
    span = (moment(count.start), moment(count.end))
    return (count.connector_type, count.org_id, bucket, count.limit, count.calls, *span)
