"""From the pieces of a download to record batches, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from app.connectors.ahead import parsed_ahead
from app.connectors.csv_text import Form
from app.connectors.failures import bad_response, shown
from app.connectors.ttd.cutter import Cutter
from app.connectors.ttd.reports import DAY, HEADERS, NULLS
from app.domain.messages import Offer
from app.domain.model import Field

_FORM = Form(HEADERS, DAY, NULLS)


async def batches(
    chunks: AsyncIterator[bytes], offer: Offer, fields: Sequence[Field], *, announced: bool
) -> AsyncGenerator[Any, None]:
    """Arrow record batches of about 20,000 rows, parsed in a thread, in the order of ``fields``; none for a file that
    is only a header. ``announced``: the answer told its length.

    Raises ``ProviderError`` provider_response when the file is no report, not a whole one, or has other columns than
    ``fields``; then no caller may keep what came before.
    """
    cutter = Cutter()
    blocks = _blocks(cutter, chunks, fields, announced=announced)
    async with aclosing(parsed_ahead(blocks, partial(_parse, cutter, offer, fields))) as parsed:
        async for batch in parsed:
            yield batch


async def _blocks(
    cutter: Cutter, chunks: AsyncIterator[bytes], fields: Sequence[Field], *, announced: bool
) -> AsyncIterator[bytes]:
    checked = False
    async for piece in chunks:
        for block in cutter.feed(piece):
            checked = checked or _check(cutter.header, fields)
            yield block
    for block in cutter.finish(announced=announced):
        checked = checked or _check(cutter.header, fields)
        yield block
    if not checked:
        # A file without rows is looked at as well: a wrong template must not pass for a quiet account.
        _check(cutter.header, fields)


def _check(header: tuple[str, ...] | None, fields: Sequence[Field]) -> bool:
    """True; raises for a header that is not that of our template."""
    expected = [field.provider_name for field in fields if field.provider_name]
    found = header or ()
    for code, wrong, what in (
        ("missing_column", [name for name in expected if name not in found], "lacks"),
        ("unexpected_column", [name for name in found if name not in expected], "must not have"),
    ):
        if wrong:
            named = ", ".join(shown(name, 60) for name in wrong[:5])
            raise bad_response(code, f"the report's template {what} the column {named}", retryable=False)
    return True


def _parse(cutter: Cutter, offer: Offer, fields: Sequence[Field], block: bytes) -> Any:
    # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
    from app.connectors import csv_block

    return csv_block.parse(block, csv_block.layout(_FORM, offer, fields, cutter.header or ()))
