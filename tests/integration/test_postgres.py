"""PostgreSQL for real: schema, stores, deadlines, and what is left when it goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from app.config import Settings
from app.config_sections import Postgres
from app.domain.messages import RequestView
from app.domain.model import ConnectorFacts
from app.storage.postgres.connectors import PostgresConnectorStore, UnknownOrganization
from app.storage.postgres.database import Database, StoreUnavailable, to_json
from app.storage.postgres.migrations import FOLDER, migrate, pending
from app.storage.postgres.queries import statements
from app.storage.postgres.requests import PostgresRequestHistory


def settings(dsn: str, **changes: str) -> Postgres:
    names = {f"CONNECTOR__POSTGRES__{name.upper()}": value for name, value in changes.items()}
    return Settings.load({"CONNECTOR__POSTGRES__DSN": dsn, **names}).postgres


@pytest.fixture
async def db(schema: str) -> AsyncIterator[Database]:
    opened = Database(settings(schema, command_timeout_s="5"))
    await opened.run(lambda c: c.execute("TRUNCATE organizations, rate_limits CASCADE"))
    yield opened
    await opened.close()


@pytest.fixture
def connectors(db: Database) -> PostgresConnectorStore:
    return PostgresConnectorStore(db)


async def add(
    store: PostgresConnectorStore, account: str = "a1", *, org: int = 7, mark: str = "m1", subject: str | None = None,
    create: bool = True,
) -> ConnectorFacts:  # fmt: skip
    facts = await store.add(
        org_id=org, connector_type="DV360", account_id=account, provider="google", kind="refresh_token",
        subject=subject, fingerprint=mark, seal=lambda grant_id: ("k1", f"{grant_id}:{mark}".encode()),
        time_zone="Europe/Berlin", currency="EUR", create_organization=create,
    )  # fmt: skip
    return facts[0]


async def test_several_processes_migrate_at_once(database: str) -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.sql"))
    assert await pending(database) == names
    done = await asyncio.gather(*[migrate(database) for _ in range(4)])
    assert sorted(done) == [[], [], [], names]
    assert await pending(database) == []


async def test_the_schema_can_be_taken_back(database: str) -> None:
    await migrate(database)
    connection = await asyncpg.connect(database)
    for file in sorted(FOLDER.glob("*.sql"), reverse=True):
        await connection.execute(file.read_text(encoding="utf-8").split("-- migrate: rollback")[1])
    left = await connection.fetchval(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_pogo%'"
    )
    await connection.close()
    assert left == 0


async def test_a_connector_is_kept_once_per_account(connectors: PostgresConnectorStore, db: Database) -> None:
    first = await add(connectors)
    again = await add(connectors, mark="m2")
    assert first == again
    assert first == await connectors.find(first.connector_id)
    assert (first.org_id, first.status, first.time_zone, first.currency, first.plan) == (
        7,
        "connected",
        "Europe/Berlin",
        "EUR",
        "standard",
    )
    grants = await db.run(lambda c: c.fetch("SELECT generation, ciphertext, subject FROM grants"))
    assert [(row["generation"], row["ciphertext"].endswith(b":m2"), row["subject"]) for row in grants] == [
        (2, True, "m1")
    ]
    credentials = await db.run(lambda c: c.fetchval("SELECT credentials FROM connectors"))
    assert credentials == {"grant_id": first.grant_id}


async def test_adding_at_once_makes_one(connectors: PostgresConnectorStore) -> None:
    # Where the organisation is there already, its making holds nobody up.
    await add(connectors, "other", mark="other")
    found = await asyncio.gather(*[add(connectors, mark=f"m{n % 3}") for n in range(9)])
    assert len({facts.connector_id for facts in found}) == 1
    assert len(await connectors.list_for(7)) == 2


async def test_one_secret_is_one_grant_and_one_user(connectors: PostgresConnectorStore) -> None:
    first, second, other = (
        await add(connectors, "a1"),
        await add(connectors, "a2"),
        await add(connectors, "a3", mark="m2"),
    )
    assert first.grant_id == second.grant_id != other.grant_id
    assert first.subject == second.subject == "m1"
    foreign = await add(connectors, "a1", org=8)
    assert foreign.grant_id != first.grant_id


async def test_a_shared_grant_is_left_alone_by_an_account_that_moves(connectors: PostgresConnectorStore) -> None:
    first, second = await add(connectors, "a1"), await add(connectors, "a2")
    moved = await add(connectors, "a2", mark="m2")
    assert moved.connector_id == second.connector_id
    assert moved.grant_id != first.grant_id
    assert await connectors.find(first.connector_id) == first


async def test_a_named_user_keeps_the_grant_and_revives_its_connectors(connectors: PostgresConnectorStore) -> None:
    first, second = await add(connectors, "a1", subject="ann"), await add(connectors, "a2", subject="ann")
    await connectors.set_status(first.connector_id, "revoked")
    await connectors.set_status(second.connector_id, "paused")
    stored = await connectors.add(
        org_id=7, connector_type="DV360", account_id="a3", provider="google", kind="refresh_token", subject="ann",
        fingerprint="m9", seal=lambda _: ("k1", b"new"),
    )  # fmt: skip
    assert [(facts.account_id, facts.status) for facts in stored] == [
        ("a3", "connected"),
        ("a1", "connected"),
        ("a2", "paused"),
    ]
    assert len({facts.grant_id for facts in stored}) == 1


async def test_a_credential_that_nobody_uses_is_wiped(connectors: PostgresConnectorStore, db: Database) -> None:
    one, two = await add(connectors, "a1"), await add(connectors, "a2")
    assert (await connectors.delete(8, one.connector_id)) is None
    deleted = await connectors.delete(7, one.connector_id)
    assert deleted == replace(one, deleted=True)
    assert await connectors.list_for(7) == [two]
    sizes = "SELECT length(ciphertext) > 0, status FROM grants"
    assert [tuple(row) for row in await db.run(lambda c: c.fetch(sizes))] == [(True, "active")]
    await connectors.delete(7, two.connector_id)
    assert [tuple(row) for row in await db.run(lambda c: c.fetch(sizes))] == [(False, "replaced")]
    assert [facts.deleted for facts in await connectors.all_facts()] == [True, True]
    back = await add(connectors, "a1")
    assert back.connector_id != one.connector_id
    assert [tuple(row) for row in await db.run(lambda c: c.fetch(sizes))] == [(True, "active")]


async def test_an_unknown_organisation_is_made_only_where_allowed(connectors: PostgresConnectorStore) -> None:
    with pytest.raises(UnknownOrganization):
        await add(connectors, create=False)
    await add(connectors)
    assert (await add(connectors, "a2", create=False)).org_id == 7


async def test_a_row_that_is_not_understood_is_a_connector_in_error(
    connectors: PostgresConnectorStore, db: Database
) -> None:
    facts = await add(connectors)
    await db.run(lambda c: c.execute("UPDATE connectors SET status = 'from the future'"))
    assert await connectors.find(facts.connector_id) == replace(facts, status="error")
    with pytest.raises(ValueError, match="no status"):
        await connectors.set_status(facts.connector_id, "from the future")


@pytest.mark.parametrize("text", ["", "conn_1", "req_" + "0" * 32, "conn_" + "0" * 32, "'; DROP TABLE connectors; --"])
async def test_unknown_ids_find_nothing(connectors: PostgresConnectorStore, db: Database, text: str) -> None:
    assert await connectors.find(text) is None
    assert await PostgresRequestHistory(db).find(text) is None


def view(connector: ConnectorFacts, number: int = 1, revision: int = 1) -> RequestView:
    return RequestView(
        request_id=f"req_{number:032x}", org_id=connector.org_id, connector_id=connector.connector_id,
        connector_type="DV360", report_type="campaign_performance", start=739_000, end=739_006,
        fields=("impressions", "clicks"), priority_class=2, state="queued", accepted_at=1_795_000_000_123,
        revision=revision, body_hash="ab" * 16, queue_position=3,
    )  # fmt: skip


def full(connector: ConnectorFacts) -> RequestView:
    return replace(
        view(connector, 2, 9), state="completed", labels={"a": "b\0c", "ü": "😀"},
        waiting={"reason": "quota", "until": 5}, progress=100, batch_id="bat_" + "a" * 32,
        batched_with=("req_" + "1" * 32, "req_" + "2" * 32),
        estimated_wait_s=1.5, rate_limit={"current": 1}, attempts=2, started_at=1_795_000_001_999,
        completed_at=1_795_000_002_001, execution_time_ms=2**40, cost="1234567.333300", result={"rows": [1, 2]},
        error={"class": "quota", "code": "full", "message": "too\0much"}, deadline_at=1_795_000_009_000, force=True,
        max_age_s=2**40,
    )  # fmt: skip


async def test_a_request_comes_back_as_it_was_written(connectors: PostgresConnectorStore, db: Database) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    await history.project([view(connector), full(connector)])
    assert await history.find(view(connector).request_id) == view(connector)
    expected = replace(
        full(connector),
        labels={"a": "b\ufffdc", "ü": "😀"},
        error={"class": "quota", "code": "full", "message": "too\ufffdmuch"},
    )
    assert await history.find(expected.request_id) == expected


async def test_a_write_comes_back_as_it_was_written(connectors: PostgresConnectorStore, db: Database) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    told = {"target": "Leads \u00e4!A1", "mode": "append", "rows": 3, "sent": True}
    written = replace(
        full(connector), report_type="", start=0, end=0, fields=(), labels={}, error=None, write=told,
        result={"target": "Leads \u00e4!A1", "rows_written": 3},
    )  # fmt: skip
    await history.project([written])
    assert await history.find(written.request_id) == written
    row = await db.run(lambda c: c.fetchrow("SELECT * FROM connector_requests"))
    assert row is not None
    assert (row["request_type"], row["report_type"], row["date_start"], row["date_end"]) == ("write", None, None, None)
    assert (row["params"]["write"], row["params"]["connector_id"]) == (told, connector.connector_id)


async def test_the_seeds_columns_hold_what_their_names_say(connectors: PostgresConnectorStore, db: Database) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    await history.project([full(connector)])
    row = await db.run(lambda c: c.fetchrow("SELECT * FROM connector_requests"))
    assert row is not None
    assert (row["status"], row["priority"], row["queue_position"], row["request_type"]) == ("completed", 30, 3, "fetch")
    assert (str(row["cost"]), row["error"], row["execution_time_ms"]) == (
        "999999.9999",
        "full: too\ufffdmuch",
        2**31 - 1,
    )
    assert [str(one) for one in row["batched_with"]] == [
        "11111111-1111-1111-1111-111111111111",
        "22222222-2222-2222-2222-222222222222",
    ]
    assert row["params"]["date_range"] == {"start": row["date_start"].isoformat(), "end": row["date_end"].isoformat()}
    assert row["created_at"].microsecond == 123_000


async def test_older_news_changes_nothing_in_any_order(connectors: PostgresConnectorStore, db: Database) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    old, new = view(connector, 1, 4), replace(view(connector, 1, 5), state="running", progress=50)
    await history.project([new, old, replace(new, revision=3, state="failed")])
    await history.project([old])
    await history.project([replace(new, state="failed")])
    assert await history.find(new.request_id) == new
    await history.project([replace(new, revision=6, state="completed")])
    found = await history.find(new.request_id)
    assert found is not None
    assert found.state == "completed"


async def test_projectors_at_once_do_not_block_each_other(connectors: PostgresConnectorStore, db: Database) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    views = [view(connector, number, revision) for number in range(100) for revision in (1, 2)]
    await asyncio.gather(history.project(views), history.project(views[::-1]), history.project(views[50:]))
    assert await db.run(lambda c: c.fetchval("SELECT count(*) FROM connector_requests WHERE revision = 2")) == 100


async def test_a_request_of_a_connector_that_is_not_here_is_kept(
    connectors: PostgresConnectorStore, db: Database
) -> None:
    history, connector = PostgresRequestHistory(db), await add(connectors)
    stranger = replace(view(connector), connector_id="conn_" + "9" * 32, org_id=99)
    await history.project([stranger, view(connector, 2)])
    assert await history.find(stranger.request_id) == stranger


async def test_a_tenant_sees_its_own_rows_alone(connectors: PostgresConnectorStore, db: Database, schema: str) -> None:
    mine, other = await add(connectors, org=7), await add(connectors, org=8)
    await PostgresRequestHistory(db).project([view(mine, 1), view(other, 2)])
    role = "reader_" + schema.rsplit("/", 1)[1]
    connection = await asyncpg.connect(schema)
    try:
        await connection.execute(f"CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        await connection.execute(f"SET ROLE {role}")
        counts = "SELECT (SELECT count(*) FROM {}) AS n"
        tables = ("organizations", "grants", "connectors", "connector_requests")
        assert [await connection.fetchval(counts.format(table)) for table in tables] == [0, 0, 0, 0]
        await connection.execute("SET connector.org_id = '7'")
        assert [await connection.fetchval(counts.format(table)) for table in tables] == [1, 1, 1, 1]
        assert await connection.fetchval("SELECT org_id FROM connectors") == 7
        await connection.execute("RESET connector.org_id")
        assert await connection.fetchval(counts.format("connectors")) == 0
    finally:
        await connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


async def test_buckets_without_an_organisation_are_unique_too(db: Database) -> None:
    insert = (
        "INSERT INTO rate_limits (connector_type, org_id, endpoint, limit_value, window_start, window_end)"
        " VALUES ('DV360', NULL, NULL, 1, '2026-01-01', '2026-01-02')"
    )
    await db.run(lambda c: c.execute(insert))
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.run(lambda c: c.execute(insert))


async def test_every_connection_may_die_without_anybody_noticing(
    connectors: PostgresConnectorStore, db: Database, schema: str
) -> None:
    facts = await add(connectors)
    await asyncio.gather(*[connectors.find(facts.connector_id) for _ in range(10)])
    killer = await asyncpg.connect(schema)
    await killer.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await killer.close()
    assert await asyncio.gather(*[connectors.find(facts.connector_id) for _ in range(10)]) == [facts] * 10


async def test_a_held_lock_costs_no_more_than_the_deadline(connectors: PostgresConnectorStore, schema: str) -> None:
    facts = await add(connectors)
    holder = await asyncpg.connect(schema)
    impatient = Database(settings(schema, command_timeout_s="300ms", acquire_timeout_s="300ms"))
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE connectors")
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await PostgresConnectorStore(impatient).find(facts.connector_id)
            assert time.monotonic() - began < 2
        assert await PostgresConnectorStore(impatient).find(facts.connector_id) == facts
    finally:
        await holder.close()
        await impatient.close()


async def test_a_full_pool_is_not_waited_for_without_end(schema: str) -> None:
    db = Database(settings(schema, pool_size="1", acquire_timeout_s="200ms"))
    try:
        async with db.connection():
            with pytest.raises(StoreUnavailable):
                await db.check()
        await db.check()
    finally:
        await db.close()


async def test_a_silent_server_costs_no_more_than_the_deadline() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    db = Database(
        settings(f"postgresql://user:canary@127.0.0.1:{port}/x", connect_timeout_s="300ms", acquire_timeout_s="400ms")
    )
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await db.check()
    assert time.monotonic() - began < 3
    assert "canary" not in str(caught.value)
    await db.close()
    server.close()
    await server.wait_closed()


async def test_a_missing_server_is_said_at_once_and_a_start_does_not_need_it() -> None:
    db = Database(settings("postgresql://127.0.0.1:1/x"))
    with pytest.raises(StoreUnavailable):
        await db.check()
    with pytest.raises(ConnectionError):
        await migrate("postgresql://127.0.0.1:1/x", timeout_s=1)
    await db.close()


def test_nul_becomes_the_replacement_character_and_backslashes_stay() -> None:
    assert to_json({"a": "x\0y"}) == '{"a":"x\\ufffdy"}'
    assert to_json({"a": "\\u0000"}) == '{"a":"\\\\u0000"}'
    assert to_json({"a": "\\\0"}) == '{"a":"\\\\\\ufffd"}'


def test_every_statement_has_a_name_and_a_purpose() -> None:
    for file in (FOLDER.parent / "queries").glob("*.sql"):
        text = file.read_text(encoding="utf-8")
        assert len(statements(file.stem)) == text.count("-- name: ") == text.count("-- purpose: ")


def test_a_query_file_without_a_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.storage.postgres import queries

    monkeypatch.setattr(queries, "_FOLDER", tmp_path)
    (tmp_path / "loose.sql").write_text("SELECT 1;\n-- name: a\n-- purpose: b\nSELECT 2;", encoding="utf-8")
    with pytest.raises(ValueError, match="must begin"):
        statements("loose")
    (tmp_path / "twice.sql").write_text("-- name: a\n-- purpose: b\nSELECT 2;\n" * 2, encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        statements("twice")
