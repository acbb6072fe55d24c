"""The Google Sheets adapter: ranges of a spreadsheet by ``values:batchGet``, and rows written into it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from urllib.parse import quote

from app.connectors.ahead import parsed_ahead
from app.connectors.failures import bad_response, too_large
from app.connectors.sheets import a1, book, errors, grid, reports, writing
from app.connectors.sheets.quotas import QUOTAS, READ
from app.connectors.usage import no_usage
from app.domain.commands import Cell
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import ConnectorType, Quota, ReportType
from app.ports import Account, Calls, HttpStream, Ready

API_URL = "https://sheets.googleapis.com/v4/spreadsheets/"

MOST_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer. It has to be there whole before its first row can be read; Google recommends 2 MB."""
MOST_REFUSAL = 64 * 1024
_MOST_URL = 6_000

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOW = "&majorDimension=ROWS&valueRenderOption=UNFORMATTED_VALUE&dateTimeRenderOption=FORMATTED_STRING"


class SheetsConnector:
    """``ports.Connector`` for Google Sheets, and ``write`` beside it. ``api_url`` ends in a slash."""

    connector_type: str = ConnectorType.SHEETS
    reports: Mapping[str, ReportType] = reports.REPORTS
    quotas: Sequence[Quota] = QUOTAS
    steps: Sequence[str] = ("start",)
    minimum_calls: Mapping[str, int] = {READ: 1}
    poll_schedule_s: Sequence[float] = ()
    usage = staticmethod(no_usage)

    def __init__(self, *, api_url: str = API_URL) -> None:
        self._base = api_url if api_url.endswith("/") else api_url + "/"

    async def step(self, offer: Offer, calls: Calls) -> Ready:
        """``start``: the reading. Raises ``ProviderError``; an id that is none before anyone is called."""
        if offer.step != "start":
            raise ValueError(f"Google Sheets has no step {offer.step!r}")
        return Ready(self._tables(offer, calls, self._url(offer.connector.account_id)), {})

    async def accounts(self, calls: Calls) -> Sequence[Account]:
        """None, and no call: which spreadsheets a user has, only Google Drive could say, and that with a scope over all
        the user's files. They are connected by their ids."""
        del calls
        return ()

    async def write(
        self,
        *,
        spreadsheet_id: str,
        request_id: str,
        target: str,
        mode: str,
        rows: Sequence[Sequence[Cell]],
        calls: Calls,
    ) -> int:
        """Writes ``rows`` at ``target`` (``Sheet!A1``), ``mode`` ``append`` or ``update``; how many rows that were.

        Done again for the same ``request_id``, it changes nothing more. Null leaves a cell of an update as it is, and
        one of an append empty. An append costs a read and a write, an update a write. Raises ``ProviderError``.
        """
        url, area = self._url(spreadsheet_id), a1.parse(target)
        if area is None:
            raise _invalid("invalid_target", "a target is a sheet and a cell, for example Sheet1!A1")
        writing.check_cells(rows)
        if mode == "append":
            return await writing.append(calls, url, request_id, area, rows)
        if mode == "update":
            return await writing.update(calls, url, area, rows)
        raise ValueError(f"there is no mode {mode!r}")

    def _url(self, spreadsheet_id: str) -> str:
        if not _ID.fullmatch(spreadsheet_id):
            raise _invalid(
                "invalid_account", "a spreadsheet is named by the id in its address: letters, digits, - and _"
            )
        return f"{self._base}{spreadsheet_id}"

    async def _tables(self, offer: Offer, calls: Calls, url: str) -> AsyncGenerator[Any, None]:
        def parse(block: grid.Block) -> Any:
            # Here, not at the top: a worker that never reads a report does not carry pyarrow (38 MB resident).
            from app.connectors.sheets import rows

            return rows.parse(block, offer)

        async with aclosing(parsed_ahead(_blocks(offer, calls, url), parse)) as batches:
            async for batch in batches:
                yield batch


async def _blocks(offer: Offer, calls: Calls, url: str) -> AsyncIterator[grid.Block]:
    asked = offer.fields or tuple(map(a1.quoted, (await book.read(calls, url)).sheets))
    data = True
    for some in _calls(asked):
        content = await _values(calls, url, some, data=data)
        # The figures are as old as the first call, and only with that one the data set's version may be drawn (R7).
        data = False
        found = grid.blocks(content, some, offer.connector.account_id)
        while (block := await asyncio.to_thread(partial(next, found, None))) is not None:
            yield block


async def _values(calls: Calls, url: str, asked: Sequence[str], *, data: bool) -> bytes:
    query = "&".join(f"ranges={quote(name, safe='')}" for name in asked)
    async with calls.stream("GET", f"{url}/values:batchGet?{query}{_HOW}", charge=READ, data=data) as stream:
        if stream.status != 200:
            raise errors.refusal("read", stream.status, stream.headers, await _body(stream, MOST_REFUSAL, cut=True))
        if stream.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise bad_response("unexpected_content_type", "the answer is not JSON")
        return await _body(stream, MOST_ANSWER)


async def _body(stream: HttpStream, most: int, *, cut: bool = False) -> bytes:
    parts, size = [], 0
    async for piece in stream.chunks():
        parts.append(piece)
        size += len(piece)
        if size > most and cut:
            break
        if size > most:
            raise too_large(f"the ranges are longer than {most} bytes: ask for smaller ones")
    return b"".join(parts)


def _calls(asked: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The ranges in as few calls as their addresses are short enough for: one, as a rule."""
    some: list[str] = []
    size = 0
    for name in asked:
        length = len("ranges=&") + len(quote(name, safe=""))
        if some and size + length > _MOST_URL:
            yield tuple(some)
            some, size = [], 0
        some.append(name)
        size += length
    if some:
        yield tuple(some)


def _invalid(code: str, message: str) -> ProviderError:
    return ProviderError(Failure(ErrorClass.INVALID_REQUEST, code, message, retryable=False))
