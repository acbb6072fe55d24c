"""Connecting accounts from outside a worker: PostgreSQL, vault and the topic that workers follow, wired for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.config import Settings
from app.domain.model import ConnectorFacts
from app.oauth.vault import Vault
from app.services.connectors import add_connector
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.streams.connector_news import row
from app.streams.kafka import Publisher, broker_of
from app.streams.topics import Names

Connect = Callable[..., Awaitable[ConnectorFacts]]
"""``add_connector`` without its stores: (org_id, connector_type, account_id, credentials, **facts)."""


@asynccontextmanager
async def connecting(settings: Settings) -> AsyncIterator[Connect]:
    """Gives ``connect``. The broker comes first: what cannot be told to the workers is not stored."""
    names, publisher, database = (
        Names(settings.streams.topic_prefix), Publisher(broker_of(settings)), Database(settings.postgres),
    )  # fmt: skip
    store, vault = PostgresConnectorStore(database), Vault(settings.vault.ring())

    async def publish(facts: ConnectorFacts) -> None:
        await publisher.send([row(names, facts)], timeout_s=10.0)

    async def connect(
        org_id: int, connector_type: str, account_id: str, credentials: Mapping[str, Any], **facts: Any
    ) -> ConnectorFacts:
        create = settings.auth.create_organizations
        return await add_connector(
            org_id, connector_type, account_id, credentials,
            stores=store, vault=vault, publish=publish, create_organization=create, **facts,
        )  # fmt: skip

    try:
        await publisher.start()
        yield connect
    finally:
        await publisher.stop()
        await database.close()
