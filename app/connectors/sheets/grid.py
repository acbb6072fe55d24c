"""The answer of ``values:batchGet`` as rows of equal length.

``{"spreadsheetId", "valueRanges": [{"range": "Leads!A1:D1000", "majorDimension": "ROWS", "values": [["a", 1], []]}]}``,
in the order of the ranges that were asked for. Google leaves out what is empty at the end: cells of a row, rows of a
range, and ``values`` itself; an empty cell before a filled one is ``""``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from app.connectors.failures import bad_response, too_large
from app.connectors.sheets import a1
from app.connectors.sheets.a1 import Area

MOST_CELLS = 10_000_000
"""Cells of one answer, the empty ones with them: as many as a spreadsheet may have."""
BLOCK_CELLS = 100_000
"""Cells that are turned into a batch together."""

STRING, NUMBER, BOOLEAN, EMPTY = "string", "number", "boolean", "empty"


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of one range, as they came. ``asked``: the range in the words of the command; ``first_row``: where
    in the sheet the first of them stands."""

    asked: str
    area: Area
    width: int
    first_row: int
    rows: Sequence[Any]


def blocks(content: bytes, asked: Sequence[str], spreadsheet_id: str) -> Iterator[Block]:
    """The rows of all ranges in order, some at a time. Raises ``ProviderError``: unreadable_answer, wrong_account,
    response_too_large."""
    entries = _entries(content, asked, spreadsheet_id)
    left = MOST_CELLS
    for name, entry in zip(asked, entries, strict=True):
        area, rows = _area(entry), _rows(entry)
        width = area.width or max(map(len, rows), default=1)
        left -= width * len(rows)
        if left < 0:
            raise too_large(f"the ranges have more than {MOST_CELLS} cells")
        step = max(1, BLOCK_CELLS // width)
        for at in range(0, len(rows), step):
            yield Block(name, area, width, area.first_row + at, rows[at : at + step])


def filled(row: Sequence[Any], width: int) -> tuple[list[str | None], list[str]]:
    """The texts and kinds of a row, one for each column. Raises ``ProviderError`` unreadable_answer."""
    if len(row) > width:
        raise _unreadable("a row has more cells than its range")
    texts, kinds = [], []
    for value in row:
        text, kind = cell(value)
        texts.append(text)
        kinds.append(kind)
    missing = width - len(row)
    return texts + [None] * missing, kinds + [EMPTY] * missing


def cell(value: Any) -> tuple[str | None, str]:
    """(text, kind) of one cell. Numbers are written out in full, without exponent, and whole ones without point."""
    if isinstance(value, str):
        return (value, STRING) if value else (None, EMPTY)
    if isinstance(value, bool):
        return ("true" if value else "false"), BOOLEAN
    if isinstance(value, int):
        return str(value), NUMBER
    if isinstance(value, float):
        return (f"{value:.0f}" if value.is_integer() else f"{Decimal(repr(value)):f}"), NUMBER
    if value is None:
        return None, EMPTY
    raise _unreadable("a cell is neither text nor number nor true or false")


def _entries(content: bytes, asked: Sequence[str], spreadsheet_id: str) -> list[Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise _unreadable("the answer is not the JSON object it should be")
    if answer.get("spreadsheetId") != spreadsheet_id:
        raise bad_response("wrong_account", "the answer is about another spreadsheet", retryable=False)
    entries = answer.get("valueRanges", [])
    if not isinstance(entries, list) or len(entries) != len(asked):
        raise _unreadable("the answer has not one range for each that was asked for")
    return entries


def _area(entry: Any) -> Area:
    text = entry.get("range") if isinstance(entry, dict) else None
    area = a1.parse(text) if isinstance(text, str) else None
    if area is None or entry.get("majorDimension", "ROWS") != "ROWS":
        raise _unreadable("a range of the answer does not say what it covers")
    return area


def _rows(entry: dict[str, Any]) -> list[Any]:
    rows = entry.get("values", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise _unreadable("the values of a range are no rows")
    height = _area(entry).height
    if height is not None and len(rows) > height:
        raise _unreadable("a range has more rows than it covers")
    return rows


def _unreadable(message: str) -> Exception:
    return bad_response("unreadable_answer", message)
