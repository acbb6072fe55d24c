"""Places in a spreadsheet, as Google writes them: ``Leads!B2:D5``, ``'Budget Plan'!A1``, ``'It''s'!A:C``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CELLS = re.compile(r"\$?([A-Za-z]{1,3})\$?([1-9][0-9]{0,7})?(?::\$?([A-Za-z]{1,3})\$?([1-9][0-9]{0,7})?)?")


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of one sheet. Rows and columns count from 1; a last one of None: as far as the sheet goes."""

    sheet: str
    first_column: int
    first_row: int
    last_column: int | None
    last_row: int | None

    @property
    def width(self) -> int | None:
        return None if self.last_column is None else self.last_column - self.first_column + 1

    @property
    def height(self) -> int | None:
        return None if self.last_row is None else self.last_row - self.first_row + 1


def parse(text: str) -> Area | None:
    """The area of a range that names its sheet and its columns, else None. ``A1`` alone is one cell."""
    name, mark, cells = text.rpartition("!")
    found = _CELLS.fullmatch(cells)
    sheet = unquoted(name)
    if not mark or found is None or not sheet:
        return None
    left, top, right, bottom = found.groups()
    first_column, first_row = column_number(left), int(top or 1)
    if right is None:
        return Area(sheet, first_column, first_row, first_column, None if top is None else first_row)
    area = Area(sheet, first_column, first_row, column_number(right), None if bottom is None else int(bottom))
    return area if all(size is None or size > 0 for size in (area.width, area.height)) else None


def written(area: Area) -> str:
    """The range as Google reads it, whatever the sheet's name."""
    first = f"{column_letters(area.first_column)}{area.first_row}"
    last = "" if area.last_column is None else f":{column_letters(area.last_column)}{area.last_row or ''}"
    return f"{quoted(area.sheet)}!{first}{last}"


def quoted(sheet: str) -> str:
    """A sheet's name as the range of all its cells."""
    return "'" + sheet.replace("'", "''") + "'"


def unquoted(name: str) -> str:
    """The sheet's name that stands before the exclamation mark, with or without quotes."""
    if len(name) > 1 and name[0] == name[-1] == "'":
        return name[1:-1].replace("''", "'")
    return name


def column_number(letters: str) -> int:
    """A 1, Z 26, AA 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number


def column_letters(number: int) -> str:
    """1 A, 26 Z, 27 AA."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
