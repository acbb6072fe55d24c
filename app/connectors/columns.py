"""Columns of texts, as a provider's JSON holds its figures, to exactly typed Arrow arrays: no figure passes through a
float. Imported only when a report is read (pyarrow is heavy)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.connectors.failures import bad_response, shown
from app.domain.errors import ProviderError
from app.domain.messages import Offer
from app.domain.model import Field

KINDS = {"string": pa.string(), "date": pa.date32(), "int64": pa.int64(), "decimal(18,6)": pa.decimal128(18, 6)}
Reader = Callable[[list[Any]], pa.Array]
"""Texts (or None) of one column -> its array. Raises Arrow's errors, or ``InvalidOperation``."""

_UNIT = Decimal("0.000001")
_EPOCH = 719_163
"""Ordinal of 1970-01-01, from which Arrow counts."""

_TEXT, _DIGITS = re.compile("(?s).*"), re.compile("[-+.0-9eE]+")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,2})?")
_PLAIN = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
"""A number that needs no rounding. Arrow is given no others: it lets numbers of more than 38 digits wrap (26.0)."""


def array_of(field: Field, values: list[Any], offer: Offer, read: Reader | None = None) -> pa.Array:
    """The column ``field`` of an answer to ``offer``; ``read`` where its texts are not written as its kind is. Raises
    ``ProviderError``: bad_value, missing_column, wrong_account, date_out_of_range."""
    if field.name == "account_id":
        return _account(values, offer.connector.account_id)
    try:
        array = (read or READERS[field.kind])(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, InvalidOperation):
        array = None
    if array is None:
        raise _bad_value(field, values)
    if not field.nullable and array.null_count:
        raise bad_response("missing_column", f"a row of the answer lacks {field.provider_name}", retryable=False)
    if field.kind == "date":
        _check_days(array, offer)
    return array


def own_array(field: Field, offer: Offer, count: int) -> pa.Array | None:
    """A column that the provider is not asked for: what the connector says, or nothing. None for another column."""
    if field.name in ("connector_id", "time_zone"):
        return repeated(getattr(offer.connector, field.name), count)
    return None if field.provider_name else pa.nulls(count, KINDS[field.kind])


def repeated(word: str, count: int) -> pa.Array:
    """A column of one word."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([word], pa.string()))


def words(cells: pa.Array) -> pa.Array:
    """Texts as a dictionary; where all are the same word, found by comparing and without hashing each of them."""
    text = text_of(cells)
    word = text[: len(text) // max(len(cells), 1)]
    lengths = pc.min_max(pc.binary_length(cells)).as_py()
    if len(cells) and lengths["min"] == lengths["max"] and text == word * len(cells):
        return repeated(word.decode(), len(cells))
    return cells.dictionary_encode()


def text_of(cells: Any) -> bytes:
    """All texts of a column with nothing between them."""
    _, ends, content = cells.buffers()
    if content is None:
        return b""
    at = memoryview(ends).cast("i")
    text: bytes = content[at[cells.offset] : at[cells.offset + len(cells)]].to_pybytes()
    return text


def texts(values: list[Any]) -> pa.Array:
    """As they are."""
    return pa.array(values, pa.string())


def whole(values: list[Any]) -> pa.Array:
    """Whole numbers of 64 bits."""
    return texts(values).cast(pa.int64())


def _days(values: list[Any]) -> pa.Array:
    return texts(values).cast(pa.date32())


def _decimals(values: list[Any]) -> pa.Array:
    found = texts(values)
    if not pc.all(pc.match_substring_regex(found, f"^{_PLAIN.pattern}$")).as_py():
        found = texts([value if value is None or _PLAIN.fullmatch(value) else rounded(value) for value in values])
    return found.cast(KINDS["decimal(18,6)"])


READERS: Mapping[str, Reader] = {"string": texts, "date": _days, "int64": whole, "decimal(18,6)": _decimals}


def rounded(text: str) -> str:
    """Six places, half to even. Raises ``InvalidOperation`` for what is no number or far too large."""
    if not _NUMBER.fullmatch(text):
        raise InvalidOperation
    return f"{Decimal(text).quantize(_UNIT, rounding=ROUND_HALF_EVEN):f}"


def _account(values: Sequence[Any], account_id: str) -> pa.Array:
    if any(value != account_id for value in set(map(str, values))):
        raise bad_response("wrong_account", "the report holds rows of another account", retryable=False)
    return repeated(account_id, len(values))


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
