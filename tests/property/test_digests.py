"""Digests per day against the same sum made row by row in plain integers, however the rows are cut and encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.storage import digests
from app.storage.digests import DayDigests

MASK = (1 << 64) - 1
SCHEMA = pa.schema(
    [
        ("connector_id", pa.string()),
        ("date", pa.date32()),
        ("campaign_id", pa.string()),
        ("campaign_name", pa.string()),
        ("clicks", pa.int64()),
        ("spend", pa.decimal128(18, 6)),
    ]
)
words = st.sampled_from(["", "a", "b", "ab", "é", "c" * 40])
rows = st.tuples(
    st.just("conn_1"),
    st.integers(20_000, 20_006).map(lambda day: date.fromordinal(719_163 + day)),
    words,
    words | st.none(),
    st.integers(-(2**63), 2**63 - 1) | st.none(),
    st.decimals(-(10**12) + 1, 10**12 - 1, places=6) | st.none(),
)


def blake(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def mixed(number: int) -> int:
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def as_number(value: Any) -> int:
    if isinstance(value, date):
        return value.toordinal() - 719_163
    if isinstance(value, Decimal):
        return int(value.scaleb(6))
    return blake(value.encode()) if isinstance(value, str) else int(value)


def model(given_rows: Sequence[tuple[Any, ...]]) -> dict[int, tuple[int, int]]:
    days: dict[int, tuple[int, int]] = {}
    for row in given_rows:
        total = 0
        for name, value in zip(SCHEMA.names, row, strict=True):
            if value is not None and name != "connector_id":
                seed, factor = blake(b"+" + name.encode()) | 1, blake(b"*" + name.encode()) | 1
                total += (as_number(value) + seed) * factor
        day = as_number(row[1])
        count, digest = days.get(day, (0, 0))
        days[day] = (count + 1, (digest + mixed(total & MASK)) & MASK)
    return days


def batch(given_rows: Sequence[tuple[Any, ...]], *, encoded: bool) -> pa.RecordBatch:
    plain = pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in given_rows], schema=SCHEMA)
    if not encoded:
        return plain
    arrays = [column.dictionary_encode() if column.type == pa.string() else column for column in plain.columns]
    return pa.RecordBatch.from_arrays(arrays, names=plain.schema.names)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(rows, max_size=12), min_size=1, max_size=4), st.booleans(), st.sampled_from([0, 3, 64]),
    st.sampled_from([1, 3, 65_536]),
)  # fmt: skip
def test_digests_are_those_of_the_model(blocks: list[list[Any]], encoded: bool, runs: int, kept: int) -> None:
    found = DayDigests()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "_MOST_RUNS", runs)
        patch.setattr(digests, "_MOST_WORDS", kept)
        for block in blocks:
            found.add(batch(block, encoded=encoded))
    assert found.days == model([row for block in blocks for row in block])


def test_only_so_many_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_MOST_WORDS", 10)
    found = DayDigests()
    for start in range(0, 100, 5):
        words_of = [str(n) for n in range(start, start + 5)]
        found.add(batch([("c", date(2026, 1, 1), word, "x", 1, Decimal(1)) for word in words_of], encoded=True))
        assert len(found._known["campaign_id"][0]) <= 10
