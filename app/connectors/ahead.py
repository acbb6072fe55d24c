"""Reading and parsing ahead of whoever takes the result: one block is read and one parsed while he takes one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

B = TypeVar("B")
P = TypeVar("P")


async def parsed_ahead(blocks: AsyncIterator[B], parse: Callable[[B], P]) -> AsyncGenerator[P, None]:
    """Parses a block in a thread while its taker writes the one before, and meanwhile waits for the next. Never two
    parsed at a time: with writing there would be three threads at work, which would bring memory and no speed."""
    # One thread for the whole report: every thread that allocates keeps memory of its own, and whichever of the shared
    # ones is free would each come to hold some.
    thread = ThreadPoolExecutor(1, "parse")
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(_next(blocks))
    parsing: asyncio.Future[P] | None = None
    try:
        while block := await reading:  # a tuple of one
            done = [] if parsing is None else [await parsing]
            parsing = loop.run_in_executor(thread, parse, *block)
            reading = asyncio.create_task(_next(blocks))
            for result in done:
                yield result
        if parsing is not None:
            yield await parsing
    finally:
        reading.cancel()
        await asyncio.gather(reading, *([] if parsing is None else [parsing]), return_exceptions=True)
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


async def _next(blocks: AsyncIterator[B]) -> tuple[B] | tuple[()]:
    async for block in blocks:
        return (block,)
    return ()
