"""``connector token``: a bearer token for one's own machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli.environment import load_settings
from app.cli.failures import USAGE, CommandFailed
from app.cli.output import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Try it")(token)


def token(
    org: Annotated[int, typer.Option(min=1, envvar="CONNECTOR_ORG", help="Organisation the token is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="Scope, may be repeated: fetch, connectors:read, connectors:write, admin.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=24, help="How long it is valid.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Print a bearer token for the local stack.

    It is signed by the stack's own issuer, so it is not for production.

    Example: curl -H "Authorization: Bearer $(connector token --org 1)" ...
    """
    from app.cli.caller import READ_AND_FETCH, issued
    from app.cli.issuer import SCOPES

    scopes = tuple(scope or READ_AND_FETCH)
    if unknown := set(scopes) - set(SCOPES):
        raise CommandFailed(f"unknown scope {min(unknown)!r}; scopes are {', '.join(SCOPES)}", code=USAGE)
    text = issued(load_settings(), org, scopes, int(hours * 3600))
    if as_json:
        print_json({"token": text, "org_id": org, "scope": " ".join(scopes)})
    else:
        sys.stdout.write(text + "\n")
