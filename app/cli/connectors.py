"""``connector connectors``: accounts at providers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.environment import load_settings
from app.cli.failures import NOT_FOUND, USAGE, CommandFailed
from app.cli.output import AsJson, print_facts, say
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.config import Settings
    from app.domain.model import ConnectorFacts

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Connect accounts at providers and list them.")
LIMIT_BYTES = 64 * 1024


@app.command()
def add(
    org: Annotated[int, typer.Option(min=1, help="Organisation that owns the account.")],
    connector_type: Annotated[str, typer.Option("--type", help="DV360, TTD, META, GOOGLE_ADS, SHEETS or CSV_HTTPS.")],
    account: Annotated[str, typer.Option(help="The account's id at the provider.")],
    credentials: Annotated[
        Path,
        typer.Option(
            help='JSON file: {"refresh_token": "..."}, {"api_key": "..."} or {"login": "...", "password": "..."}.',
            exists=True,
            dir_okay=False,
        ),
    ],
    time_zone: Annotated[str, typer.Option(help="The account's own zone, which its days are in.")] = "UTC",
    currency: Annotated[str | None, typer.Option(help="The account's currency, ISO 4217.")] = None,
    manager: Annotated[
        str | None, typer.Option(help="GOOGLE_ADS: the manager's id, if the account is reached through one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Connect an account with a credential brought from elsewhere; again for the same account replaces it.

    The credential is stored, not tried: the first fetch shows whether the provider takes it.

    Example: connector connectors add --org 1 --type DV360 --account 1001 --credentials grant.json
    """
    given = _read(credentials)
    settings = load_settings()
    own = {"time_zone": time_zone, "currency": currency, "manager_id": manager}
    facts = wait(_add(settings, org, connector_type.upper(), account, given, own))
    print_facts(asdict(facts), as_json=as_json)
    _note_unbuilt(settings, facts.connector_type)


def _note_unbuilt(settings: Settings, connector_type: str) -> None:
    """An account may be connected before its adapter is there: its owner should know what to expect."""
    from app.connectors.registry import connectors_of

    built = connectors_of(settings)
    if connector_type not in built:
        say(f"note:  fetches of {connector_type} are refused until its adapter is built; built: {', '.join(built)}")


def _read(path: Path) -> dict[str, Any]:
    """The credentials file. What is wrong with it is told without a word of its content."""
    raw = path.read_bytes()
    try:
        value = json.loads(raw) if len(raw) <= LIMIT_BYTES else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CommandFailed(f"{path} is not one JSON object of at most 64 kB", advice='{"refresh_token": "..."}')
    return value


async def _add(
    settings: Settings, org: int, connector_type: str, account: str, given: dict[str, Any], facts: dict[str, Any]
) -> ConnectorFacts:
    from app.connecting import connecting
    from app.services.connectors import BadConnector
    from app.storage.postgres.connectors import UnknownOrganization

    try:
        async with connecting(settings) as connect:
            return await connect(org, connector_type, account, given, **facts)
    except BadConnector as error:
        raise CommandFailed("\n".join(f"{f.pointer}: {f.detail}" for f in error.faults), code=USAGE) from None
    except UnknownOrganization as error:
        raise CommandFailed(str(error), code=NOT_FOUND) from None
