"""The index of open batches by their days against a look at all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.day_index import DayIndex
from app.domain.model import Days

days = st.tuples(st.integers(0, 130), st.integers(0, 70)).map(lambda given: Days(given[0], sum(given)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "put", "drop"]), st.sampled_from("abcdef"), days), max_size=30), days)
def test_it_finds_what_overlaps(steps: list[tuple[str, str, Days]], asked: Days) -> None:
    index, model = DayIndex(), dict[str, Days]()
    for what, name, where in steps:
        if what == "put":
            index.put("set", name, where)
            model[name] = where
        else:
            index.drop(name)
            model.pop(name, None)
        index.put("other", "elsewhere", where)
    found = list(index.overlapping("set", asked))
    assert sorted(found) == sorted(name for name, mine in model.items() if mine.overlaps(asked))
    assert len(index) == len(model) + bool(steps)
    for name in (*model, "elsewhere"):
        index.drop(name)
    assert not index._cells
