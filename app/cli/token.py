"""``connector token``: a bearer token for one's own machine."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from app.cli.environment import load_settings, stack_folder
from app.cli.failures import USAGE, CommandFailed
from app.cli.output import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Try it")(token)


def token(
    org: Annotated[int, typer.Option(min=1, help="Organisation the token is for.")],
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
    from app.cli.issuer import SCOPES

    settings = load_settings()
    if settings.production:
        raise CommandFailed("the production profile takes tokens from its identity provider only")
    scopes = tuple(scope or ("fetch", "connectors:read"))
    if unknown := set(scopes) - set(SCOPES):
        raise CommandFailed(f"unknown scope {min(unknown)!r}; scopes are {', '.join(SCOPES)}", code=USAGE)
    text = _issued(settings.auth.issuer, settings.auth.audience, org, scopes, hours)
    if as_json:
        print_json({"token": text, "org_id": org, "scope": " ".join(scopes)})
    else:
        sys.stdout.write(text + "\n")


def _issued(issuer: str | None, audience: str | None, org: int, scopes: tuple[str, ...], hours: float) -> str:
    from api.rest.auth import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
    from app.cli.issuer import DevelopmentIssuer

    signer = DevelopmentIssuer(stack_folder() / "auth", issuer or DEVELOPMENT_ISSUER, audience or DEVELOPMENT_AUDIENCE)
    return signer.token(org, scopes, subject="developer", valid_s=int(hours * 3600), now_s=int(time.time()))
