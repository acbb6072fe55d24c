"""Merging in a window: the same batches in whatever order the commands came, and none that overlap left apart."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.coverage import add
from app.domain.messages import Accept
from app.testing.planning import NOW, REPORT, TODAY, batches, facts, quota, rules, stored, take
from tests.property.merging_model import accepts_of, closed

QUICK = settings(max_examples=150, deadline=None)
WAITING = rules([quota()], backfill_slice_days=100_000)

asked = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.integers(0, 6),
        st.sampled_from([(), ("reach",), ("views",)]),
        st.sampled_from([1, 2, 3, 5]),
        st.integers(0, 2 * WAITING.window_ms - 1),
        st.sampled_from([1, 1, 2]),
        st.booleans(),
    ),
    max_size=8,
)


def merged(accepts: list[Accept]) -> list[tuple[object, ...]]:
    """What is fetched for them: members, window, days, columns, priority and place of every batch."""
    state = closed(WAITING)
    for message in accepts:
        take(state, message, at=NOW)
    for row in state.requests.values():
        assert set(row.parts) == {b.batch_id for b in batches(state) if row.accept.request_id in b.members}
    found = [
        (sorted(b.members), b.window, b.data_set, b.start, b.end, b.extras, b.priority_class, b.accepted_at)
        for b in batches(state)
    ]
    return sorted(found, key=repr)


def closure(accepts: list[Accept]) -> list[tuple[object, ...]]:
    """The same by definition: the smallest groups of one data set and window that no overlap of days crosses."""
    groups: list[list[Accept]] = []
    for message in accepts:
        near = [g for g in groups if any(joins(message, other) for other in g)]
        groups = [g for g in groups if g not in near] + [[message, *(a for g in near for a in g)]]
    rows = [
        (
            sorted(a.request_id for a in g),
            g[0].accepted_at // WAITING.window_ms,
            f"{g[0].connector.connector_id}|{REPORT}",
            min(a.start for a in g),
            max(a.end for a in g),
            tuple(sorted({f for a in g for f in a.fields})),
            min(a.priority_class for a in g),
            min(a.accepted_at for a in g),
        )
        for g in groups
    ]
    return sorted(rows, key=repr)


def joins(one: Accept, other: Accept) -> bool:
    window = WAITING.window_ms
    same = one.connector == other.connector and one.accepted_at // window == other.accepted_at // window
    return same and one.start <= other.end and other.start <= one.end


@QUICK
@given(asked.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(accepts_of(rows)))))
def test_batches_are_the_closure_of_overlap_in_any_order_of_arrival(
    drawn: tuple[list[tuple[int, int, tuple[str, ...], int, int, int, bool]], list[Accept]],
) -> None:
    rows, order = drawn
    assert merged(order) == closure(accepts_of(rows))


@QUICK
@given(asked, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=4))
def test_with_days_held_every_other_day_is_in_a_batch_that_its_requests_wait_for(
    rows: list[tuple[int, int, tuple[str, ...], int, int, int, bool]], held: list[tuple[int, int]]
) -> None:
    state = closed(WAITING)
    key = f"{facts().connector_id}|{REPORT}"
    data = state.data_set(key)
    for version, (ago, length) in enumerate(held, 1):
        file = stored(TODAY - ago - length, TODAY - ago, name=str(version))
        data = add(data, file, version=version, read_at=NOW - 1_000, columns=("date", "impressions", "clicks"))
    state.store(f"c/{key}", data)
    for message in accepts_of(rows):
        take(state, message, at=NOW)
    have = {day for run in data.runs for day in range(run.start, run.end + 1)}
    for row in state.requests.values():
        accept_ = row.accept
        reusable = have if not accept_.force and not accept_.fields and accept_.connector == facts() else set()
        waited = {d for p in row.parts for d in range(state.batches[p].start, state.batches[p].end + 1)}
        assert set(range(accept_.start, accept_.end + 1)) - reusable <= waited
        assert all(row.accept.request_id in state.batches[p].members for p in row.parts)
    for one in batches(state):
        assert not any(
            one.batch_id < b.batch_id
            and b.data_set == one.data_set
            and b.window == one.window
            and b.days.overlaps(one.days)
            for b in batches(state)
        )
