"""Columns read at once against the same columns read cell by cell: the same batch, or the same error."""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.connectors import columns, csv_block, number_columns
from app.connectors.csv_text import Form
from app.connectors.dv360 import report_csv as dv360_csv
from app.connectors.dv360 import reports as dv360
from app.connectors.ttd import reports as ttd
from app.domain.errors import Failure, ProviderError
from app.domain.messages import Offer
from app.domain.model import Field
from tests.connectors.support import HEADER as DV360_HEADER
from tests.connectors.support import offer, row
from tests.connectors.ttd import HEADER as TTD_HEADER
from tests.connectors.ttd import ttd_offer, ttd_row

MONEY = "decimal(18,6)"
NULLS = ("", "-", "--", "Unknown", "< 1000", "<1000")

whole = st.integers(-(10**6), 10**6).map(str)
places = st.tuples(st.integers(0, 10**13), st.text("0123456789", max_size=26)).map(lambda pair: f"{pair[0]}.{pair[1]}")
thousands = st.integers(-(10**13), 10**13).map(lambda number: f"{number:,}")
halves = st.tuples(
    st.integers(-99, 99), st.integers(0, 999_999), st.sampled_from(["5", "50", "500000001", "4999"])
).map(lambda parts: f"{parts[0]}.{parts[1]:06d}{parts[2]}")
edges = st.sampled_from(
    ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "9" * 12 + ".9999995", "9" * 12 + ".999999",
     "0x1F", "0X1f", "1e3", "1E-7", "+5", "1" * 39, "9" * 38 + ".5", "340282366920938463463374607431768211457",
     "1,23", "1,234.5", "1_000", "NaN", "inf", ".", "1.", ".5", "-", "-0", "-.5", "0.-5", "٣", "½", "1 2", "\u00a05",
     "00012", "1.0", "\t7", "7\r"]
)  # fmt: skip
cells = st.one_of(
    whole, places, thousands, halves, edges, st.sampled_from(NULLS), whole.map(" {} ".format), st.text(max_size=4)
)
texts = st.text(st.sampled_from('ab,"\n é日1'), max_size=4)


def told(form: Form, job: Offer, fields: tuple[Field, ...], header: tuple[str, ...], rows: list[list[str]]) -> Any:
    """The batch as rows with its types, or what is wrong."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    try:
        plan = csv_block.layout(form, job, fields, header)
        batch = csv_block.parse(out.getvalue().encode("utf-8", "replace"), plan)
    except ProviderError as error:
        return error.failure
    batch.validate(full=True)
    return [str(kind) for kind in batch.schema.types], batch.to_pylist()


def both(monkeypatch: pytest.MonkeyPatch, *given_: Any) -> tuple[Any, Any]:
    at_once = told(*given_)
    with monkeypatch.context() as patched:
        patched.setattr(csv_block, "typed", lambda *_: None)
        return at_once, told(*given_)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=5))
@example([("1", "2", "3", "4"), ("", "-", "< 1000", "1,234.5"), (" 7 ", "8", "0.1234565", "0.12345650000000001")])
def test_metrics_of_dv360(rows: list[tuple[str, ...]]) -> None:
    job = offer()
    lines = [[*row(1)[:5], *cells] for cells in rows]
    with pytest.MonkeyPatch.context() as patch:
        at_once, by_cell = both(patch, dv360_csv._FORM, job, dv360.columns(job), tuple(DV360_HEADER), lines)
    assert at_once == by_cell


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(whole | edges, cells, halves | places, thousands | edges), min_size=1, max_size=4))
def test_metrics_of_ttd(rows: list[tuple[str, ...]]) -> None:
    job = ttd_offer("poll")
    lines = [[*ttd_row(1)[:5], *cells] for cells in rows]
    with pytest.MonkeyPatch.context() as patch:
        at_once, by_cell = both(patch, ttd.FORM, job, ttd.columns(job), tuple(TTD_HEADER), lines)
    assert at_once == by_cell


@pytest.mark.parametrize("kind", ["int64", MONEY])
def test_every_short_cell(kind: str) -> None:
    """All texts of up to four of the signs that numbers are made of."""
    field = next(field for field in dv360.CAMPAIGN_PERFORMANCE.fields if field.kind == kind)
    plan = csv_block.layout(dv360_csv._FORM, offer(), [field], tuple(DV360_HEADER))
    read = 0
    for length in range(5):
        for signs in itertools.product("05-. ,x", repeat=length):
            column = pa.array(["".join(signs)], pa.string())
            found = number_columns.typed(column, kind, NULLS)
            if found is not None:
                read += 1
                assert found.equals(csv_block._cell_by_cell(column, field, plan)), signs
    assert read > 100


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("int64", ["0", "12", "-5", "9223372036854775807"]), (MONEY, ["0", "1.5", "-2.25", "123456789012.345678"]),
        ("int64", ["7", *NULLS]), (MONEY, ["7.5", " ", *NULLS]), ("int64", ["1,234,567", "5", " 6"]),
        (MONEY, ["1,234.5", "-12,345", "1"]), (MONEY, ["0.1234565", "0.1234575", "-1.00000050000001", "3", ""]),
    ],
)  # fmt: skip
def test_usual_columns_are_read_at_once(kind: str, column: list[str]) -> None:
    assert number_columns.typed(pa.array(column), kind, NULLS) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(texts, max_size=8) | st.tuples(texts, st.integers(1, 6)).map(lambda pair: [pair[0]] * pair[1]), st.data()
)
def test_words_are_the_texts(column: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(column)))
    found = columns.words(pa.array(column, pa.string()).slice(start))
    found.validate(full=True)
    assert found.type == pa.dictionary(pa.int32(), pa.string())
    assert found.to_pylist() == column[start:]
    assert len(set(found.dictionary.to_pylist())) == len(found.dictionary)


def test_words_that_only_add_up_to_one_word() -> None:
    assert columns.words(pa.array(["a", "aaa", "aa"])).to_pylist() == ["a", "aaa", "aa"]


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=30),
    st.sampled_from(["2026/11/08", "2026/1/1", "x", ""]),
    st.data(),
)
def test_days_in_any_order(days: list[int], wrong: str, data: st.DataObject) -> None:
    job, header = offer(), tuple(DV360_HEADER)
    lines = [row(day, str(n)) for n, day in enumerate(days)]
    _, found = told(dv360_csv._FORM, job, dv360.columns(job), header, lines)
    assert [each["date"].day for each in found] == days
    lines[data.draw(st.integers(0, len(days) - 1))][0] = wrong
    assert isinstance(told(dv360_csv._FORM, job, dv360.columns(job), header, lines), Failure)
