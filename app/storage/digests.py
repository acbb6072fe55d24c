"""A 64-bit digest per row, summed per day: equal days have equal digests, whatever the order of their rows.

Column by column in Arrow, since a loop over rows would cost more than writing the file. A null adds nothing, so a
column that is added later and is null everywhere leaves old digests as they are. Not cryptographic: it tells restated
days from same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

MASK = (1 << 64) - 1
_MOST_WORDS = 65_536
"""Words of a column whose hashes are kept."""
_MOST_RUNS = 64
"""Runs of equal days in a batch that are summed one by one; reports come day by day, as a rule."""
_SAME = frozenset({"connector_id", "account_id", "time_zone"})
"""Columns that are one value in all files of a data set: they cannot tell two of its days apart."""

# Constants and shifts of the finaliser of SplitMix64 (Steele, Lea, Flood, 2014): every input bit reaches every output
# bit.
_SHIFTS = tuple(pa.scalar(shift, pa.uint64()) for shift in (30, 27, 31))
_FACTORS = tuple(pa.scalar(factor, pa.uint64()) for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_LOW = pa.scalar(0xFFFFFFFF, pa.uint64())
_HALF = pa.scalar(32, pa.uint64())
_NO_WORDS = (pa.array([], pa.string()), pa.array([], pa.uint64()))
_ZERO = pa.scalar(0, pa.uint64())


class DayDigests:
    """Rows and digest of each day, fed batch by batch."""

    def __init__(self) -> None:
        self.days: dict[int, tuple[int, int]] = {}
        self._known: dict[str, tuple[pa.Array, pa.Array]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts a batch that has a ``date`` column of days since the epoch, as Arrow stores them."""
        if not batch.num_rows:
            return
        hashes = self._rows(batch)
        day = batch.column("date").view(pa.int32())
        # Halves, because their sums cannot overflow within one batch.
        for one, rows, high, low in _by_day(day, pc.shift_right(hashes, _HALF), pc.bit_wise_and(hashes, _LOW)):
            known, digest = self.days.get(one, (0, 0))
            self.days[one] = (known + rows, (digest + (high << 32) + low) & MASK)

    def _rows(self, batch: pa.RecordBatch) -> pa.Array:
        # A sum of values times odd constants drawn per column; the last step hides that it is linear.
        total, everywhere = None, 0
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in _SAME:
                continue
            seed, factor = (_word(word + name.encode()) | 1 for word in (b"+", b"*"))
            weighed = self._weighed(name, column, factor)
            if column.null_count:
                weighed = pc.fill_null(pc.add(weighed, _number(seed * factor)), _ZERO)
            else:
                everywhere += seed * factor  # the same in every row, so it is added once
            total = weighed if total is None else pc.add(total, weighed)
        if total is None:
            return _mixed(pa.repeat(_number(everywhere), batch.num_rows))
        return _mixed(pc.add(total, _number(everywhere)))

    def _weighed(self, name: str, column: pa.Array, factor: int) -> pa.Array:
        """Each value as one 64-bit number, times ``factor``: different values, different numbers."""
        kind = column.type
        if pa.types.is_int64(kind):
            numbers = column.view(pa.uint64())
        elif pa.types.is_date32(kind):
            numbers = column.view(pa.int32()).cast(pa.int64()).view(pa.uint64())
        elif pa.types.is_decimal(kind):
            numbers = column.cast(pa.decimal64(kind.precision, kind.scale)).view(pa.int64()).view(pa.uint64())
        elif pa.types.is_list(kind):
            numbers = pa.array([_word(repr(texts).encode()) for texts in column.to_pylist()], pa.uint64())
        else:
            # By word and not by row: there are fewer.
            encoded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
            return pc.multiply(self._hashed(name, encoded.dictionary), _number(factor)).take(encoded.indices)
        return pc.multiply(numbers, _number(factor))

    def _hashed(self, name: str, words: pa.Array) -> pa.Array:
        """The hash of each word; those of earlier batches are looked up, since batches hold much the same words."""
        known, hashes = self._known.get(name, _NO_WORDS)
        places = pc.index_in(words, value_set=known)
        if places.null_count:
            new = words.filter(places.is_null())
            if len(known) + len(new) > _MOST_WORDS:
                known, hashes, new = *_NO_WORDS, words
            found = pa.array([_word(text) for text in new.cast(pa.binary()).to_pylist()], pa.uint64())
            known, hashes = pa.concat_arrays([known, new]), pa.concat_arrays([hashes, found])
            self._known[name] = (known, hashes)
            places = pc.index_in(words, value_set=known)
        return hashes.take(places)


def _by_day(day: pa.Array, high: pa.Array, low: pa.Array) -> Iterator[tuple[int, int, int, int]]:
    """(day, its rows, sum of high, sum of low); a day that comes in several runs may come several times."""
    runs = pc.run_end_encode(day)
    if len(runs.values) > _MOST_RUNS:
        table = pa.table([day, high, low], names=["day", "high", "low"])
        sums = table.group_by("day", use_threads=False).aggregate([("low", "count"), ("high", "sum"), ("low", "sum")])
        yield from zip(*(column.to_pylist() for column in sums.columns), strict=True)
        return
    start = 0
    for one, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        sums = [pc.sum(half.slice(start, end - start)).as_py() for half in (high, low)]
        yield one, end - start, sums[0], sums[1]
        start = end


def _number(value: int) -> pa.Scalar:
    return pa.scalar(value & MASK, pa.uint64())


def _word(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mixed(numbers: pa.Array) -> pa.Array:
    first, second = _FACTORS
    numbers = pc.multiply(pc.bit_wise_xor(numbers, pc.shift_right(numbers, _SHIFTS[0])), first)
    numbers = pc.multiply(pc.bit_wise_xor(numbers, pc.shift_right(numbers, _SHIFTS[1])), second)
    return pc.bit_wise_xor(numbers, pc.shift_right(numbers, _SHIFTS[2]))
