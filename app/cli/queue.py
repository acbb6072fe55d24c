"""``connector queue``: who waits, why, for how long, and what is left of the quotas."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.caller import Org
from app.cli.failures import USAGE, CommandFailed
from app.cli.help import ASKS_REST
from app.cli.output import AsJson, on_terminal, print_json, print_lines, table
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.cli.service import Service

COLUMNS = ("request", "place", "type", "report", "priority", "starts in about", "why")
_EVERY_S = 1.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Fetch and follow", epilog=ASKS_REST)(queue)


def queue(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh each second, on a terminal.")] = False,
    org: Org = None,
    as_json: AsJson = False,
) -> None:
    """Show the queue and what is left of the quotas.

    Places count within a connector type; of other organisations only the number of their requests is told.

    Example: connector queue --watch
    """
    if watch and (as_json or not on_terminal()):
        raise CommandFailed("--watch needs a terminal", advice="connector queue --json", code=USAGE)
    if watch:
        wait(_watch(org))
        return
    body = wait(_once(org))
    if as_json:
        print_json(body)
        return
    from app.cli.following import now_ms

    rows = [row(one, now_ms()) for one in body["requests"]]
    if rows:
        table(rows, COLUMNS)
    print_lines([*([""] if rows else []), *summary(body, now_ms())])


async def _once(org: int | None) -> dict[str, Any]:
    from app.cli.service import service

    async with service(org) as asked:
        return await asked.get("/queue")


async def _watch(org: int | None) -> None:
    import asyncio

    from rich.live import Live

    from app.cli.service import service

    async with service(org) as asked:
        with Live(await _screen(asked), auto_refresh=False, screen=False) as live:
            while True:
                await asyncio.sleep(_EVERY_S)
                live.update(await _screen(asked), refresh=True)


async def _screen(asked: Service) -> Any:
    from rich.text import Text

    from app.cli.following import now_ms
    from app.cli.output import layout, printable

    body, now = await asked.get("/queue"), now_ms()
    rows = [row(one, now) for one in body["requests"]]
    head, *lines = layout(rows, COLUMNS, shutil.get_terminal_size().columns)
    rest = [*lines, *([""] if rows else []), *map(printable, summary(body, now))]
    return Text("\n").join([*([Text(head, style="bold")] if head and rows else []), *map(Text, rest)])


def row(one: Mapping[str, Any], now: int) -> dict[str, Any]:
    """One own request as a row of the table."""
    from app.services.explain import reason
    from app.services.wording import span

    place, wait_s = one.get("queue_position"), one.get("estimated_wait_seconds")
    waiting = one.get("waiting")
    why = reason(waiting, now) if waiting else "its turn"
    what = one["report_type"] or f"write to {one.get('target')}"
    told = (one["request_id"], place, one["connector_type"], what, one["priority"])
    return dict(zip(COLUMNS, (*told, None if wait_s is None else span(wait_s), why), strict=True))


def summary(body: Mapping[str, Any], now: int) -> Iterator[str]:
    """How many wait, what is left of the quotas, and which planners did not tell."""
    from app.services.wording import millis, moment, quota_left

    yield from _waiting(body["queue_status"])
    for name, limit in sorted(body["rate_limits"].items()):
        reset = millis(limit.get("reset_at"))
        free = "" if reset is None or reset <= now else f", all free again at {moment(reset, now)}"
        yield f"{name}: {quota_left(limit)} left{free}"
    yield from quiet_parts(body, now)


def _waiting(status: Mapping[str, Any]) -> Iterator[str]:
    from app.services.wording import count, span

    mine, others = status["your_requests"], status["total_queued"] - status["your_requests"]
    of_others = f", and {count(others, 'request')} of others" if others else ""
    if mine:
        last = f"the last should start in about {span(status['estimated_wait_seconds'])}"
        yield f"{count(mine, 'request')} of yours queued{of_others}; {last}"
    else:
        yield f"none of your requests is queued{of_others}"


def quiet_parts(body: Mapping[str, Any], now: int) -> Iterator[str]:
    """A line for each connector type whose planner did not answer."""
    from app.services.wording import millis, moment

    for name, part in sorted((body.get("parts") or {}).items()):
        if not part["live"]:
            as_of = millis(part.get("as_of"))
            known = "and nothing is known of it here" if as_of is None else f"as of {moment(as_of, now)}"
            yield f"{name}: its planner does not answer just now, {known}"
