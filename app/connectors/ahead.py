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
        while block := await reading:
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


async def _next(blocks: AsyncIterator[B]) -> tuple[B] | tuple[()]:
    async for block in blocks:
        return (block,)
    return ()
