"""From the pieces of a searchStream answer to record batches, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from app.connectors.ahead import parsed_ahead
from app.connectors.google_ads.cutter import Cutter, results, unreadable
from app.domain.messages import Offer
from app.domain.model import Field

BLOCK = 2 * 1024 * 1024
"""Bytes of elements that are parsed together. A batch of the provider has more, so as a rule that is one, of 10,000
rows: as objects 20 MB."""


async def batches(chunks: AsyncIterator[bytes], offer: Offer, fields: Sequence[Field]) -> AsyncGenerator[Any, None]:
    """Arrow record batches of up to 20,000 rows, parsed in a thread, in the order of ``fields``.

    Raises ``ProviderError`` when the answer is not whole or turns into a refusal; then no caller may keep what came
    before.
    """
    parse = partial(_parse, offer=offer, fields=fields)
    async with aclosing(parsed_ahead(_blocks(chunks), parse)) as parsed:
        async for found in parsed:
            for batch in found:
                yield batch


async def rows(chunks: AsyncIterator[bytes]) -> list[Any]:
    """All rows of an answer that is known to be short."""
    found: list[Any] = []
    async for block in _blocks(chunks):
        for element in block:
            found += results(element)
    return found


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The elements of the answer, some at a time. Raises ``ProviderError`` when it is no array, or not a whole one."""
    cutter = Cutter()
    block: list[bytes] = []
    size = 0
    async for piece in chunks:
        for element in cutter.feed(piece):
            if cutter.alone:
                results(element)  # a refusal, as a rule
                raise unreadable("the answer is one object where an array should be")
            block.append(element)
            size += len(element)
            if size >= BLOCK:
                yield block
                block, size = [], 0
    if block:
        yield block
    cutter.finish()


def _parse(block: list[bytes], offer: Offer, fields: Sequence[Field]) -> list[Any]:
    # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
    from app.connectors.google_ads import json_block

    return json_block.parse(block, offer, fields)
