"""Whatever Google Sheets answers is read or refused: nothing else comes out, and no row is written twice for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from app.connectors.sheets.client import SheetsConnector
from app.domain.errors import ProviderError
from app.ports import Calls, HttpAnswer
from tests.connectors.sheets import BOOK, REQUEST, sheets_offer

LEAVES = st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats(allow_nan=False) | st.text(max_size=5)
LEAVES |= st.sampled_from(
    [BOOK, REQUEST, "Leads", "Leads!A1:B3", "GRID", "ROWS", "connector.append.7", "connector.append.x"]
)
NAMES = (
    "spreadsheetId", "sheets", "properties", "sheetId", "title", "sheetType", "developerMetadata", "metadataId",
    "metadataKey", "metadataValue", "valueRanges", "range", "majorDimension", "values", "error",
)  # fmt: skip
BODIES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
SHEETS = st.fixed_dictionaries({"sheets": st.just([{"properties": {"title": "Leads"}}]), "developerMetadata": BODIES})
RANGES = st.fixed_dictionaries(
    {
        "spreadsheetId": st.just(BOOK),
        "valueRanges": st.lists(st.fixed_dictionaries({"range": LEAVES, "values": BODIES})),
    }
)
ANSWERS = st.tuples(st.sampled_from([200, 200, 200, 400, 404]), BODIES | SHEETS | RANGES)


@dataclass
class Answering:
    """``ports.Calls`` that answers these in turn, the last one for ever."""

    answers: list[tuple[int, Any]]
    made: int = 0
    first_at: int | None = None
    methods: list[str] = field(default_factory=list)

    def _next(self, method: str) -> HttpAnswer:
        self.methods.append(method)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return HttpAnswer(status, {"content-type": "application/json"}, orjson.dumps(body))

    async def request(self, method: str, url: str, **_: Any) -> HttpAnswer:
        assert url.isascii()
        return self._next(method)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **_: Any) -> AsyncIterator[Any]:
        assert url.isascii()
        yield _Stream(self._next(method))


class _Stream:
    def __init__(self, answer: HttpAnswer) -> None:
        self.status, self._body = answer.status, answer.body
        self.headers: Mapping[str, str] = answer.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


def calls(answers: list[tuple[int, Any]]) -> tuple[Answering, Calls]:
    found = Answering(list(answers))
    return found, found


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=4), st.booleans())
async def test_a_write_is_done_or_refused(answers: list[tuple[int, Any]], mode: bool) -> None:
    seen, made = calls(answers)
    rows: int | None
    try:
        rows = await SheetsConnector().write(
            spreadsheet_id=BOOK, request_id=REQUEST, target="Leads!A1", mode="append" if mode else "update",
            rows=[["a"], ["b"]], calls=made,
        )  # fmt: skip
    except ProviderError:
        rows = None
    assert rows in (None, 2)
    assert len(seen.methods) <= 1 + 2 * 8


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=3), st.sampled_from([(), ("Leads!A1:B3",), ("Leads",)]))
async def test_a_table_is_read_or_refused(answers: list[tuple[int, Any]], asked: tuple[str, ...]) -> None:
    _, made = calls(answers)
    ready = await SheetsConnector().step(sheets_offer(*asked), made)
    try:
        batches = [batch async for batch in ready.batches]
    except ProviderError:
        batches = []
    assert all(batch.num_rows for batch in batches)
