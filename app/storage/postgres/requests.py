"""The table ``connector_requests``: history of requests, a projection of the planner's decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from app.domain.messages import RequestView
from app.domain.model import SQL_PRIORITY, Days
from app.domain.tables import is_table
from app.ports import PageKey, Wanted
from app.storage.postgres.database import Database, plain
from app.storage.postgres.queries import statements
from app.storage.postgres.rows import millis, moment, text_of, uuid_of, uuid_text

if TYPE_CHECKING:
    from asyncpg import Record

_SQL: Final = statements("requests")
_INT_MAX: Final = 2**31 - 1
_COST_MAX: Final = Decimal("999999.9999")
_CLASS: Final = {number: name for name, number in SQL_PRIORITY.items()}
_NEWEST: Final[PageKey] = (253_402_300_799_999, "req_" + "f" * 32)
"""Before which everything lies: the end of the year 9999."""


class PostgresRequestHistory:
    """``ports.RequestHistory``. Raises ``StoreUnavailable`` when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def project(self, views: Sequence[RequestView]) -> None:
        """Writes requests as they are now, all or none; in any order, again at will: older revisions change nothing."""
        newest: dict[str, RequestView] = {}
        for view in views:
            held = newest.get(view.request_id)
            if held is None or held.revision < view.revision:
                newest[view.request_id] = view
        # In order of id, so that two projectors cannot wait for each other.
        rows = [_row(newest[request_id]) for request_id in sorted(newest)]
        if rows:
            await self._database.run(lambda c: c.executemany(_SQL["project"], rows))

    async def find(self, request_id: str) -> RequestView | None:
        """The request; None for an unknown id or text that is none."""
        key = uuid_of("req", request_id)
        if key is None:
            return None
        row = await self._database.run(lambda c: c.fetchrow(_SQL["find"], key))
        return None if row is None else _view(row)

    async def page(self, wanted: Wanted, before: PageKey | None, limit: int) -> list[RequestView]:
        """Newest first by (accepted, id), from ``before`` on, that itself left out.

        Instants are stored to the millisecond they are given in, so that a page begins exactly where one ended.
        """
        accepted_at, request_id = before or _NEWEST
        from_here = (str(wanted.org_id), moment(accepted_at), uuid_of("req", request_id), limit)
        # A statement for each filter: one for all could use one index only.
        filters: tuple[str | None, ...]
        if wanted.connector_id is not None:
            statement, filters = _SQL["page_of_connector"], (wanted.connector_id, wanted.status)
        elif wanted.status is not None:
            statement, filters = _SQL["page_of_status"], (wanted.status,)
        else:
            statement, filters = _SQL["page"], ()
        rows = await self._database.run(lambda c: c.fetch(statement, *from_here, *filters))
        return [_view(row) for row in rows]

    async def known_bodies(self, request_ids: Sequence[str]) -> Mapping[str, str]:
        """Body hashes of those of these requests that are known; texts that are no ids are left out."""
        keys = [key for name in request_ids if (key := uuid_of("req", name)) is not None]
        rows = await self._database.run(lambda c: c.fetch(_SQL["known_bodies"], keys))
        return {text_of("req", row["id"]): row["body_hash"] for row in rows}


def _row(view: RequestView) -> tuple[Any, ...]:
    """The arguments of ``project``, in its order."""
    days = None if view.write is not None else Days(view.start, view.end)
    return (
        uuid_text("req", view.request_id), uuid_text("conn", view.connector_id), view.org_id,
        "fetch" if days is not None else "write", _params(view, days), view.state,
        SQL_PRIORITY[view.priority_class], view.queue_position,
        [uuid_text("req", one) for one in view.batched_with], view.result, _sentence(view.error),
        _small(view.execution_time_ms), _rounded(view.cost), moment(view.accepted_at), moment(view.started_at),
        moment(view.completed_at), view.connector_type, plain(view.report_type) or None, *_ends(days),
        [plain(name) for name in view.fields], view.labels,
        uuid_text("bat", view.batch_id or ""), view.revision, view.body_hash, view.waiting, view.progress,
        view.estimated_wait_s, view.rate_limit, view.attempts, view.error,
        None if view.cost is None else Decimal(view.cost), moment(view.deadline_at), _small(view.max_age_s), view.force,
    )  # fmt: skip


def _ends(days: Days | None) -> tuple[date | None, date | None]:
    return (None, None) if days is None else (date.fromordinal(days.start), date.fromordinal(days.end))


def _params(view: RequestView, days: Days | None) -> dict[str, Any]:
    """What was asked for, in the words of the command. Whose it is stands here too: the columns are foreign keys."""
    asked: dict[str, Any] = {"write": view.write}
    if days is not None:
        asked = {
            "report_type": view.report_type,
            "date_range": None if is_table(view.connector_type) else {"start": days.first, "end": days.last},
            "fields": list(view.fields),
        }
    return {
        "org_id": view.org_id,
        "connector_id": view.connector_id,
        **asked,
        "execution_time_ms": view.execution_time_ms,
        "max_age_s": view.max_age_s,
    }


def _sentence(error: Mapping[str, Any] | None) -> str | None:
    if error is None:
        return None
    return plain(": ".join(str(error[name]) for name in ("code", "message") if error.get(name)))


def _small(value: int | None) -> int | None:
    return None if value is None else min(value, _INT_MAX)


def _rounded(cost: str | None) -> Decimal | None:
    return None if cost is None else min(Decimal(cost), _COST_MAX)


def _view(row: Record) -> RequestView:
    params = row["params"]
    return RequestView(
        request_id=text_of("req", row["id"]),
        org_id=params["org_id"],
        connector_id=params["connector_id"],
        connector_type=row["connector_type"],
        report_type=row["report_type"] or "",
        start=_ordinal(row["date_start"]),
        end=_ordinal(row["date_end"]),
        fields=tuple(row["fields"]),
        priority_class=_CLASS[row["priority"]],
        state=row["status"],
        accepted_at=millis(row["created_at"]) or 0,
        revision=row["revision"],
        body_hash=row["body_hash"],
        labels=row["labels"],
        waiting=row["waiting"],
        progress=row["progress"],
        batch_id=text_of("bat", row["batch_id"]) or None,
        batched_with=tuple(text_of("req", one) for one in row["batched_with"]),
        queue_position=row["queue_position"],
        estimated_wait_s=row["estimated_wait_s"],
        rate_limit=row["rate_limit"],
        attempts=row["attempts"],
        started_at=millis(row["started_at"]),
        completed_at=millis(row["completed_at"]),
        execution_time_ms=params["execution_time_ms"],
        cost=None if row["cost_exact"] is None else str(row["cost_exact"]),
        result=row["result"],
        error=row["error_detail"],
        deadline_at=millis(row["deadline_at"]),
        force=row["force"],
        max_age_s=params["max_age_s"],
        write=params.get("write"),
    )


def _ordinal(day: date | None) -> int:
    return 0 if day is None else day.toordinal()
