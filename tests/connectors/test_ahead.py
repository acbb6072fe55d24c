"""Parsing one block ahead: in order, one at a time, and ended when its taker stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from app.connectors.ahead import parsed_ahead


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class Parser:
    """Doubles, and counts how many blocks are being parsed at once."""

    def __init__(self, fails_at: int = -1, held: threading.Event | None = None) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self._fails_at, self._held = fails_at, held

    def __call__(self, block: int) -> int:
        assert len(self.begun) == len(self.ended), "two at a time"
        self.begun.append(block)
        if self._held is not None and block:
            self._held.wait(5)
        self.ended.append(block)
        if block == self._fails_at:
            raise ValueError(block)
        return 2 * block


@pytest.mark.parametrize("count", [0, 1, 2, 7])
async def test_results_come_in_order(count: int) -> None:
    parser = Parser()
    assert [result async for result in parsed_ahead(numbers(count), parser)] == [2 * n for n in range(count)]
    assert parser.ended == list(range(count))


async def test_the_next_block_is_parsed_while_a_result_is_taken() -> None:
    held = threading.Event()
    parser = Parser(held=held)
    async with aclosing(parsed_ahead(numbers(3), parser)) as parsed:
        assert await anext(parsed) == 0
        held.set()
        assert [result async for result in parsed] == [2, 4]


async def test_a_block_that_cannot_be_parsed_ends_it() -> None:
    parsed = parsed_ahead(numbers(9), Parser(fails_at=1))
    assert await anext(parsed) == 0
    with pytest.raises(ValueError, match="1"):
        await anext(parsed)


@pytest.mark.parametrize("fails_at", [-1, 1])
async def test_no_parsing_goes_on_when_its_taker_has_stopped(fails_at: int) -> None:
    held = threading.Event()
    parser = Parser(fails_at, held)
    async with aclosing(parsed_ahead(numbers(9), parser)) as parsed:
        assert await anext(parsed) == 0
        threading.Timer(0.2, held.set).start()
    assert parser.begun == parser.ended == [0, 1]


async def test_the_next_block_is_read_while_a_result_is_taken() -> None:
    read = asyncio.Event()

    async def blocks() -> AsyncIterator[int]:
        yield 0
        yield 1
        read.set()
        yield 2

    async with aclosing(parsed_ahead(blocks(), Parser())) as parsed:
        assert await anext(parsed) == 0
        await asyncio.wait_for(read.wait(), 5)
        assert [result async for result in parsed] == [2, 4]


async def test_reading_ends_when_its_taker_has_stopped() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def blocks() -> AsyncIterator[int]:
        yield 0
        yield 1
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with aclosing(parsed_ahead(blocks(), Parser())) as parsed:
        assert await anext(parsed) == 0
        await asyncio.wait_for(begun.wait(), 5)
    assert ended.is_set()


async def test_what_reading_raises_is_raised_in_its_turn() -> None:
    async def blocks() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise KeyError("cut short")

    parsed = parsed_ahead(blocks(), Parser())
    assert [await anext(parsed), await anext(parsed)] == [0, 2]
    with pytest.raises(KeyError, match="cut short"):
        await anext(parsed)


async def test_all_blocks_are_parsed_in_one_thread_that_ends() -> None:
    seen: list[threading.Thread] = []
    assert [_ async for _ in parsed_ahead(numbers(5), lambda _: seen.append(threading.current_thread()))] == [None] * 5
    assert len(set(seen)) == 1
    seen[0].join(5)
    assert not seen[0].is_alive()


async def test_no_more_than_two_results_lie_ready() -> None:
    parser = Parser()
    async with aclosing(parsed_ahead(numbers(9), parser)) as parsed:
        for taken in range(1, 5):
            assert await anext(parsed) == 2 * (taken - 1)
            await asyncio.sleep(0.05)
            assert len(parser.begun) == taken + 2
