"""A1 notation as the provider reads it: a sheet's name alone, whole columns, whole rows, cells; without a sheet's name
the first one. Names with anything but letters, digits and _ stand in single quotes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.sandbox.sheets.errors import SheetsError, no_sheet_in
from app.sandbox.sheets.spreadsheets import Sheet, Spreadsheet

_QUOTED = re.compile(r"'((?:[^']|'')+)'(?:!(.+))?", re.DOTALL)
_PLAIN = re.compile(r"(\w+)(?:!(.+))?")
_CORNER = re.compile(r"\$?([A-Za-z]{0,3})\$?([0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle within a sheet's grid, from 1, both ends included. ``single``: the text named one cell."""

    sheet: Sheet
    top: int
    left: int
    bottom: int
    right: int
    single: bool = False

    def text(self) -> str:
        """As answers show it."""
        first, last = f"{letters(self.left)}{self.top}", f"{letters(self.right)}{self.bottom}"
        return f"{shown_name(self.sheet.title)}!{first}" + ("" if first == last else f":{last}")


def region(book: Spreadsheet, text: str) -> Region:
    """The rectangle of a range, cut at the end of the grid. SheetsError when there is none."""
    sheet, cells = _split(book, text)
    if not cells:
        return Region(sheet, 1, 1, sheet.rows, sheet.columns)
    first, colon, last = cells.partition(":")
    left, top = _corner(first, text)
    if not colon:
        if not left or not top:
            raise no_sheet_in(text)
        right, bottom = left, top
    else:
        right, bottom = _corner(last, text)
        if bool(left) != bool(right) or not (left or top):
            raise no_sheet_in(text)
    found = Region(
        sheet, top or 1, left or 1, min(bottom or sheet.rows, sheet.rows), min(right or sheet.columns, sheet.columns),
        not colon,
    )  # fmt: skip
    if found.top > sheet.rows or found.left > sheet.columns:
        grid = f"Max rows: {sheet.rows}, max columns: {sheet.columns}"
        raise SheetsError(f"Range ({text}) exceeds grid limits. {grid}")
    if found.bottom < found.top or found.right < found.left:
        raise no_sheet_in(text)
    return found


def _split(book: Spreadsheet, text: str) -> tuple[Sheet, str]:
    quoted, plain = _QUOTED.fullmatch(text), _PLAIN.fullmatch(text)
    match = quoted or plain
    if match is None:
        if "!" in text or not book.sheets:
            raise no_sheet_in(text)
        return book.sheets[0], text
    name = match[1].replace("''", "'") if quoted else match[1]
    sheet = book.sheet(name)
    if sheet is not None:
        return sheet, match[2] or ""
    if quoted or match[2]:
        raise no_sheet_in(text)
    return book.sheets[0], text


def _corner(text: str, whole: str) -> tuple[int, int]:
    """(column, row), 0 for one that is not named."""
    match = _CORNER.fullmatch(text)
    if match is None or not text:
        raise no_sheet_in(whole)
    row = int(match[2] or 0)
    if match[2] and row == 0:
        raise no_sheet_in(whole)
    return number(match[1]), row


def number(text: str) -> int:
    """A 1, Z 26, AA 27; nothing 0."""
    found = 0
    for letter in text.upper():
        found = 26 * found + ord(letter) - ord("A") + 1
    return found


def letters(column: int) -> str:
    """1 A, 26 Z, 27 AA."""
    found = ""
    while column:
        column, rest = divmod(column - 1, 26)
        found = chr(ord("A") + rest) + found
    return found


def shown_name(title: str) -> str:
    """A sheet's name as answers write it before the exclamation mark."""
    return title if re.fullmatch(r"[A-Za-z]\w*", title) else "'" + title.replace("'", "''") + "'"
