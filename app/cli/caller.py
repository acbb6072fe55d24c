"""Who asks the service: the token that is sent, and the organisation it is for. Its text is never shown."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.environment import stack_folder
from app.cli.failures import FAILED, NOT_READY, USAGE, CommandFailed

if TYPE_CHECKING:
    from app.config import Settings

TOKEN = "CONNECTOR_TOKEN"  # noqa: S105 - the variable's name
READ_AND_FETCH = ("fetch", "connectors:read")
WHAT_IS_TYPED = (*READ_AND_FETCH, "connectors:write")
"""Scopes of who types commands on a local stack."""
_TEXT = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_VALID_S = 3_600

Org = Annotated[
    int | None,
    typer.Option(
        "--org",
        envvar="CONNECTOR_ORG",
        min=1,
        help="Organisation that is asked for; otherwise the one of CONNECTOR_TOKEN, without it 1.",
        show_default=False,
    ),
]


class NoToken(CommandFailed):
    """There is no token to ask with, and nobody here who could issue one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """``given``: the token came from CONNECTOR_TOKEN. ``org_id`` None: the token does not tell."""

    token: str = field(repr=False)
    org_id: int | None
    given: bool


def given_caller(org: int | None) -> Caller | None:
    """The caller that CONNECTOR_TOKEN makes, None without it. Raises ``CommandFailed``."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        return None
    if not _TEXT.fullmatch(token):
        raise CommandFailed(f"{TOKEN} is no token: it holds spaces or other characters", code=USAGE)
    own = organization_in(token)
    if org is not None and own is not None and org != own:
        raise CommandFailed(
            f"{TOKEN} is for organisation {own}, and organisation {org} is asked for",
            advice=f"unset {TOKEN}, or leave out --org",
            code=USAGE,
        )
    return Caller(token, own or org, given=True)


def local_caller(settings: Settings, org: int | None) -> Caller:
    """A caller by the local stack's own issuer. Raises ``NoToken``."""
    if settings.production:
        raise NoToken(f"there is no token: {TOKEN} is not set", advice=f"export {TOKEN}=...", code=USAGE)
    return Caller(issued(settings, org or 1, WHAT_IS_TYPED, _VALID_S), org or 1, given=False)


def issued(settings: Settings, org: int, scopes: tuple[str, ...], valid_s: int) -> str:
    """A token of the local stack's issuer. Raises ``CommandFailed`` in production, ``NoToken`` without a stack."""
    if settings.production:
        raise CommandFailed("the production profile takes tokens from its identity provider only", code=FAILED)
    from api.rest.auth import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
    from app.cli.issuer import DevelopmentIssuer

    folder = stack_folder()
    auth = settings.auth
    issuer = DevelopmentIssuer(
        folder / "auth", auth.issuer or DEVELOPMENT_ISSUER, auth.audience or DEVELOPMENT_AUDIENCE
    )
    if not issuer.key_file.exists():
        raise NoToken(
            f"there is no local stack in {folder} that could issue a token, and {TOKEN} is not set",
            advice=f"connector up, or export {TOKEN}=...",
            code=NOT_READY,
        )
    return issuer.token(org, scopes, subject="developer", valid_s=valid_s, now_s=int(time.time()))


def organization_in(token: str) -> int | None:
    """The organisation that a token claims, not verified: the service does that."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    org_id = claims.get("org_id") if isinstance(claims, dict) else None
    return org_id if isinstance(org_id, int) and not isinstance(org_id, bool) and org_id > 0 else None
