"""Whatever a range holds: filled up it is the rectangle that the provider has left the ends out of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.sheets import a1, grid
from app.connectors.sheets.a1 import Area
from app.connectors.sheets.rows import parse
from app.domain.errors import ProviderError
from tests.connectors.sheets import BOOK, sheets_offer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CELLS = st.one_of(st.none(), TEXTS, st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e12, 1e12))
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Area, list[list[Any]]]:
    """An area and every one of its cells."""
    width, height = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    left, top = draw(st.integers(1, 800)), draw(st.integers(1, 10_000))
    cells = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=height, max_size=height))
    return Area(draw(NAMES), left, top, left + width - 1, top + height - 1), cells


def shortened(rows: list[list[Any]]) -> list[list[Any]]:
    """As the provider writes them: an empty cell is an empty text, and what is empty at an end is not there."""
    short = []
    for row in rows:
        cells = ["" if cell is None else cell for cell in row]
        while cells and cells[-1] == "":
            cells.pop()
        short.append(cells)
    while short and not short[-1]:
        short.pop()
    return short


def answer(*entries: tuple[Area, list[list[Any]]], **changes: Any) -> bytes:
    ranges = []
    for area, rows in entries:
        values = shortened(rows)
        ranges.append({"range": a1.written(area), "majorDimension": "ROWS"} | ({"values": values} if values else {}))
    return orjson.dumps({"spreadsheetId": BOOK, "valueRanges": ranges} | changes)


def kind_of(cell: Any) -> str:
    if cell is None or cell == "":
        return "empty"
    return {str: "string", bool: "boolean"}.get(type(cell), "number")


@given(st.lists(tables(), max_size=4))
def test_rows_of_any_ranges(made: list[tuple[Area, list[list[Any]]]]) -> None:
    asked = [f"asked {at}" for at in range(len(made))]
    found = []
    for block in grid.blocks(answer(*made), asked, BOOK):
        batch = parse(block, sheets_offer())
        found += batch.to_pylist()
    at = iter(found)
    for name, (area, rows) in zip(asked, made, strict=True):
        for down, cells in enumerate(rows[: len(shortened(rows))]):
            row = next(at)
            assert (row["range"], row["row"], row["sheet"]) == (name, area.first_row + down, area.sheet)
            assert row["first_column"] == a1.column_letters(area.first_column)
            assert row["kinds"] == [kind_of(cell) for cell in cells]
            assert [value_of(*pair) for pair in zip(row["cells"], row["kinds"], strict=True)] == [
                None if cell == "" else cell for cell in cells
            ]
    assert next(at, None) is None


def value_of(text: str | None, kind: str) -> Any:
    """A cell back from its text."""
    if kind == "empty":
        assert text is None
        return None
    assert text is not None
    if kind == "number":
        assert "e" not in text.lower()
        return int(text) if "." not in text else float(Decimal(text))
    return {"true": True, "false": False}[text] if kind == "boolean" else text


@given(NAMES, st.integers(1, 18_278), st.integers(1, 10**6), st.integers(0, 300), st.integers(0, 300))
def test_places_are_read_as_they_are_written(name: str, left: int, top: int, wide: int, high: int) -> None:
    for area in (
        Area(name, left, top, min(left + wide, 18_278), top + high),
        Area(name, left, top, min(left + wide, 18_278), None),
    ):
        assert a1.parse(a1.written(area)) == area
    assert a1.column_number(a1.column_letters(left)) == left


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("Leads!A1", Area("Leads", 1, 1, 1, 1)),
        ("Leads!B2:D5", Area("Leads", 2, 2, 4, 5)),
        ("Leads!$b$2:d$5", Area("Leads", 2, 2, 4, 5)),
        ("'Budget Plan'!A:C", Area("Budget Plan", 1, 1, 3, None)),
        ("Budget Plan!A3:C", Area("Budget Plan", 1, 3, 3, None)),
        ("'It''s'!A1", Area("It's", 1, 1, 1, 1)),
        ("'a!b'!AA10", Area("a!b", 27, 10, 27, 10)),
        ("Leads!A", Area("Leads", 1, 1, 1, None)),
        *((text, None) for text in ("Leads", "A1", "!A1", "''!A1", "Leads!", "Leads!1:5", "Leads!B1:A1", "Leads!A2:A1",
                                    "Leads!A0", "Leads!AAAA1", "Leads!A1:", "Leads!A1:B2:C3", "Leads!A1 ", "")),
    ],
)  # fmt: skip
def test_places(text: str, area: Area | None) -> None:
    assert a1.parse(text) == area


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.0, "1"), (-0.5, "-0.5"), (1e21, "1000000000000000000000"), (1e-7, "0.0000001"), (0.1, "0.1"),
     (True, "true"), (False, "false"), ("true", "true"), ("", None), (None, None), ("#N/A", "#N/A")],
)  # fmt: skip
def test_texts_of_cells(value: Any, text: str | None) -> None:
    assert grid.cell(value)[0] == text


def read(content: bytes) -> list[Any]:
    return [parse(block, sheets_offer()) for block in grid.blocks(content, ["Leads"], BOOK)]


ONE = Area("Leads", 1, 1, 2, 3)
ENTRY: dict[str, Any] = {"range": "Leads!A1:B3", "majorDimension": "ROWS", "values": [["a"]]}

CHANGES: tuple[dict[str, Any], ...] = (
    {"range": None}, {"range": "Leads"}, {"majorDimension": "COLUMNS"}, {"values": {}}, {"values": ["a"]},
    {"values": [["a", "b", "c"]]}, {"values": [["a"]] * 4}, {"values": [[{}]]}, {"values": [[["a"]]]},
)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unreadable_answer"),
        (b"[]", "unreadable_answer"),
        (answer((ONE, [["a"]]))[:-3], "unreadable_answer"),
        (answer((ONE, [["a"]]), spreadsheetId="1other"), "wrong_account"),
        (answer((ONE, [["a"]]), valueRanges=[]), "unreadable_answer"),
        (answer((ONE, [["a"]]), valueRanges={}), "unreadable_answer"),
        (answer((ONE, [["a"]]), valueRanges=[1]), "unreadable_answer"),
        *((answer(valueRanges=[ENTRY | change]), "unreadable_answer") for change in CHANGES),
    ],
)  # fmt: skip
def test_answers_that_are_none(content: bytes, code: str) -> None:
    with pytest.raises(ProviderError) as raised:
        read(content)
    assert raised.value.failure.code == code


def test_an_answer_cannot_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row costs three bytes and is filled up to its range's width."""
    monkeypatch.setattr(grid, "MOST_CELLS", 1_000)
    wide = Area("Leads", 1, 1, 100, 20)
    rows = [["a", *[None] * 99] for _ in range(10)]
    assert sum(len(block.rows) for block in grid.blocks(answer((wide, rows)), ["x"], BOOK)) == 10
    with pytest.raises(ProviderError) as raised:
        list(grid.blocks(answer((wide, rows), (ONE, [["a"]])), ["x", "y"], BOOK))
    assert raised.value.failure.code == "response_too_large"


@pytest.mark.parametrize("most", [1, 2, 7, 100])
def test_blocks_have_a_bounded_number_of_cells(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "BLOCK_CELLS", most)
    area, rows = Area("Leads", 1, 5, 2, 20), [[str(at), None] for at in range(9)]
    found = list(grid.blocks(answer((area, rows)), ["x"], BOOK))
    assert all(len(block.rows) * block.width <= max(most, 2) for block in found)
    assert [(block.first_row + at) for block in found for at in range(len(block.rows))] == list(range(5, 14))
