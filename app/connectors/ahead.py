"""Reading and parsing ahead of whoever takes the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

B = TypeVar("B")
P = TypeVar("P")


async def parsed_ahead(blocks: AsyncIterator[B], parse: Callable[[B], P]) -> AsyncGenerator[P, None]:
    """Parses block after block in a thread while its taker writes, and meanwhile waits for the next. Up to two results
    lie ready: without them each of the two threads would wait for the other's longest block. Never two parsed at a
    time: with writing there would be three threads at work, which would bring memory and no speed."""
    ready: asyncio.Queue[tuple[P] | tuple[()]] = asyncio.Queue()
    room = asyncio.Semaphore(2)
    making = asyncio.create_task(_make(blocks, parse, ready, room))
    making.add_done_callback(lambda _: ready.put_nowait(()))
    try:
        while found := await ready.get():
            room.release()
            yield found[0]
        await making  # raises what ended it
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


async def _make(
    blocks: AsyncIterator[B],
    parse: Callable[[B], P],
    ready: asyncio.Queue[tuple[P] | tuple[()]],
    room: asyncio.Semaphore,
) -> None:
    # One thread for the whole report: every thread that allocates keeps memory of its own, and whichever of the shared
    # ones is free would each come to hold some.
    thread = ThreadPoolExecutor(1, "parse")
    reading = asyncio.create_task(_next(blocks))
    parsing: asyncio.Future[P] | None = None
    try:
        while block := await reading:
            reading = asyncio.create_task(_next(blocks))
            await room.acquire()
            parsing = asyncio.get_running_loop().run_in_executor(thread, parse, *block)
            ready.put_nowait((await asyncio.shield(parsing),))
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


async def _next(items: AsyncIterator[B]) -> tuple[B] | tuple[()]:
    """The next item as a tuple of one; an empty one at the end."""
    async for item in items:
        return (item,)
    return ()
