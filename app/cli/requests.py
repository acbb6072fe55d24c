"""Commands about one request: ``status``, ``watch``, ``explain``, ``cancel``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.caller import NoToken, Org
from app.cli.environment import load_settings
from app.cli.failures import FAILED, NOT_FOUND, USAGE, CommandFailed
from app.cli.help import ASKS_REST
from app.cli.output import AsJson, on_terminal, print_json, print_lines, say
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.cli.service import Service
    from app.config import Settings
    from app.domain.messages import RequestView

_PANEL = "Fetch and follow"
_ID = "Request id: req_ and 32 hex digits, or a UUID."
Request = Annotated[str, typer.Argument(help=_ID)]
MaybeRequest = Annotated[
    str | None, typer.Argument(help=_ID + " Without it the organisation's newest.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (status, watch, explain, cancel):
        app.command(rich_help_panel=_PANEL, epilog=ASKS_REST)(command)


def status(request: MaybeRequest = None, org: Org = None, as_json: AsJson = False) -> None:
    """Print what became of a request.

    Where the service does not answer, PostgreSQL's history is read for a request that is named. Exit code 4 when there
    is none.

    Example: connector status req_01999999999979998999999999999999 --json
    """
    from app.cli.following import now_ms
    from app.cli.words import lines

    body = wait(_status(request, org))
    if as_json:
        print_json(body)
    else:
        print_lines(lines(body, now_ms()))


def watch(request: MaybeRequest = None, org: Org = None, as_json: AsJson = False) -> None:
    """Follow a request until it ends.

    One live line on a terminal, a line for each change along a pipe; with --json one JSON object for each change. Exit
    code 0 when it is completed, 1 when it failed or was cancelled, 130 after Ctrl-C.

    Example: connector watch req_01999999999979998999999999999999
    """
    from app.cli.following import follow, shown

    async def work(asked: Service, request_id: str) -> dict[str, Any]:
        return await follow(asked, request_id, shown(as_json=as_json))

    tell_end(wait(_about(request, org, work)), as_json=as_json)


def explain(request: MaybeRequest = None, org: Org = None, as_json: AsJson = False) -> None:
    """Tell a request's story in sentences.

    Who asked for what, with whom it shares its calls, why it waits and until when, and what came of it. With --json a
    list of {"text", "at"}.

    Example: connector explain req_01999999999979998999999999999999
    """
    from app.cli.following import now_ms
    from app.services.explain import story

    body, org_id = wait(_body_and_org(request, org))
    told = story(body, now_ms(), org_id=org_id)
    if as_json:
        print_json([asdict(sentence) for sentence in told])
    else:
        print_lines(sentence.text for sentence in told)


def cancel(request: Request, org: Org = None, as_json: AsJson = False) -> None:
    """Cancel a request that has not ended.

    Others that share its fetch keep it. Exit code 1 when it has completed or failed before, or is a write whose call
    may have left, 4 when there is none.

    Example: connector cancel req_01999999999979998999999999999999
    """

    async def work(asked: Service, request_id: str) -> dict[str, Any]:
        return await asked.delete(f"/requests/{request_id}")

    body = wait(_about(request, org, work))
    if as_json:
        print_json(body)
    elif body["status"] == "cancelled":
        print_lines([f"{body['request_id']} is cancelled"])
    else:
        print_lines([f"{body['request_id']} is {body['status']}: the cancel is on its way, and nothing decided yet"])
        say(f"next:  connector watch {body['request_id']}")


def tell_end(body: dict[str, Any], *, as_json: bool) -> None:
    """The end of a followed request: its rows and files, or a failure. Raises ``CommandFailed``."""
    from app.cli.following import line, now_ms
    from app.cli.words import file_line
    from app.services.explain import failure

    if body["status"] == "completed":
        if not as_json:
            # Along a pipe the last change has said so already.
            head = [f"{body['request_id']} {line(body, now_ms())}"] if on_terminal() else []
            print_lines([*head, *map(file_line, (body.get("result") or {}).get("files") or ())])
        return
    how = "was cancelled" if body["status"] == "cancelled" else f"failed: {failure(body.get('error') or {})}"
    advice = f"connector explain {body['request_id']}"
    raise CommandFailed(f"{body['request_id']} {how}", advice=advice, code=FAILED)


def checked_id(request: str) -> str:
    """The id in its one form. Raises ``CommandFailed``."""
    from app.domain.identity import normalise

    request_id = normalise("req", request.strip().lower())
    if request_id is None:
        raise CommandFailed("a request id is req_ and 32 hex digits, or a UUID", code=USAGE)
    return request_id


async def _about(
    request: str | None, org: int | None, work: Callable[[Service, str], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    from app.cli.service import service

    request_id = None if request is None else checked_id(request)
    async with service(org) as asked:
        return await work(asked, request_id or await _newest(asked))


async def _newest(asked: Service) -> str:
    found = (await asked.get("/requests", limit="1"))["requests"]
    if not found:
        raise CommandFailed(
            f"organisation {asked.caller.org_id} has no requests yet", advice="connector fetch --help", code=NOT_FOUND
        )
    return str(found[0]["request_id"])


async def _body_and_org(request: str | None, org: int | None) -> tuple[dict[str, Any], int | None]:
    asking: list[int | None] = []

    async def work(asked: Service, request_id: str) -> dict[str, Any]:
        asking.append(asked.caller.org_id)
        return await asked.get(f"/requests/{request_id}")

    return await _about(request, org, work), asking[0]


async def _status(request: str | None, org: int | None) -> dict[str, Any]:
    from app.cli.service import Unreachable

    try:
        body, _ = await _body_and_org(request, org)
    except (NoToken, Unreachable) as error:
        if request is None:
            raise
        return await _history(checked_id(request), error)
    return body


async def _history(request_id: str, why: CommandFailed) -> dict[str, Any]:
    """The request as PostgreSQL has it. Raises ``CommandFailed``; when PostgreSQL does not answer either, ``why``."""
    from app.services.status import status_body

    try:
        view = await _find(load_settings(), request_id)
    except OSError:
        raise why from None
    if view is None:
        raise CommandFailed(
            f"there is no request {request_id} in the history, and the service does not answer",
            advice=why.advice or "check the id",
            code=NOT_FOUND,
        )
    beside = "the service does not answer" if not isinstance(why, NoToken) else str(why)
    say(f"as of the history; {beside}")
    return status_body(view)


async def _find(settings: Settings, request_id: str) -> RequestView | None:
    from app.cli.database import database
    from app.storage.postgres.requests import PostgresRequestHistory

    async with database(settings) as opened:
        return await PostgresRequestHistory(opened).find(request_id)
