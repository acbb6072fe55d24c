"""Parses blocks of rows into Arrow record batches, exactly typed. Imported only when a report is read (pyarrow is
heavy).

The fast way lets pyarrow convert whole columns; a block it refuses is read again as text, cell by cell where needed,
which either makes sense of it (thousands separators, more than six decimals) or says which column does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from app.connectors.csv_text import Form, bad_value, number
from app.connectors.failures import bad_response, shown
from app.domain.messages import Offer
from app.domain.model import Field

_KINDS = {"string": pa.string(), "date": pa.date32(), "int64": pa.int64(), "decimal(18,6)": pa.decimal128(18, 6)}
_WORDS = pa.dictionary(pa.int32(), pa.string())
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
    try:
        columns = _read(block, plan, _fast_types(plan))
    except pa.ArrowInvalid:
        columns = _slow(block, plan)
    rows = len(next(iter(columns.values())))
    arrays = [_array(field, columns, plan, rows) for field in plan.fields]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in plan.fields])


def empty(fields: Sequence[Field]) -> pa.RecordBatch:
    """A batch of no rows with the types of ``fields``."""
    return pa.RecordBatch.from_arrays(
        [pa.array([], _KINDS[field.kind]) for field in fields], names=[field.name for field in fields]
    )


def _fast_types(plan: Layout) -> dict[str, pa.DataType]:
    # Dates, ids and names repeat from row to row: as dictionaries each word is looked at once per block.
    return {
        field.name: _KINDS[field.kind] if field.role == "metric" else _WORDS
        for field in plan.fields
        if field.name in plan.places
    }


def _read(block: bytes, plan: Layout, types: dict[str, pa.DataType]) -> dict[str, pa.Array]:
    names = [f"_{place}" for place in range(len(plan.header))]
    for name, place in plan.places.items():
        names[place] = name
    table = pacsv.read_csv(
        pa.py_buffer(block),
        read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
        parse_options=pacsv.ParseOptions(newlines_in_values=b'"' in block),
        convert_options=pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=list(plan.form.nulls),
            strings_can_be_null=False,
        ),
    )
    columns = {name: table.column(name).combine_chunks() for name in types}
    for column in columns.values():
        if pa.types.is_decimal(column.type):
            column.validate(full=True)  # the CSV reader itself lets numbers of too many digits pass
    return columns


def _slow(block: bytes, plan: Layout) -> dict[str, pa.Array]:
    texts = {name: pa.string() if kind != _WORDS else kind for name, kind in _fast_types(plan).items()}
    try:
        columns = _read(block, plan, texts)
    except pa.ArrowInvalid as error:
        code = "bad_encoding" if "UTF8" in str(error) or "UTF-8" in str(error) else "malformed_csv"
        failure = bad_response(code, "a row of the report cannot be read", retryable=False)
    else:
        for field in plan.fields:
            if field.role == "metric" and field.name in plan.places:
                columns[field.name] = _metric(columns[field.name], field, plan)
        return columns
    raise failure


def _metric(column: pa.Array, field: Field, plan: Layout) -> pa.Array:
    header, nulls = plan.header_of(field), plan.form.nulls
    values = [None if cell.strip() in nulls else _exact(cell, field, header) for cell in column.to_pylist()]
    try:
        return pa.array(values, _KINDS[field.kind])
    except (pa.ArrowInvalid, OverflowError):
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
        return pa.repeat(pa.scalar(facts.connector_id, pa.string()), rows)
    if field.name == "time_zone":
        return pa.repeat(pa.scalar(facts.time_zone, pa.string()), rows)
    if field.name not in columns:
        # A file that was asked for by account, and is that account's alone, need not name it.
        only = facts.account_id if field.name == "account_id" else None
        return pa.repeat(pa.scalar(only, _KINDS[field.kind]), rows)
    column = columns[field.name]
    if field.kind == "date":
        return _dates(column, plan)
    if field.name == "account_id":
        _check_account(column, facts.account_id)
    return column.cast(_KINDS[field.kind])


def _dates(column: Any, plan: Layout) -> pa.Array:
    days = pa.array([_day(word, plan) for word in column.dictionary.to_pylist()], pa.date32())
    return days.take(column.indices)


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
