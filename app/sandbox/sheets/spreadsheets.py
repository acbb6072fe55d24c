"""Spreadsheets: what is in them at first follows from seed and id; what is written stays until a reset.

The first sign of an id decides: ``0`` there is none, ``9`` it is shared with nobody, ``8`` it is a file of another
kind; any other is a spreadsheet that every user may read and write.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_CELLS = 10_000_000
MOST_METADATA = 30_000
"""Characters of all metadata of a spreadsheet, keys and values together."""
_COLUMNS, _ROWS = 26, 1_000
_COUNTRIES = ("Deutschland", "España", "Ελλάδα", "中国", "Türkiye")

Value = str | float | bool


@dataclass(frozen=True, slots=True)
class Formula:
    """A cell that somebody typed a formula into; what it comes to is not computed here."""

    text: str


@dataclass(slots=True)
class Sheet:
    """``cells`` by (row, column) from 1, those with something in them; ``rows`` and ``columns`` of its grid."""

    sheet_id: int
    title: str
    rows: int = _ROWS
    columns: int = _COLUMNS
    cells: dict[tuple[int, int], Value | Formula] = field(default_factory=dict)

    def last_row(self) -> int:
        """The last row with data; 0 when there is none."""
        return max((row for row, _ in self.cells), default=0)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Developer metadata of the spreadsheet as a whole."""

    metadata_id: int
    key: str
    value: str
    visibility: str

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value)


@dataclass(slots=True)
class Spreadsheet:
    """``sheets`` in order of their tabs, ``metadata`` by id."""

    spreadsheet_id: str
    title: str
    sheets: list[Sheet]
    metadata: dict[int, Metadata] = field(default_factory=dict)

    def sheet(self, title: str) -> Sheet | None:
        return next((one for one in self.sheets if one.title == title), None)

    def sheet_of(self, sheet_id: int) -> Sheet | None:
        return next((one for one in self.sheets if one.sheet_id == sheet_id), None)


@dataclass(slots=True)
class SheetsState:
    """The spreadsheets that were looked at, and how many leads a new one holds."""

    leads: int = 20
    known: dict[str, Spreadsheet] = field(default_factory=dict)


def spreadsheet(state: SheetsState, seed: int, spreadsheet_id: str) -> Spreadsheet:
    """The spreadsheet of that id as it is now."""
    found = state.known.get(spreadsheet_id)
    if found is None:
        found = state.known[spreadsheet_id] = _made(seed, spreadsheet_id, state.leads)
    return found


def _made(seed: int, spreadsheet_id: str, leads: int) -> Spreadsheet:
    draw = random.Random(f"sheets {seed} {spreadsheet_id}")
    sheets = [_leads(draw, leads), _budget(draw), Sheet(draw.randrange(1, 2**31), "It's empty")]
    return Spreadsheet(spreadsheet_id, f"CRM {draw.randrange(1_000)}", sheets)


def _leads(draw: random.Random, count: int) -> Sheet:
    """Rows of unequal length with holes in them, texts that look like formulas and numbers, and an empty row."""
    rows: list[list[Value | None]] = [["Lead", "Country", "Score", "Won", "Note"]]
    for number in range(1, count + 1):
        note = draw.choice((None, None, "=called", "+49 30 123", "00123", "@home", "- none"))
        score = draw.choice((float(draw.randrange(100)), draw.randrange(10_000) / 100, None))
        rows.append([f"L{number:05d}", draw.choice((*_COUNTRIES, None)), score, draw.choice((True, False, None)), note])
    if count > 3:
        rows[3] = []
    sheet = Sheet(0, "Leads", rows=max(_ROWS, count + 100))
    put(sheet, 1, 1, rows)
    return sheet


def _budget(draw: random.Random) -> Sheet:
    months: list[list[Value | None]] = [["Month", "Budget"]]
    months += [[f"2026-{month:02d}", draw.randrange(10_000) / 4] for month in range(1, 13)]
    sheet = Sheet(draw.randrange(1, 2**31), "Budget Plan", rows=40, columns=6)
    put(sheet, 2, 2, months)
    return sheet


def put(sheet: Sheet, row: int, column: int, rows: Sequence[Sequence[Value | Formula | None]]) -> None:
    """Set cells; None leaves one as it is, an empty text empties it."""
    for down, values in enumerate(rows):
        for across, value in enumerate(values):
            if value == "":
                sheet.cells.pop((row + down, column + across), None)
            elif value is not None:
                sheet.cells[(row + down, column + across)] = value
