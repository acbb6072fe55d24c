"""The ledger in PostgreSQL: entries and windows through Kafka and the projector, in any order, again at will."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from app.config import Settings
from app.config_sections import Postgres
from app.domain.ledger import WHOLE, Entry, LedgerRecord, Share, WindowCount
from app.storage.postgres.database import Database, StoreUnavailable
from app.storage.postgres.organizations import put_organization
from app.storage.postgres.usage import PostgresUsage, Total
from app.streams import internal, projector, topics
from app.streams.kafka import Broker, transactional
from app.streams.topics import Names
from app.telemetry.metrics import Metrics
from deploy.local import Stack

DAY = 86_400_000
NOON = int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp() * 1000)
CONN = f"conn_{1:032x}"
OTHER = f"conn_{2:032x}"


def postgres(dsn: str) -> Postgres:
    return Settings.load({"CONNECTOR__POSTGRES__DSN": dsn, "CONNECTOR__POSTGRES__COMMAND_TIMEOUT_S": "5"}).postgres


@pytest.fixture
async def db(schema: str) -> AsyncIterator[Database]:
    opened = Database(postgres(schema))
    await opened.run(lambda c: c.execute("TRUNCATE organizations, rate_limits, usage CASCADE"))
    for org_id in (7, 8):
        await put_organization(opened, org_id, f"org {org_id}", "standard")
    yield opened
    await opened.close()


def share(number: int, millionths: int, **labels: str) -> Share:
    return Share(f"req_{number:032x}", labels, millionths)


def entry(number: int, *members: Share, **changes: Any) -> Entry:
    given: dict[str, Any] = {
        "ask_id": f"{number:032x}", "granted_at": NOON + number, "ended_at": NOON + number + 90, "org_id": 7,
        "connector_id": CONN, "connector_type": "DV360", "batch_id": f"bat_{number:032x}", "charge": "reports",
        "buckets": ("per_second|", "per_user|anna"), "priority_class": 2, "outcome": "answered", "members": members,
    }  # fmt: skip
    return Entry(**(given | changes))


def window(bucket: str = "per_user|anna", org_id: int | None = 7, minute: int = 0, **changes: Any) -> WindowCount:
    start = NOON + 60_000 * minute
    given: dict[str, Any] = {"limit": 240, "start": start, "end": start + 60_000, "calls": 5}
    return WindowCount("DV360", bucket, org_id, **(given | changes))


THIRDS = (share(1, 333_400, team="a"), share(2, 333_300, team="b"), share(3, 333_300))
CALLS: Sequence[Entry] = (
    entry(1, *THIRDS),
    entry(2, share(1, WHOLE, team="a"), outcome="failed", priority_class=4),
    entry(3, outcome="unknown", ended_at=None),
    entry(4, share(4, WHOLE, team="a\0"), org_id=8, connector_id=OTHER, granted_at=NOON + DAY),
)
WINDOWS = (window(), window("per_second|", None), window(minute=1, calls=240), window("per_user|bob", None))
RECORDS: Sequence[LedgerRecord] = (*CALLS, *WINDOWS)


async def rows(db: Database) -> tuple[list[Any], list[Any]]:
    """Both tables as they are."""
    usage = await db.run(lambda c: c.fetch("SELECT * FROM usage ORDER BY ask_id, request_id"))
    columns = "connector_type, org_id, endpoint, limit_value, current_count, window_start, window_end"
    counts = await db.run(lambda c: c.fetch(f"SELECT {columns} FROM rate_limits ORDER BY endpoint, window_start"))
    return [tuple(row) for row in usage], [tuple(row) for row in counts]


async def test_a_call_is_written_for_each_request_and_a_window_once(db: Database) -> None:
    await PostgresUsage(db).project(RECORDS)
    usage, counts = await rows(db)
    assert len(usage) == 6
    first = usage[0]
    assert first == (
        f"{1:032x}", uuid.UUID(int=1), 7, uuid.UUID(int=1), "DV360", uuid.UUID(int=1), "reports",
        ["per_second|", "per_user|anna"], 30, {"team": "a"}, Decimal("0.333400"), "answered",
        datetime(2026, 3, 10, 12, 0, 0, 1_000, tzinfo=UTC), datetime(2026, 3, 10, 12, 0, 0, 91_000, tzinfo=UTC),
    )  # fmt: skip
    alone = next(row for row in usage if row[0] == f"{3:032x}")
    assert (alone[1], alone[10], alone[11], alone[13]) == (None, Decimal(1), "unknown", None)
    start, end = datetime(2026, 3, 10, 12, tzinfo=UTC), datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
    assert counts[0] == ("DV360", None, "per_second", 240, 5, start, end)
    assert [(row[1], row[2], row[4]) for row in counts[1:]] == [
        (7, "per_user|anna", 5), (7, "per_user|anna", 240), (None, "per_user|bob", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
async def test_repeats_in_any_order_change_nothing(db: Database, seed: int) -> None:
    log, draw = PostgresUsage(db), random.Random(seed)
    await log.project(RECORDS)
    once = await rows(db)
    await db.run(lambda c: c.execute("TRUNCATE rate_limits, usage"))
    many = [*RECORDS, *RECORDS, *RECORDS]
    draw.shuffle(many)
    cut = draw.randint(0, len(many))
    await asyncio.gather(log.project(many[:cut]), log.project(many[cut:]))
    assert await rows(db) == once
    await log.project(many)
    assert await rows(db) == once


async def test_a_count_that_knew_less_changes_nothing_in_either_order(db: Database) -> None:
    log = PostgresUsage(db)
    await log.project([window(calls=5)])
    await log.project([window(calls=3)])
    assert [row[4] for row in (await rows(db))[1]] == [5]
    await log.project([window(calls=6)])
    assert [row[4] for row in (await rows(db))[1]] == [6]


async def test_many_shares_are_written_in_parts_and_all_of_them(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.postgres.usage._AT_ONCE", 7)
    many = [entry(n, *(share(m, WHOLE // 5) for m in range(5))) for n in range(20)]
    await PostgresUsage(db).project(many)
    assert await db.run(lambda c: c.fetchval("SELECT sum(calls) FROM usage")) == 20


@pytest.mark.parametrize(
    ("org_id", "by", "expected"),
    [
        (None, "organisation", {"7": 3, "8": 1}),
        (7, "organisation", {"7": 3}),
        (None, "connector", {CONN: 3, OTHER: 1}),
        (None, "connector_type", {"DV360": 4}),
        (7, "label", {"a": Decimal("1.3334"), "b": Decimal("0.3333"), None: Decimal("1.3333")}),
        (None, "priority", {"normal": 3, "retry": 1}),
        (None, "day", {"2026-03-10": 3, "2026-03-11": 1}),
    ],
)
async def test_totals_by_each_dimension_add_up(db: Database, org_id: int | None, by: Any, expected: Any) -> None:
    log = PostgresUsage(db)
    await log.project(RECORDS)
    found = await log.totals(org_id, NOON, NOON + 2 * DAY, by, "team")
    assert {one.name: one.calls for one in found} == expected
    assert sum(one.unknown for one in found) == 1
    assert sum(one.calls for one in found) == (4 if org_id is None else 3)


async def test_totals_are_of_a_span_whose_end_is_not_in_it(db: Database) -> None:
    log = PostgresUsage(db)
    await log.project(CALLS)
    found = await log.totals(7, NOON + 2, NOON + 3, "organisation")
    assert found == [Total("7", Decimal(1), Decimal(0))]
    assert await log.totals(9, 0, NOON + 2 * DAY, "organisation") == []


async def test_a_tenant_sees_its_own_usage_alone(db: Database, schema: str) -> None:
    await PostgresUsage(db).project(RECORDS)
    role, connection = "reader_" + schema.rsplit("/", 1)[1], await asyncpg.connect(schema)
    try:
        await connection.execute(f"CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        await connection.execute(f"SET ROLE {role}")
        counts = [f"SELECT count(*) FROM {table}" for table in ("usage", "rate_limits")]
        assert [await connection.fetchval(one) for one in counts] == [0, 0]
        await connection.execute("SET connector.org_id = '7'")
        assert [await connection.fetchval(one) for one in counts] == [5, 2]
        await connection.execute("SET connector.org_id = '8'")
        assert [await connection.fetchval(one) for one in counts] == [1, 0]
    finally:
        await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


async def test_an_index_serves_an_organisations_span(db: Database) -> None:
    await PostgresUsage(db).project([entry(n, share(n, WHOLE), org_id=n % 50) for n in range(2_000)])

    async def plan(connection: Any) -> list[Any]:
        await connection.execute("ANALYZE usage")
        text = "EXPLAIN SELECT sum(calls) FROM usage WHERE org_id = 7 AND granted_at >= now() - interval '9 years'"
        return list(await connection.fetch(text))

    assert any("idx_usage_org" in row[0] for row in await db.run(plan))


# through Kafka


@pytest.fixture
async def names(stack: Stack) -> tuple[Broker, Names]:
    prefix = f"u{uuid.uuid4().hex[:8]}."
    own = {"CONNECTOR__KAFKA__BOOTSTRAP_SERVERS": stack.endpoints.kafka, "CONNECTOR__STREAMS__TOPIC_PREFIX": prefix}
    await topics.apply(Settings.load(own))
    return Broker(stack.endpoints.kafka), Names(prefix)


async def publish(broker: Broker, names: Names, values: Sequence[bytes], *, commit: bool = True) -> None:
    """One transaction, as the planner writes."""
    producer = await transactional(broker, f"t-{uuid.uuid4().hex}")
    try:
        await producer.begin_transaction()
        for number, value in enumerate(values):
            await producer.send_and_wait(names.usage, value, key=b"%d" % (number % 3))
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


class Watched:
    """A log that is away ``away`` times, the second time in the middle of a write; ``done`` once all is written."""

    def __init__(self, log: PostgresUsage, records: int, away: int = 0) -> None:
        self.log, self.left, self.away, self.done = log, records, away, asyncio.Event()

    async def project(self, records: Sequence[LedgerRecord]) -> None:
        if self.away > 0:
            self.away -= 1
            await self.log.project(records[: len(records) // 2] if self.away == 0 else ())
            raise StoreUnavailable("away")
        await self.log.project(records)
        self.left -= len(records)
        if self.left <= 0:
            self.done.set()


def left_out(metrics: Metrics) -> float:
    return float(metrics.unreadable_records_total.labels("usage")._value.get())


async def projected(broker: Broker, names: Names, group: str, log: Watched, unreadable: int = 0) -> Metrics:
    """Runs a projector until all is written and ``unreadable`` records were left out: partitions come in any order."""
    metrics = Metrics()
    sources = {names.usage: projector.usage(log)}
    running = asyncio.create_task(projector.Projector(broker, group, sources, metrics).run())
    try:
        await asyncio.wait_for(log.done.wait(), 40)
        for _ in range(400):
            if left_out(metrics) >= unreadable:
                break
            await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return metrics


async def test_what_is_committed_is_projected_whatever_happens_on_the_way(
    db: Database, names: tuple[Broker, Names]
) -> None:
    broker, known = names
    usage = PostgresUsage(db)
    await usage.project(RECORDS)
    once = await rows(db)
    await db.run(lambda c: c.execute("TRUNCATE rate_limits, usage"))

    values = [internal.dump(one) for one in RECORDS]
    await publish(broker, known, [internal.dump(entry(99, share(9, WHOLE)))], commit=False)
    await publish(broker, known, [*values[::-1], b"{}", b'{"k":"Tick","v":{}}'])
    await publish(broker, known, values[:3])

    metrics = await projected(broker, known, "first", Watched(usage, len(RECORDS) + 3, away=2), unreadable=2)
    assert await rows(db) == once
    assert left_out(metrics) == 2

    # Another group begins at the first record again: a replay.
    await projected(broker, known, "second", Watched(usage, len(RECORDS) + 3))
    assert await rows(db) == once


async def test_one_entry_that_no_column_takes_does_not_hold_up_the_others(
    db: Database, names: tuple[Broker, Names]
) -> None:
    broker, known = names
    bad = replace(entry(5, share(5, WHOLE)), charge="x" * 60)
    await publish(broker, known, [internal.dump(one) for one in [CALLS[0], bad, CALLS[3]]])
    metrics = await projected(broker, known, "third", Watched(PostgresUsage(db), 2), unreadable=1)
    assert [row[0] for row in (await rows(db))[0]] == [CALLS[0].ask_id] * 3 + [CALLS[3].ask_id]
    assert left_out(metrics) == 1
