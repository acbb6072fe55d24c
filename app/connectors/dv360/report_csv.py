"""From the pieces of a download to record batches and control totals, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

from app.connectors.ahead import gathered, parsed_ahead
from app.connectors.csv_text import BLOCK, Form, truncated_report
from app.connectors.dv360.cutter import NULLS, Cutter, control_totals
from app.connectors.dv360.reports import DAY, HEADERS
from app.connectors.failures import bad_response
from app.domain.messages import Offer
from app.domain.model import Field

_FORM = Form(HEADERS, DAY, NULLS)


async def batches(
    chunks: AsyncIterator[bytes], offer: Offer, fields: Sequence[Field], control: dict[str, str]
) -> AsyncGenerator[Any, None]:
    """Arrow record batches of about 20,000 rows, parsed in a thread, in the order of ``fields``.

    ``control`` receives the totals row (our column -> decimal text) once all rows were read. Raises ``ProviderError``
    provider_response when the file is not a whole report; then no caller may keep what came before.
    """
    cutter = Cutter()
    rows = 0
    parsing = parsed_ahead(gathered(chunks, BLOCK), partial(_parse, cutter, offer, fields))
    async with aclosing(parsing) as parsed:
        async for found in parsed:
            for batch in found:
                rows += batch.num_rows
                yield batch
    _settle(cutter, offer, fields, rows, control)


def _parse(cutter: Cutter, offer: Offer, fields: Sequence[Field], chunks: list[bytes] | None) -> list[Any]:
    """Batches of the rows that became complete; None: no more comes."""
    # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
    from app.connectors import csv_block

    blocks = cutter.finish() if chunks is None else chain.from_iterable(map(cutter.feed, chunks))
    return [csv_block.parse(block, csv_block.layout(_FORM, offer, fields, cutter.header or ())) for block in blocks]


def _settle(cutter: Cutter, offer: Offer, fields: Sequence[Field], rows: int, control: dict[str, str]) -> None:
    """Checks the end of the file against its rows and fills ``control``."""
    from app.connectors import csv_block

    header = cutter.header or ()
    plan = csv_block.layout(_FORM, offer, fields, header) if header else None
    metrics = {} if plan is None else {plan.header_of(f): f.name for f in fields if f.role == "metric"}
    totals = control_totals(bytes(cutter.trailer), header, list(metrics))
    if totals is None and rows:
        raise bad_response("truncated_report", "the file says that it has no data, below its rows")
    if totals is not None and not rows:
        raise truncated_report("the file has totals but no rows")
    control.update({metrics[name]: value for name, value in (totals or {}).items()})
