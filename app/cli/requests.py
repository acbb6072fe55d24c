"""``connector status``: one request, as PostgreSQL has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.environment import load_settings
from app.cli.failures import NOT_FOUND, USAGE, CommandFailed
from app.cli.output import AsJson, print_facts
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.config import Settings
    from app.domain.messages import RequestView


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Look and change")(status)


def status(
    request: Annotated[str, typer.Argument(help="Request id: req_ and 32 hex digits, or a UUID.")],
    as_json: AsJson = False,
) -> None:
    """Print what became of a request.

    Exit code 4 when there is none.

    Example: connector status req_01999999999979998999999999999999 --json
    """
    from app.domain.identity import normalise
    from app.services.status import status_body

    request_id = normalise("req", request.lower())
    if request_id is None:
        raise CommandFailed("a request id is req_ and 32 hex digits, or a UUID", code=USAGE)
    view = wait(_find(load_settings(), request_id))
    if view is None:
        raise CommandFailed(f"there is no request {request_id}", advice="check the id", code=NOT_FOUND)
    print_facts(status_body(view), as_json=as_json)


async def _find(settings: Settings, request_id: str) -> RequestView | None:
    from app.cli.database import database
    from app.storage.postgres.requests import PostgresRequestHistory

    async with database(settings) as opened:
        return await PostgresRequestHistory(opened).find(request_id)
