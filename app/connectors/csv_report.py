"""From the pieces of a plain CSV file, a header and rows and nothing else, to record batches, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from app.connectors.ahead import parsed_ahead
from app.connectors.csv_cutter import Cutter
from app.connectors.csv_text import Form
from app.connectors.failures import bad_response, shown
from app.domain.messages import Offer
from app.domain.model import Field


async def batches(
    chunks: AsyncIterator[bytes],
    offer: Offer,
    fields: Sequence[Field],
    form: Form,
    *,
    announced: bool,
    made_by: str = "the report",
) -> AsyncGenerator[Any, None]:
    """Arrow record batches of about 20,000 rows, parsed in a thread, in the order of ``fields``; none for a file that
    is only a header. ``announced``: the answer told its length. ``made_by``: what decides on the columns, for messages.

    Raises ``ProviderError`` provider_response when the file is no report, not a whole one, or has other columns than
    ``fields``; then no caller may keep what came before.
    """
    cutter = Cutter()
    blocks = _blocks(cutter, chunks, partial(_check, fields, made_by), announced=announced)
    async with aclosing(parsed_ahead(blocks, partial(_parse, cutter, offer, fields, form))) as parsed:
        async for batch in parsed:
            yield batch


async def _blocks(
    cutter: Cutter, chunks: AsyncIterator[bytes], check: Callable[[tuple[str, ...] | None], bool], *, announced: bool
) -> AsyncIterator[bytes]:
    checked = False
    async for piece in chunks:
        for block in cutter.feed(piece):
            checked = checked or check(cutter.header)
            yield block
    for block in cutter.finish(announced=announced):
        checked = checked or check(cutter.header)
        yield block
    if not checked:
        # A file without rows is looked at as well: another report must not pass for a quiet account.
        check(cutter.header)


def _check(fields: Sequence[Field], made_by: str, header: tuple[str, ...] | None) -> bool:
    """True; raises for a header that is not ours. A column too many may be a dimension, and then there are more rows
    than the grain has."""
    expected = [field.provider_name for field in fields if field.provider_name]
    found = header or ()
    for code, wrong, what in (
        ("missing_column", [name for name in expected if name not in found], "lacks"),
        ("unexpected_column", [name for name in found if name not in expected], "must not have"),
    ):
        if wrong:
            named = ", ".join(shown(name, 60) for name in wrong[:5])
            raise bad_response(code, f"{made_by} {what} the column {named}", retryable=False)
    return True


def _parse(cutter: Cutter, offer: Offer, fields: Sequence[Field], form: Form, block: bytes) -> Any:
    # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
    from app.connectors import csv_block

    return csv_block.parse(block, csv_block.layout(form, offer, fields, cutter.header or ()))
