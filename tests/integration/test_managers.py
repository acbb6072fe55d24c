"""The account through which another is reached, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from app.config_sections import Postgres
from app.domain.model import ConnectorFacts
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database


@pytest.fixture
async def db(schema: str) -> AsyncIterator[Database]:
    opened = Database(Postgres(dsn=SecretStr(schema)))
    yield opened
    await opened.close()


async def test_the_way_through_a_manager_is_kept_and_replaced(db: Database) -> None:
    connectors = PostgresConnectorStore(db)

    async def put(manager: str | None) -> ConnectorFacts:
        stored = await connectors.add(
            org_id=7, connector_type="GOOGLE_ADS", account_id="1234567890", provider="google", kind="refresh_token",
            subject="ann", fingerprint="m1", seal=lambda _: ("k1", b"new"), manager_id=manager,
        )  # fmt: skip
        return stored[0]

    first = await put("9876543210")
    assert first.manager_id == "9876543210"
    found = [
        await connectors.find(first.connector_id),
        *(await connectors.list_for(7)),
        *(await connectors.all_facts()),
    ]
    assert found == [first] * 3
    await db.run(lambda c: c.execute("""UPDATE connectors SET metadata = metadata || '{"note": 1}'"""))
    assert (await put("9111111111")).manager_id == "9111111111"
    assert (await put(None)).manager_id is None
    assert await db.run(lambda c: c.fetchval("SELECT metadata FROM connectors")) == {"note": 1}
    await db.run(lambda c: c.execute("UPDATE connectors SET metadata = NULL"))
    assert (await connectors.find(first.connector_id)) == replace(first, manager_id=None)
    assert (await put("9876543210")) == first
