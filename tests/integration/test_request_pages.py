"""Pages of an organisation's requests out of a real PostgreSQL: order, edges, filters, and what serves them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.config import Settings
from app.domain.messages import RequestView
from app.ports import PageKey, Wanted
from app.storage.postgres.database import Database
from app.storage.postgres.queries import statements
from app.storage.postgres.requests import PostgresRequestHistory
from app.storage.postgres.rows import moment, uuid_of

AT = 1_795_000_000_123
MINE, OTHER = "conn_" + "1" * 32, "conn_" + "2" * 32


@pytest.fixture
async def db(schema: str) -> AsyncIterator[Database]:
    names = {"CONNECTOR__POSTGRES__DSN": schema, "CONNECTOR__POSTGRES__COMMAND_TIMEOUT_S": "5"}
    opened = Database(Settings.load(names).postgres)
    await opened.run(lambda c: c.execute("TRUNCATE organizations, connector_requests CASCADE"))
    yield opened
    await opened.close()


@pytest.fixture
def history(db: Database) -> PostgresRequestHistory:
    return PostgresRequestHistory(db)


def view(number: int, **changes: Any) -> RequestView:
    """Request ``number`` of organisation 7, which PostgreSQL does not know."""
    given: dict[str, Any] = {
        "request_id": f"req_{number:032x}", "org_id": 7, "connector_id": MINE, "connector_type": "DV360",
        "report_type": "campaign_performance", "start": 739_000, "end": 739_006, "fields": ("clicks",),
        "priority_class": 2, "state": "queued", "accepted_at": AT, "revision": 1, "body_hash": "ab" * 16,
    }  # fmt: skip
    return RequestView(**(given | changes))


def key(view: RequestView) -> PageKey:
    return view.accepted_at, view.request_id


async def walked(history: PostgresRequestHistory, limit: int, **filters: Any) -> list[RequestView]:
    """All pages, one after the other."""
    found: list[RequestView] = []
    before: PageKey | None = None
    while True:
        page: Sequence[RequestView] = await history.page(Wanted(7, **filters), before, limit)
        found += page
        if len(page) < limit:
            return found
        before = key(page[-1])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_hold_every_request_once_and_newest_first(history: PostgresRequestHistory, limit: int) -> None:
    # A millisecond apart, and several within one: there the id decides, as it does in the text form.
    ids = (5, 0xF0000000000000000000000000000000, 0xA0, 3, 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF, 8, 9)
    views = [view(number, accepted_at=AT + place // 3) for place, number in enumerate(ids)]
    await history.project([*views, view(77, org_id=8)])
    assert await walked(history, limit) == sorted(views, key=key, reverse=True)


async def test_a_page_begins_exactly_to_the_millisecond(history: PostgresRequestHistory) -> None:
    earlier, here, later = (view(number, accepted_at=AT + number) for number in (1, 2, 3))
    await history.project([earlier, here, later])
    assert await history.page(Wanted(7), key(here), 9) == [earlier]
    assert await history.page(Wanted(7), (here.accepted_at + 1, here.request_id), 9) == [here, earlier]
    assert await history.page(Wanted(7), (here.accepted_at, "req_" + "f" * 32), 9) == [here, earlier]
    assert await history.page(Wanted(7), (here.accepted_at, "req_" + "0" * 32), 9) == [earlier]


async def test_filters_choose_alone_and_together(history: PostgresRequestHistory) -> None:
    a, b = view(1, state="failed"), view(2, connector_id=OTHER, state="failed")
    c, d = view(3, connector_id=OTHER), view(4)
    await history.project([a, b, c, d, view(5, org_id=8, connector_id=OTHER, state="failed")])
    assert await walked(history, 2, status="failed") == [b, a]
    assert await walked(history, 2, connector_id=OTHER) == [c, b]
    assert await walked(history, 2, connector_id=OTHER, status="failed") == [b]
    assert await walked(history, 2, status="completed") == []


async def test_an_index_serves_every_page(history: PostgresRequestHistory, db: Database) -> None:
    """In a large table: newest first is read off the index, and nothing is sorted."""
    sample = view(1)
    await history.project([replace(sample, state="failed")])
    many = (
        "INSERT INTO connector_requests (request_type, params, status, created_at)"
        " SELECT 'fetch', jsonb_build_object('org_id', 7 + n % 3, 'connector_id', 'conn_' || n % 50),"
        " CASE n % 20 WHEN 0 THEN 'failed' ELSE 'completed' END, now() - n * interval '1 minute'"
        " FROM generate_series(1, 30000) AS n"
    )
    await db.run(lambda c: c.execute(many))
    await db.run(lambda c: c.execute("ANALYZE connector_requests"))
    first = ("7", moment(AT), uuid_of("req", sample.request_id), 21)
    wanted: dict[str, tuple[str, tuple[Any, ...]]] = {
        "page": ("idx_requests_asker", ()),
        "page_of_status": ("idx_requests_asker_status", ("failed",)),
        "page_of_connector": ("idx_requests_asker_connector", ("conn_7", None)),
    }
    for name, (index, rest) in wanted.items():
        sql, arguments = "EXPLAIN " + statements("requests")[name], (*first, *rest)
        rows = await db.run(lambda c, sql=sql, arguments=arguments: c.fetch(sql, *arguments))  # type: ignore[misc]
        plan = "\n".join(row[0] for row in rows)
        assert f"Index Scan Backward using {index} " in plan, plan
        assert "Sort" not in plan
