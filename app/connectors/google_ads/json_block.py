"""Turns rows of searchStream into Arrow record batches, exactly typed. Imported only when a report is read (pyarrow is
heavy).

Columns are pulled out of the rows as lists and handed to Arrow whole. No figure passes through a float: an int64 is
text in this JSON, and so are conversions once ``quoted`` has put them between quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.connectors.failures import bad_response, shown
from app.connectors.google_ads.cutter import results, unreadable
from app.connectors.google_ads.reports import place
from app.domain.errors import ProviderError
from app.domain.messages import Offer
from app.domain.model import Field

ROWS = 20_000
"""Most rows of one batch."""

_KINDS = {"string": pa.string(), "date": pa.date32(), "int64": pa.int64(), "decimal(18,6)": pa.decimal128(18, 6)}
_UNIT = Decimal("0.000001")
_EPOCH = 719_163
"""Ordinal of 1970-01-01, from which Arrow counts."""

_TEXT, _DIGITS = re.compile("(?s).*"), re.compile("[-+.0-9eE]+")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,2})?")
# Not inside a text: there the quote before the colon would have a backslash.
_CONVERSIONS = re.compile(rb'"conversions":\s*(-?[0-9][0-9.eE+-]*)')
_PLAIN = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
"""A number that needs no rounding. Arrow is given no others: it lets numbers of more than 38 digits wrap (26.0)."""

_NOTHING: dict[str, Any] = {}
Parts = Mapping[str, list[Any]]
"""Resource -> of each row the object that holds its members."""


def parse(elements: Sequence[bytes], offer: Offer, fields: Sequence[Field]) -> list[pa.RecordBatch]:
    """Elements of the answer -> batches in the order of ``fields``. Raises ``ProviderError``: what an element refuses
    with, or provider_response."""
    rows = [row for element in elements for row in results(quoted(element))]
    if not rows:
        return []
    parts = _parts(rows, fields)
    arrays = [_array(field, parts, offer, len(rows)) for field in fields]
    whole = pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])
    return [whole.slice(at, ROWS) for at in range(0, len(rows), ROWS)]


def quoted(element: bytes) -> bytes:
    """The element with its conversions as text, just as they were written."""
    parts = _CONVERSIONS.split(element)  # text, number, text, number, ..., text
    parts[1::2] = [b'"conversions":"%b"' % number for number in parts[1::2]]
    return b"".join(parts)


def _parts(rows: Sequence[Any], fields: Sequence[Field]) -> Parts:
    resources = {place(field.provider_name)[0] for field in fields if field.provider_name}
    try:
        return {resource: [row.get(resource, _NOTHING) for row in rows] for resource in resources}
    except AttributeError:
        raise unreadable("a row of the answer is no object") from None


def _array(field: Field, parts: Parts, offer: Offer, count: int) -> pa.Array:
    facts = offer.connector
    if field.name in ("connector_id", "time_zone"):
        return pa.repeat(pa.scalar(getattr(facts, field.name), pa.string()), count)
    if not field.provider_name:
        return pa.nulls(count, _KINDS[field.kind])
    values = _values(field, parts)
    if field.name == "account_id":
        return _account(values, facts.account_id)
    try:
        array = _reader(field)(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, InvalidOperation):
        array = None
    if array is None:
        raise _bad_value(field, values)
    if not field.nullable and array.null_count:
        raise bad_response("missing_column", f"a row of the answer lacks {field.provider_name}", retryable=False)
    if field.kind == "date":
        _check_days(array, offer)
    return array


def _values(field: Field, parts: Parts) -> list[Any]:
    resource, member = place(field.provider_name)
    # A metric of zero may be left out (proto3 JSON); so may an empty name.
    default = "0" if field.role == "metric" else None
    try:
        return [part.get(member, default) for part in parts[resource]]
    except AttributeError:
        raise unreadable(f"{shown(resource)} of a row is no object") from None


def _reader(field: Field) -> Callable[[list[Any]], pa.Array]:
    if field.provider_name.endswith("_micros"):
        return _micros
    return {"string": _texts, "date": _days, "int64": _whole, "decimal(18,6)": _decimals}[field.kind]


def _texts(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.string())


def _days(values: list[Any]) -> pa.Array:
    return _texts(values).cast(pa.date32())


def _whole(values: list[Any]) -> pa.Array:
    return _texts(values).cast(pa.int64())


def _micros(values: list[Any]) -> pa.Array:
    """Millionths as they are: the same digits, read with six of them behind the point."""
    whole = _whole(values).cast(pa.decimal128(19, 0))
    array = pa.Array.from_buffers(_KINDS["decimal(18,6)"], len(whole), whole.buffers())
    array.validate(full=True)
    return array


def _decimals(values: list[Any]) -> pa.Array:
    texts = _texts(values)
    if not pc.all(pc.match_substring_regex(texts, f"^{_PLAIN.pattern}$")).as_py():
        texts = _texts([value if value is None or _PLAIN.fullmatch(value) else _rounded(value) for value in values])
    return texts.cast(_KINDS["decimal(18,6)"])


def _rounded(text: str) -> str:
    """Six places, half to even. Raises ``InvalidOperation`` for what is no number or far too large."""
    if not _NUMBER.fullmatch(text):
        raise InvalidOperation
    return f"{Decimal(text).quantize(_UNIT, rounding=ROUND_HALF_EVEN):f}"


def _account(values: list[Any], account_id: str) -> pa.Array:
    if any(value != account_id for value in set(map(str, values))):
        raise bad_response("wrong_account", "the report holds rows of another account", retryable=False)
    return pa.repeat(pa.scalar(account_id, pa.string()), len(values))


def _check_days(days: pa.Array, offer: Offer) -> None:
    ends = pc.min_max(days.cast(pa.int32())).as_py()
    if not offer.start - _EPOCH <= ends["min"] <= ends["max"] <= offer.end - _EPOCH:
        raise bad_response("date_out_of_range", "the report holds a day that was not asked for", retryable=False)


def _bad_value(field: Field, values: list[Any]) -> ProviderError:
    likely = _TEXT if field.kind == "string" else _DIGITS
    wrong = [value for value in values if not (isinstance(value, str) and likely.fullmatch(value))]
    told = [shown(str(value), 60) for value in wrong if value is not None]
    said = f"holds {told[0]!r}" if told else "holds a value out of range"
    return bad_response("bad_value", f"{field.provider_name} {said}", retryable=False)
