"""Columns of cells to exactly typed Arrow arrays, a whole column at a time. Imported only when a report is read
(pyarrow is heavy).

Only forms of which Arrow's reading is known to be exact are read here; any other is left to whoever looks at cells one
by one. What tells them apart is which signs a column holds and how long its cells are: both cost next to nothing,
where a pattern per cell would cost more than the reading. Unguarded, Arrow takes ``0x1F`` for a whole number and lets
numbers of more than 38 digits wrap (26.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from app.connectors.columns import KINDS, text_of

_SIGNS = {"int64": b"0123456789-", "decimal(18,6)": b"0123456789-."}
_LONGEST = 20
"""Characters of a number of 18 digits, its sign and its point; a whole number of 64 bits has no more."""

_WIDE = pa.decimal128(38, 24)
_TO_ROUND = "^-?[0-9]{1,13}([.][0-9]{0,24})?$"
_THOUSANDS = "^-?[0-9]{1,3}(,[0-9]{3})+([.][0-9]+)?$"


def typed(cells: pa.Array, kind: str, nulls: Sequence[str]) -> pa.Array | None:
    """Texts of a metric's column as ``kind`` (``int64``; ``decimal(18,6)``, rounded half to even); ``nulls`` are cells
    that tell nothing. None: some cell has to be looked at by itself."""
    found = _plain(cells, kind)
    if found is None:
        cells = _tidied(cells, nulls)
        found = _plain(cells, kind)
    if found is None and kind != "int64":
        found = _rounded(cells)
    return found


def _plain(cells: pa.Array, kind: str) -> pa.Array | None:
    if text_of(cells).translate(None, _SIGNS[kind]) or (pc.max(pc.binary_length(cells)).as_py() or 0) > _LONGEST:
        return None
    try:
        return cells.cast(KINDS[kind])
    except pa.ArrowInvalid:
        return None


def _tidied(cells: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Without space around them, without thousands separators, and with null for what tells nothing."""
    text = text_of(cells)
    if b" " in text:
        cells = pc.ascii_trim(cells, characters=" ")
    if b"," in text:
        cells = pc.if_else(pc.match_substring_regex(cells, _THOUSANDS), pc.replace_substring(cells, ",", ""), cells)
    told = pc.invert(pc.is_in(cells, value_set=pa.array(nulls, pa.string())))
    emptied = pc.if_else(told, cells, "")  # first, since a null keeps the text it replaces
    return pc.if_else(told, emptied, pa.scalar(None, pa.string()))


def _rounded(cells: pa.Array) -> pa.Array | None:
    if not pc.all(pc.match_substring_regex(cells, _TO_ROUND)).as_py():
        return None
    try:
        return pc.round(cells.cast(_WIDE), ndigits=6, round_mode="half_to_even").cast(KINDS["decimal(18,6)"])
    except pa.ArrowInvalid:
        return None
