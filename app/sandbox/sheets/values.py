"""Reading and writing values: what is empty at an end is left out, and a body must say how it is to be understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.sandbox.sheets.errors import SheetsError
from app.sandbox.sheets.ranges import Region, letters, region
from app.sandbox.sheets.spreadsheets import MOST_CELLS, Formula, Spreadsheet, Value, put

MOST_TEXT = 50_000
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_RENDER = ("FORMATTED_VALUE", "UNFORMATTED_VALUE", "FORMULA")


def value_range(found: Region, render: str = "FORMATTED_VALUE") -> dict[str, Any]:
    """A range's answer, by rows."""
    rows: list[list[Any]] = []
    for row in range(found.top, found.bottom + 1):
        cells = [_rendered(found.sheet.cells.get((row, at)), render) for at in range(found.left, found.right + 1)]
        while cells and cells[-1] == "":
            cells.pop()
        rows.append(cells)
    while rows and not rows[-1]:
        rows.pop()
    return {"range": found.text(), "majorDimension": "ROWS"} | ({"values": rows} if rows else {})


def render_option(query: Mapping[str, str]) -> str:
    """How values are to be rendered; SheetsError for options that are none."""
    render = query.get("valueRenderOption", "FORMATTED_VALUE")
    if render not in _RENDER:
        raise SheetsError(f"Invalid value at 'value_render_option' (TYPE_ENUM), \"{render}\"")
    if query.get("dateTimeRenderOption", "SERIAL_NUMBER") not in ("SERIAL_NUMBER", "FORMATTED_STRING"):
        raise SheetsError("Invalid value at 'date_time_render_option' (TYPE_ENUM)")
    if query.get("majorDimension", "ROWS") != "ROWS":
        raise SheetsError("only ROWS are simulated")
    return render


def _rendered(value: Value | Formula | None, render: str) -> Any:
    if value is None:
        return ""
    if isinstance(value, Formula):
        return value.text if render == "FORMULA" else "#NAME?"
    if render != "FORMATTED_VALUE" or isinstance(value, str):
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return f"{value:g}"


def write(book: Spreadsheet, name: str, body: Mapping[str, Any], option: str | None) -> tuple[Region, int]:
    """Put a ``ValueRange`` at ``name``; the region it covers and how many cells were set."""
    if body.get("range", name) != name:
        raise SheetsError(f"Requested range {name} must match the range of the body, {body['range']}")
    rows = entered(body, option)
    found = region(book, name)
    down, across = len(rows), max(map(len, rows), default=0)
    bottom, right = found.top + down - 1, found.left + across - 1
    if not found.single and (bottom > found.bottom or right > found.right):
        place = f"row [{bottom}]" if bottom > found.bottom else f"column [{letters(right)}]"
        raise SheetsError(f"Requested writing within range [{found.text()}], but tried writing to {place}")
    if bottom > found.sheet.rows or right > found.sheet.columns:
        grid = f"Max rows: {found.sheet.rows}, max columns: {found.sheet.columns}"
        raise SheetsError(f"Range ({name}) exceeds grid limits. {grid}")
    put_all(found, found.top, found.left, rows)
    covered = Region(found.sheet, found.top, found.left, max(bottom, found.top), max(right, found.left))
    return covered, sum(value is not None for row in rows for value in row)


def put_all(found: Region, top: int, left: int, rows: list[list[Any]]) -> None:
    """Set the cells, formulas too."""
    put(found.sheet, top, left, rows)


def append(book: Spreadsheet, name: str, body: Mapping[str, Any], option: str | None) -> tuple[Region, int]:
    """Put a ``ValueRange`` below the last row with data in the columns of ``name``; nothing tells it from a second
    one."""
    rows = entered(body, option)
    found = region(book, name)
    width = max(map(len, rows), default=1)
    columns = range(found.left, found.left + width)
    top = 1 + max((row for row, column in found.sheet.cells if column in columns), default=0)
    grow(book, found, top + len(rows) - 1, found.left + width - 1)
    put_all(found, top, found.left, rows)
    covered = Region(found.sheet, top, found.left, top + len(rows) - 1, found.left + width - 1)
    return covered, sum(value is not None for row in rows for value in row)


def grow(book: Spreadsheet, found: Region, rows: int, columns: int) -> None:
    """Make the grid large enough; SheetsError beyond what a spreadsheet may have."""
    sheet = found.sheet
    rows, columns = max(rows, sheet.rows), max(columns, sheet.columns)
    others = sum(one.rows * one.columns for one in book.sheets if one is not sheet)
    if others + rows * columns > MOST_CELLS:
        raise SheetsError(
            "This action would increase the number of cells in the workbook above the limit of 10000000 cells."
        )
    sheet.rows, sheet.columns = rows, columns


def entered(body: Mapping[str, Any], option: str | None) -> list[list[Any]]:
    """The rows of a ``ValueRange`` as they are stored: as they come, or as if typed."""
    if option not in ("RAW", "USER_ENTERED"):
        raise SheetsError("'valueInputOption' is required but not specified")
    if unknown := sorted(set(body) - {"range", "majorDimension", "values"}):
        raise SheetsError(f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
    if body.get("majorDimension", "ROWS") != "ROWS":
        raise SheetsError("only ROWS are simulated")
    rows = body.get("values", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise SheetsError("Invalid value at 'data.values' (type.googleapis.com/google.protobuf.ListValue)")
    return [[_stored(value, option) for value in row] for row in rows]


def _stored(value: Any, option: str) -> Any:
    if isinstance(value, dict | list):
        raise SheetsError("Invalid values: list_value or struct_value are not supported.")
    if isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise SheetsError("Your input contains more than the maximum of 50000 characters in a single cell.")
        return typed(value) if option == "USER_ENTERED" else value
    return value if value is None or isinstance(value, bool) else float(value)


def typed(text: str) -> Value | Formula:
    """What a text becomes when somebody types it: this is what RAW is for."""
    if text[:1] in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text):
        return Formula(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower(), text)
