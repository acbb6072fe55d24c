"""``connector connectors list``: an organisation's accounts, how their calls go, and what is left of their quotas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from app.cli.caller import NoToken, Org, given_caller
from app.cli.environment import load_settings
from app.cli.failures import CommandFailed
from app.cli.help import ASKS_REST
from app.cli.output import AsJson, print_rows, say
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.config import Settings
    from app.domain.model import ConnectorFacts

COLUMNS = ("connector", "type", "account", "status", "health", "quota left", "time zone", "currency")
Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Adds the command to the group ``connectors``."""
    app.command("list", epilog=ASKS_REST)(list_)


def list_(org: Org = None, as_json: AsJson = False) -> None:
    """List an organisation's connectors.

    With their health over the last 15 minutes of calls, and the bucket with the least left share. Where the service
    does not answer, PostgreSQL is read instead, which knows neither.

    Example: connector connectors list --org 1 --json
    """
    rows = wait(_rows(org))
    if as_json:
        print_rows(rows, (), as_json=True, empty="")
        return
    empty = f"organisation {_organization(org)} has no connectors; next: connector connectors add --help"
    print_rows([_shown(row) for row in rows], COLUMNS, as_json=False, empty=empty)


def _organization(org: int | None) -> int:
    caller = given_caller(org)
    return (caller.org_id if caller is not None else None) or org or 1


async def _rows(org: int | None) -> list[Row]:
    from app.cli.following import now_ms
    from app.cli.queue import quiet_parts
    from app.cli.service import Unreachable, service

    try:
        async with service(org) as asked:
            body = await asked.get()
    except (NoToken, Unreachable) as error:
        return await _stored(_organization(org), error)
    for line in quiet_parts(body, now_ms()):
        say(line)
    return [_row(one) for one in body["connectors"]]


async def _stored(org: int, why: CommandFailed) -> list[Row]:
    """The connectors as PostgreSQL has them. Raises ``why`` when it does not answer either."""
    try:
        found = await _list(load_settings(), org)
    except OSError:
        raise why from None
    say("as stored; " + (str(why) if isinstance(why, NoToken) else "the service does not answer"))
    return [_row({**_facts(facts), "health": None, "rate_limit": None}) for facts in found]


def _facts(facts: ConnectorFacts) -> Row:
    return {
        "id": facts.connector_id,
        "type": facts.connector_type,
        "account_id": facts.account_id,
        "status": facts.status,
        "time_zone": facts.time_zone,
        "currency": facts.currency,
    }


def _row(one: Mapping[str, Any]) -> Row:
    """One connector under the names of commands and events, the same from both sources."""
    rest = {name: value for name, value in one.items() if name not in ("id", "type")}
    return {"connector_id": one["id"], "connector_type": one["type"], **rest}


def _shown(row: Row) -> Row:
    from app.services.wording import count, quota_left

    health, limit = row.get("health") or {}, row.get("rate_limit")
    calls = f", {count(health['calls'], 'call')}" if health.get("calls") else ""
    told = (
        row["connector_id"],
        row["connector_type"],
        row["account_id"],
        row["status"],
        f"{health['status']}{calls}" if health else None,
        quota_left(limit) if limit else None,
        row["time_zone"],
        row["currency"],
    )
    return dict(zip(COLUMNS, told, strict=True))


async def _list(settings: Settings, org: int) -> Sequence[ConnectorFacts]:
    from app.cli.database import database
    from app.storage.postgres.connectors import PostgresConnectorStore

    async with database(settings) as opened:
        return await PostgresConnectorStore(opened).list_for(org)
