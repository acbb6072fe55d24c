"""The ordered set against a sorted list."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import ranked
from app.domain.ranked import Ranked

keys = st.tuples(st.integers(0, 12), st.sampled_from("ab"))


@settings(max_examples=300, deadline=None)
@given(st.lists(keys, max_size=30), st.lists(st.tuples(st.booleans(), keys), max_size=80))
def test_it_is_a_sorted_list(first: list[tuple[int, str]], steps: list[tuple[bool, tuple[int, str]]]) -> None:
    # Blocks so small that every way of cutting and dropping one is taken.
    with patch.object(ranked, "BLOCK", 4):
        found, model = Ranked(first), set(first)
        for put, key in steps:
            if put:
                found.add(key)
                model.add(key)
            else:
                found.remove(key)
                model.discard(key)
            order = sorted(model)
            assert (list(found), len(found), bool(found)) == (order, len(order), bool(order))
            assert found.first == (order[0] if order else None)
            assert [found.rank((n, "a")) for n in range(-1, 14)] == [
                sum(one < (n, "a") for one in order) for n in range(-1, 14)
            ]


@pytest.mark.parametrize("backwards", [False, True])
def test_order_of_arrival_does_not_matter(backwards: bool) -> None:
    found: Ranked[tuple[int]] = Ranked()
    for n in sorted(range(5_000), reverse=backwards):
        found.add((n,))
    assert [found.rank((n,)) for n in range(5_000)] == list(range(5_000))
    for n in range(0, 5_000, 2):
        found.remove((n,))
    assert [found.rank((n,)) for n in range(1, 5_000, 2)] == list(range(2_500))
