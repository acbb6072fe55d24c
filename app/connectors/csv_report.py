"""From the pieces of a plain CSV file, a header and rows and nothing else, to record batches, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

from app.connectors.ahead import gathered, parsed_ahead
from app.connectors.csv_cutter import Cutter
from app.connectors.csv_text import BLOCK, Form
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
    check = partial(_check, fields, made_by)
    parse = partial(_parse, Cutter(), offer, fields, form, check, announced)
    async with aclosing(parsed_ahead(gathered(chunks, BLOCK), parse)) as parsed:
        async for found in parsed:
            for batch in found:
                yield batch


def _parse(
    cutter: Cutter,
    offer: Offer,
    fields: Sequence[Field],
    form: Form,
    check: Callable[[tuple[str, ...] | None], None],
    announced: bool,
    chunks: list[bytes] | None,
) -> list[Any]:
    """Batches of the rows that became complete; None: no more comes."""
    # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
    from app.connectors import csv_block

    blocks = cutter.finish(announced=announced) if chunks is None else chain.from_iterable(map(cutter.feed, chunks))
    found = []
    for block in blocks:
        check(cutter.header)
        found.append(csv_block.parse(block, csv_block.layout(form, offer, fields, cutter.header or ())))
    if chunks is None:
        # A file without rows is looked at as well: another report must not pass for a quiet account.
        check(cutter.header)
    return found


def _check(fields: Sequence[Field], made_by: str, header: tuple[str, ...] | None) -> None:
    """Raises for a header that is not ours. A column too many may be a dimension, and then there are more rows than the
    grain has."""
    expected = [field.provider_name for field in fields if field.provider_name]
    found = header or ()
    for code, wrong, what in (
        ("missing_column", [name for name in expected if name not in found], "lacks"),
        ("unexpected_column", [name for name in found if name not in expected], "must not have"),
    ):
        if wrong:
            named = ", ".join(shown(name, 60) for name in wrong[:5])
            raise bad_response(code, f"{made_by} {what} the column {named}", retryable=False)
