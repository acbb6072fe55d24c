"""Parses blocks of rows into Arrow record batches, exactly typed. Imported only when a report is read (pyarrow is
heavy).

Every cell is read as text. Metrics are then converted a column at a time; a column with a cell that has to be looked at
by itself is read cell by cell, which either makes sense of it (an exponent, digits of another script) or says what is
wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from app.connectors.columns import KINDS, repeated, words
from app.connectors.csv_text import Form, bad_value, number
from app.connectors.failures import bad_response, shown
from app.connectors.number_columns import typed
from app.domain.messages import Offer
from app.domain.model import Field

_OF_THE_ACCOUNT = ("account_id", "account_name", "currency")
"""Columns that are one word in all rows, as a rule. Whoever writes the rows makes dictionaries of the others: that
thread has less to do than the one that parses."""
_UNIT = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where our columns stand in one file: ``places`` maps a column's name to its place in the header."""

    form: Form
    fields: tuple[Field, ...]
    header: tuple[str, ...]
    places: dict[str, int]
    offer: Offer

    def header_of(self, field: Field) -> str:
        return self.header[self.places[field.name]]


def layout(form: Form, offer: Offer, fields: Sequence[Field], header: tuple[str, ...]) -> Layout:
    """Finds our columns by header name. Raises ``ProviderError`` provider_response ``missing_column`` naming those
    absent."""
    places: dict[str, int] = {}
    missing = []
    for field in fields:
        names = form.headers.get(field.provider_name, ())
        place = next((header.index(name) for name in names if name in header), None)
        if place is not None:
            places[field.name] = place
        elif field.provider_name:
            missing.append(names[0])
    if missing:
        raise bad_response("missing_column", f"the report lacks the column {', '.join(missing)}", retryable=False)
    return Layout(form, tuple(fields), header, places, offer)


def parse(block: bytes, plan: Layout) -> pa.RecordBatch:
    """A block of whole rows -> one batch in the order of ``plan.fields``. Raises ``ProviderError``
    provider_response."""
    columns = _read(block, plan)
    rows = len(next(iter(columns.values())))
    arrays = [_array(field, columns, plan, rows) for field in plan.fields]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in plan.fields])


def _read(block: bytes, plan: Layout) -> dict[str, pa.Array]:
    """Our columns as texts."""
    names = [f"_{place}" for place in range(len(plan.header))]
    for name, place in plan.places.items():
        names[place] = name
    types = {field.name: KINDS["string"] for field in plan.fields if field.name in plan.places}
    try:
        table = pacsv.read_csv(
            pa.py_buffer(block),
            read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            parse_options=pacsv.ParseOptions(newlines_in_values=b'"' in block),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=list(types), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        code = "bad_encoding" if "UTF8" in str(error) or "UTF-8" in str(error) else "malformed_csv"
    else:
        return {name: table.column(name).combine_chunks() for name in types}
    raise bad_response(code, "a row of the report cannot be read", retryable=False)


def _metric(column: pa.Array, field: Field, plan: Layout) -> pa.Array:
    found = typed(column, field.kind, plan.form.nulls)
    return _cell_by_cell(column, field, plan) if found is None else found


def _cell_by_cell(column: pa.Array, field: Field, plan: Layout) -> pa.Array:
    """What ``typed`` gives as well where it gives anything, and the error where there is one."""
    header, nulls = plan.header_of(field), plan.form.nulls
    try:
        values = [None if cell.strip() in nulls else _exact(cell, field, header) for cell in column.to_pylist()]
        return pa.array(values, KINDS[field.kind])
    except (pa.ArrowInvalid, OverflowError, InvalidOperation):
        failure = bad_response(
            "bad_value", f"column {shown(header, 60)!r} holds a number out of range", retryable=False
        )
    raise failure


def _exact(cell: str, field: Field, header: str) -> int | Decimal:
    """Counts must be whole; money keeps six decimals, half to even, since the provider may show more than it bills."""
    value = number(cell, header)
    if field.kind != "int64":
        return value.quantize(_UNIT, rounding=ROUND_HALF_EVEN)
    if value != value.to_integral_value():
        raise bad_value(header, cell)
    return int(value)


def _array(field: Field, columns: dict[str, pa.Array], plan: Layout, rows: int) -> pa.Array:
    facts = plan.offer.connector
    if field.name == "connector_id":
        return repeated(facts.connector_id, rows)
    if field.name == "time_zone":
        return repeated(facts.time_zone, rows)
    if field.name not in columns:
        # A file that was asked for by account, and is that account's alone, need not name it.
        only = facts.account_id if field.name == "account_id" else None
        return pa.nulls(rows, KINDS[field.kind]) if only is None else repeated(only, rows)
    column = columns[field.name]
    if field.role == "metric":
        return _metric(column, field, plan)
    if field.kind == "date":
        return _dates(column, plan)
    if field.name in _OF_THE_ACCOUNT:
        column = words(column)
    if field.name == "account_id":
        _check_account(column, facts.account_id)
    return column


def _dates(column: pa.Array, plan: Layout) -> pa.Array:
    """Each run of equal days is looked at once; reports come day by day, as a rule."""
    runs = pc.run_end_encode(column)
    known = {word: _day(word, plan) for word in dict.fromkeys(runs.values.to_pylist())}
    days = pa.array([known[word] for word in runs.values.to_pylist()], pa.date32())
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(runs.run_ends, days))


def _day(word: str, plan: Layout) -> date:
    match = plan.form.day.fullmatch(word.strip())
    try:
        day = date(*map(int, match.groups())) if match else None
    except ValueError:
        day = None
    if day is None:
        raise bad_value("Date", word)
    if not plan.offer.start <= day.toordinal() <= plan.offer.end:
        raise bad_response("date_out_of_range", "the report holds a day that was not asked for", retryable=False)
    return day


def _check_account(column: Any, account_id: str) -> None:
    if any(word != account_id for word in column.dictionary.to_pylist()):
        raise bad_response("wrong_account", "the report holds rows of another account", retryable=False)
