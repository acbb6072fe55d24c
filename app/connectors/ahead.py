"""Parsing in a thread, one block ahead of whoever takes the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

B = TypeVar("B")
P = TypeVar("P")


async def parsed_ahead(blocks: AsyncIterator[B], parse: Callable[[B], P]) -> AsyncGenerator[P, None]:
    """Parses a block while its taker writes the one before. Never two at a time: writing is the slower half, so that
    a second one would bring memory and no speed."""
    ahead: asyncio.Task[P] | None = None
    try:
        async for block in blocks:
            done = [] if ahead is None else [await ahead]
            ahead = asyncio.create_task(asyncio.to_thread(parse, block))
            for result in done:
                yield result
        if ahead is not None:
            yield await ahead
    finally:
        if ahead is not None:
            await asyncio.gather(ahead, return_exceptions=True)
