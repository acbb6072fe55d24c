"""A deadline for those who wait, whatever the work does about it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LEFT: set[asyncio.Task[Any]] = set()


async def within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns or raises; ``TimeoutError`` after the time (None: never).

    The work is cancelled then, but not waited for: a database client that tells a silent server of the cancellation may
    take as long as the query would have.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            _leave(task)


def _leave(task: asyncio.Task[Any]) -> None:
    _LEFT.add(task)
    task.add_done_callback(_forget)
    task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _LEFT.discard(task)
    if not task.cancelled():
        task.exception()
