"""Reading and parsing ahead of whoever takes the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TypeVar

B = TypeVar("B")
P = TypeVar("P")


async def parsed_ahead(blocks: AsyncIterator[B], parse: Callable[[B], P]) -> AsyncGenerator[P, None]:
    """Parses block after block in a thread while its taker writes, and meanwhile waits for the next. One result lies
    ready: without it each of the two threads would wait for the other's longest block. Never two parsed at a time: with
    writing there would be three threads at work, which would bring memory and no speed."""
    async with aclosing(_ahead(_ahead(_parsed(_ahead(blocks), parse)))) as results:
        async for result in results:
            yield result


async def _ahead(items: AsyncIterator[B]) -> AsyncGenerator[B, None]:
    """The same items; each is waited for before its taker asks."""
    coming = asyncio.create_task(_next(items))
    try:
        while found := await coming:
            coming = asyncio.create_task(_next(items))
            yield found[0]
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _parsed(blocks: AsyncGenerator[B, None], parse: Callable[[B], P]) -> AsyncGenerator[P, None]:
    # One thread for the whole report: every thread that allocates keeps memory of its own, and whichever of the shared
    # ones is free would each come to hold some.
    thread = ThreadPoolExecutor(1, "parse")
    try:
        async with aclosing(blocks):
            async for block in blocks:
                parsing = asyncio.get_running_loop().run_in_executor(thread, parse, block)
                try:
                    yield await asyncio.shield(parsing)
                finally:
                    await asyncio.wait({parsing})  # also when its taker has stopped
    finally:
        thread.shutdown(wait=False)


async def gathered(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[list[bytes] | None]:
    """The chunks, about ``size`` bytes at a time; then None: that was all. So that cutting them up can be the parsing
    thread's work: while the event loop computes, other threads wait for the interpreter."""
    some: list[bytes] = []
    length = 0
    async for chunk in chunks:
        some.append(chunk)
        length += len(chunk)
        if length >= size:
            yield some
            some, length = [], 0
    yield some
    yield None


async def _next(items: AsyncIterator[B]) -> tuple[B] | tuple[()]:
    """The next item as a tuple of one; an empty one at the end."""
    async for item in items:
        return (item,)
    return ()
