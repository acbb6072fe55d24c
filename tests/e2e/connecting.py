"""Connects accounts as ``connector connectors add`` does, many in one go: a process for each would take a minute."""

from __future__ import annotations

from collections.abc import Mapping

from app.config import Settings
from app.domain.model import ConnectorFacts
from app.oauth.vault import Vault
from app.services.connectors import add_connector
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.streams import internal, kafka
from app.streams.kafka import Publisher, Record
from app.streams.topics import Names
from tests.e2e.evidence import Account

_ZONES = ("Europe/Berlin", "America/New_York", "UTC", "Australia/Sydney")
FIRST_ACCOUNT = 1_001


async def add(env: Mapping[str, str], first: int, count: int, users: int, orgs: int) -> list[Account]:
    """Adds ``count`` DV360 accounts, numbered after the ``first`` ones. A user's consents may span organisations."""
    settings = Settings.load(env)
    database = Database(settings.postgres)
    publisher = Publisher(kafka.broker_of(settings))
    topic = Names(settings.streams.topic_prefix).connectors
    store, vault = PostgresConnectorStore(database), Vault(settings.vault.ring())

    async def publish(facts: ConnectorFacts) -> None:
        value = internal.dump_row(facts)
        await publisher.send([Record(topic, value, facts.connector_id.encode())])

    await publisher.start()
    try:
        return [
            _account(
                await add_connector(
                    1 + number % orgs,
                    "DV360",
                    str(FIRST_ACCOUNT + number),
                    {"refresh_token": f"1//sandbox-user{number % users}", "subject": f"user{number % users}"},
                    time_zone=_ZONES[number % len(_ZONES)],
                    stores=store,
                    vault=vault,
                    publish=publish,
                )
            )
            for number in range(first, first + count)
        ]
    finally:
        await publisher.stop()
        await database.close()


def _account(facts: ConnectorFacts) -> Account:
    return Account(facts.connector_id, facts.org_id, facts.account_id, facts.time_zone)
