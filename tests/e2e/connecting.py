"""Connects accounts as ``connector connectors add`` does, many in one go: a process for each would take a minute."""

from __future__ import annotations

from collections.abc import Mapping

from app.config import Settings
from app.connecting import connecting
from app.domain.model import ConnectorFacts
from tests.e2e.evidence import Account

_ZONES = ("Europe/Berlin", "America/New_York", "UTC", "Australia/Sydney")
FIRST_ACCOUNT = 1_001


async def add(env: Mapping[str, str], first: int, count: int, users: int, orgs: int) -> list[Account]:
    """Adds ``count`` DV360 accounts, numbered after the ``first`` ones. A user's consents may span organisations."""
    async with connecting(Settings.load(env)) as connect:
        return [
            _account(
                await connect(
                    1 + number % orgs,
                    "DV360",
                    str(FIRST_ACCOUNT + number),
                    {"refresh_token": f"1//sandbox-user{number % users}", "subject": f"user{number % users}"},
                    time_zone=_ZONES[number % len(_ZONES)],
                )
            )
            for number in range(first, first + count)
        ]


def _account(facts: ConnectorFacts) -> Account:
    return Account(facts.connector_id, facts.org_id, facts.account_id, facts.time_zone)
