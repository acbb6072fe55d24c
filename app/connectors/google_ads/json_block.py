"""Turns rows of searchStream into Arrow record batches, exactly typed. Imported only when a report is read (pyarrow is
heavy).

Columns are pulled out of the rows as lists and handed to Arrow whole. No figure passes through a float: an int64 is
text in this JSON, and so are conversions once ``quoted`` has put them between quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from app.connectors.columns import KINDS, Reader, array_of, own_array, whole
from app.connectors.failures import shown
from app.connectors.google_ads.cutter import results, unreadable
from app.connectors.google_ads.reports import place
from app.domain.messages import Offer
from app.domain.model import Field

ROWS = 20_000
"""Most rows of one batch."""

# Not inside a text: there the quote before the colon would have a backslash.
_CONVERSIONS = re.compile(rb'"conversions":\s*(-?[0-9][0-9.eE+-]*)')

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
    together = pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])
    return [together.slice(at, ROWS) for at in range(0, len(rows), ROWS)]


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
    own = own_array(field, offer, count)
    return array_of(field, _values(field, parts), offer, _reader(field)) if own is None else own


def _values(field: Field, parts: Parts) -> list[Any]:
    resource, member = place(field.provider_name)
    # A metric of zero may be left out (proto3 JSON); so may an empty name.
    default = "0" if field.role == "metric" else None
    try:
        return [part.get(member, default) for part in parts[resource]]
    except AttributeError:
        raise unreadable(f"{shown(resource)} of a row is no object") from None


def _reader(field: Field) -> Reader | None:
    return _micros if field.provider_name.endswith("_micros") else None


def _micros(values: list[Any]) -> pa.Array:
    """Millionths as they are: the same digits, read with six of them behind the point."""
    found = whole(values).cast(pa.decimal128(19, 0))
    array = pa.Array.from_buffers(KINDS["decimal(18,6)"], len(found), found.buffers())
    array.validate(full=True)
    return array
