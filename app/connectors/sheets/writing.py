"""Writing rows: exactly once, and no cell is ever read as a formula (spec section 14, R8).

An update puts values where they belong, so doing it twice does no harm. An append is one atomic ``batchUpdate`` of the
rows and a stamp: developer metadata whose id follows from the request's and is unique in the spreadsheet, so that a
second append of the same request is refused as a whole. Whose stamp it is, is then read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from app.connectors.failures import bad_response, shown
from app.connectors.sheets import a1, book, errors
from app.connectors.sheets.a1 import Area
from app.connectors.sheets.book import STAMP_KEY, Book
from app.connectors.sheets.quotas import READ, WRITE
from app.domain.commands import Cell
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.ports import Calls, HttpAnswer

TRIES = 8
"""Ids that one append tries. That one is taken by somebody else happens once in millions of appends."""

KEPT_STAMPS = 400
"""Stamps that stay in a spreadsheet. All metadata of a spreadsheet may have 30,000 characters, keys and values together
(developers.google.com/workspace/sheets/api/guides/metadata), and a stamp has about 60: the oldest go. A stamp is needed
as long as its request may be tried again, and no other append begins before that (R8)."""

MOST_BEFORE = 250_000
"""Empty cells before the target's column, of all rows of an append: they travel as well, three bytes each. Without a
limit, 10,000 rows at column ZZZ would be a body of 550 MB."""

_LARGEST_EXACT = 2**53
"""Google keeps numbers as doubles: of larger whole ones not all exist."""
_IDS = 2**31 - 1


async def append(calls: Calls, url: str, request_id: str, target: Area, rows: Sequence[Sequence[Cell]]) -> int:
    """Rows below the last one of the sheet that is not empty, beginning in the target's first column; its row says
    nothing. ``url`` is the spreadsheet's. Raises ``ProviderError``."""
    if target.width is not None and _is_range(target):
        _check_width(target.width, rows)
    if (target.first_column - 1) * len(rows) > MOST_BEFORE:
        message = f"{len(rows)} rows from column {a1.column_letters(target.first_column)} on are too many: send several"
        raise _refused("too_far_right", message)
    known = await book.read(calls, url, stamps=True)
    if any(stamp.request_id == request_id for stamp in known.stamps):
        return len(rows)
    sheet_id = known.sheets.get(target.sheet)
    if sheet_id is None:
        raise _refused("sheet_not_found", f"there is no sheet {shown(target.sheet, 60)}", ErrorClass.NOT_FOUND)
    old = _old(known)
    for number in range(TRIES):
        stamp_id = _stamp_id(request_id, number)
        body = {"requests": [*old, _appended(sheet_id, target, rows), _stamped(stamp_id, known, request_id)]}
        answer = await calls.request("POST", f"{url}:batchUpdate", charge=WRITE, json=body)
        if answer.status == 200:
            _check_answer(answer, url)
            return len(rows)
        refusal = errors.refusal("append", answer.status, answer.headers, answer.body)
        if answer.status != 400:
            raise refusal
        # That an id in use is refused is documented, but not in which words: so every 400 is asked about.
        owner = await _owner(calls, url, stamp_id)
        if owner is None:
            raise refusal
        if owner == request_id:
            return len(rows)
    raise _refused("no_free_stamp", f"{TRIES} metadata ids of this request are taken in the spreadsheet")


async def update(calls: Calls, url: str, target: Area, rows: Sequence[Sequence[Cell]]) -> int:
    """Rows over the cells from the target's first on. Raises ``ProviderError``."""
    width = max(map(len, rows), default=1)
    area = replace(
        target, last_column=target.first_column + width - 1, last_row=target.first_row + max(1, len(rows)) - 1
    )
    if _is_range(target):
        _check_width(target.width or width, rows)
        if target.height is not None and len(rows) > target.height:
            raise _refused("beyond_target", f"{len(rows)} rows do not fit into the target's {target.height}")
    name = a1.written(area)
    place = f"{url}/values/{quote(name, safe='')}"
    body = {"range": name, "majorDimension": "ROWS", "values": [list(row) for row in rows]}
    # RAW: with USER_ENTERED whatever begins with = + - @ would become a formula.
    query = {"valueInputOption": "RAW", "includeValuesInResponse": "false"}
    answer = await calls.request("PUT", place, charge=WRITE, json=body, params=query)
    if answer.status != 200:
        raise errors.refusal("update", answer.status, answer.headers, answer.body)
    _check_answer(answer, url)
    return len(rows)


def check_cells(rows: Sequence[Sequence[Cell]]) -> None:
    """Raises ``ProviderError`` inexact_number for a whole number that would not come back as it was."""
    for row in rows:
        for cell in row:
            if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) > _LARGEST_EXACT:
                message = "a whole number beyond 2^53 does not fit into a cell exactly: send it as text"
                raise _refused("inexact_number", message)


def _is_range(target: Area) -> bool:
    """Not one cell alone, which says where to begin and not how far to go."""
    return (target.last_column, target.last_row) != (target.first_column, target.first_row)


def _check_width(width: int, rows: Sequence[Sequence[Cell]]) -> None:
    widest = max(map(len, rows), default=0)
    if widest > width:
        raise _refused("beyond_target", f"{widest} cells of a row do not fit into the target's {width}")


def _stamp_id(request_id: str, number: int) -> int:
    """31 bits of the request's id, never 0; with ``number`` the next ones."""
    return (int(request_id[-8:], 16) + number) % _IDS + 1


def _old(known: Book) -> list[dict[str, Any]]:
    """Requests that remove the oldest stamps."""
    gone = known.stamps[: max(0, len(known.stamps) - KEPT_STAMPS + 1)]
    lookups = [{"developerMetadataLookup": {"metadataId": stamp.metadata_id}} for stamp in gone]
    return [{"deleteDeveloperMetadata": {"dataFilter": lookup}} for lookup in lookups]


def _appended(sheet_id: int, target: Area, rows: Sequence[Sequence[Cell]]) -> dict[str, Any]:
    before: list[dict[str, Any]] = [{} for _ in range(target.first_column - 1)]
    values = [{"values": [*before, *map(_cell, row)]} for row in rows]
    return {"appendCells": {"sheetId": sheet_id, "rows": values, "fields": "userEnteredValue"}}


def _cell(value: Cell) -> dict[str, Any]:
    """A cell of a new row; null leaves it empty."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"userEnteredValue": {"boolValue": value}}
    if isinstance(value, str):
        return {"userEnteredValue": {"stringValue": value}}
    return {"userEnteredValue": {"numberValue": value}}


def _stamped(stamp_id: int, known: Book, request_id: str) -> dict[str, Any]:
    number = known.stamps[-1].number + 1 if known.stamps else 1
    made = {
        "metadataId": stamp_id,
        "metadataKey": f"{STAMP_KEY}{number}",
        "metadataValue": request_id,
        "location": {"spreadsheet": True},
        "visibility": "DOCUMENT",
    }
    return {"createDeveloperMetadata": {"developerMetadata": made}}


async def _owner(calls: Calls, url: str, stamp_id: int) -> str | None:
    """What the metadata of that id holds; None when there is none, or none that we may see."""
    answer = await calls.request("GET", f"{url}/developerMetadata/{stamp_id}", charge=READ)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise errors.refusal("stamp", answer.status, answer.headers, answer.body)
    return str(book.content_of(answer.body).get("metadataValue", ""))


def _check_answer(answer: HttpAnswer, url: str) -> None:
    if book.content_of(answer.body).get("spreadsheetId") != url.rpartition("/")[2]:
        raise bad_response("unreadable_answer", "the answer to a write is not about its spreadsheet")


def _refused(code: str, message: str, error_class: ErrorClass = ErrorClass.INVALID_REQUEST) -> ProviderError:
    return ProviderError(Failure(error_class, code, message, retryable=False))
