"""Following one request until it ends: a live line on a terminal, a line for each change along a pipe, JSON lines."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from app.cli.failures import NOT_FOUND, CommandFailed
from app.cli.output import on_terminal, print_json_line, print_line, printable, say
from app.cli.service import Service, Unreachable
from app.domain.lifecycle import TERMINAL
from app.services.explain import failure, reason
from app.services.wording import amount, clock, count, millis, span

Body = Mapping[str, Any]
_QUICK_S, _USUAL_S, _QUICK_FOR_S = 0.3, 1.0, 10.0
_AWAY_FOR_S: Final = 60.0
"""So long a service that does not answer is asked again: a worker may be starting, or its address moving."""
_UNKNOWN_FOR_S: Final = 10.0
"""So long a request that nobody knows may still be on its way between workers."""


class Show(Protocol):
    """What is done with each state."""

    def __call__(self, body: Body) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None: ...


async def follow(asked: Service, request_id: str, show: Show) -> dict[str, Any]:
    """Shows the request's states until it has ended; the last one. Raises ``CommandFailed``."""
    last: dict[str, Any] = {}
    with show:
        async for last in states(asked, request_id):
            show(last)
    return last


async def states(asked: Service, request_id: str) -> AsyncIterator[dict[str, Any]]:
    """The request's status bodies, as often as they are asked for; the last one is of a request that has ended."""
    import asyncio

    began = heard = time.monotonic()
    known = told = False
    while True:
        try:
            body = await asked.get(f"/requests/{request_id}")
        except CommandFailed as error:
            now = time.monotonic()
            if not _passing(error, now - heard, known=known):
                raise
            if not told:
                say(f"{error}; asking again")
                told = True
        else:
            heard, known, told = time.monotonic(), True, False
            yield body
            if body["status"] in TERMINAL:
                return
        await asyncio.sleep(_QUICK_S if time.monotonic() - began < _QUICK_FOR_S else _USUAL_S)


def _passing(error: CommandFailed, for_s: float, *, known: bool) -> bool:
    """Whether it may be over by the next time."""
    if isinstance(error, Unreachable):
        return known and for_s < _AWAY_FOR_S
    return error.code == NOT_FOUND and not known and for_s < _UNKNOWN_FOR_S


def line(body: Body, now_ms: int) -> str:
    """A state in one line: ``queued, place 3, starts in about 45 s: the quota x is used up until ...``."""
    return ": ".join(part for part in (_state(body), why(body, now_ms)) if part)


def _state(body: Body) -> str:
    status = str(body["status"])
    if status in TERMINAL:
        return status
    position, wait_s = body.get("queue_position"), body.get("estimated_wait_seconds")
    parts = (
        f"{status} {body['progress']} %" if body.get("progress") else status,
        f"place {amount(position)}" if position else "",
        f"starts in about {span(wait_s)}" if wait_s else "",
    )
    return ", ".join(part for part in parts if part)


def why(body: Body, now: int) -> str:
    """What it waits for, or how it ended."""
    if body["status"] in TERMINAL:
        return _end(body)
    return reason(body["waiting"], now) if body.get("waiting") else ""


def _end(body: Body) -> str:
    if body["status"] == "failed":
        return failure(body.get("error") or {})
    result = body.get("result") or {}
    if "rows_written" in result:
        return f"{count(result['rows_written'], 'row')} written"
    if "records_fetched" not in result:
        return ""
    files = count(len(result.get("files") or ()), "file")
    return f"{count(result['records_fetched'], 'row')} in {files}"


def changed(body: Body) -> tuple[Any, ...]:
    """What makes a state another one. An estimate that counts down is none, nor is a time that moves by itself."""
    waiting = body.get("waiting") or {}
    moving = body["status"] if body["status"] in TERMINAL else body.get("queue_position")
    return (
        body["status"],
        moving,
        waiting.get("reason"),
        waiting.get("bucket"),
        waiting.get("percent"),
        body.get("progress"),
        body.get("attempts"),
    )


class Changes:
    """A line for each change. ``put`` writes a body."""

    def __init__(self, put: Callable[[Body], None]) -> None:
        self._put = put
        self._last: tuple[Any, ...] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def __call__(self, body: Body) -> None:
        if changed(body) != self._last:
            self._last = changed(body)
            self._put(body)


class LiveLine:
    """Two lines on a terminal that stay where they are, the second one the reason, and go when it is over."""

    def __enter__(self) -> Self:
        from rich.console import Console

        self._status = Console(highlight=False).status("asking")
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()

    def __call__(self, body: Body) -> None:
        from rich.text import Text

        told = [_state(body), why(body, now_ms())]
        self._status.update(Text("\n".join(printable(part) for part in told if part)))


def shown(*, as_json: bool, quiet: bool = False) -> Show:
    """What fits where standard output goes. ``quiet``: nothing at all."""
    if quiet:
        return Changes(lambda _body: None)
    if as_json:
        return Changes(print_json_line)
    return LiveLine() if on_terminal() else Changes(_print)


def _print(body: Body) -> None:
    at = now_ms()
    ended = millis(body.get("completed_at"))
    print_line(f"{clock(ended or at, at)}  {line(body, at)}")


def now_ms() -> int:
    """This machine's now."""
    return time.time_ns() // 1_000_000
