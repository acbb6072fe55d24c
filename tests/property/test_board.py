"""What is told of a command beforehand is what happens to it, and telling it changes nothing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import board
from app.domain.coverage import add
from app.domain.messages import Tick
from app.domain.state import State
from app.testing.planning import NOW, REPORT, TODAY, accept, facts, quota, rules, stored, take

QUICK = settings(max_examples=150, deadline=None)
ranges = st.tuples(st.integers(0, 20), st.integers(0, 6))
asked = st.tuples(ranges, st.sampled_from([(), ("reach",)]), st.sampled_from([1, 3, 5]), st.booleans())


def planner(closed: bool, held: list[tuple[int, int]]) -> State:
    """One that dispatches nothing, or one with room for everything; some days are held already."""
    state = State(rules([quota(limit=50)]), now=NOW)
    key = f"{facts().connector_id}|{REPORT}"
    data = state.data_set(key)
    for version, (ago, length) in enumerate(held, 1):
        file = stored(TODAY - ago - length, TODAY - ago, name=str(version))
        data = add(data, file, version=version, read_at=NOW - 1_000, columns=("date", "impressions", "clicks"))
    state.store(f"c/{key}", data)
    if closed:
        state.limits_of_type("DV360").close("per_second|", NOW + 60_000)
    return state


@QUICK
@given(st.booleans(), st.lists(ranges, max_size=3), st.lists(asked, max_size=6), asked)
def test_a_plan_is_what_then_happens(
    closed: bool,
    held: list[tuple[int, int]],
    earlier: list[tuple[tuple[int, int], tuple[str, ...], int, bool]],
    last: tuple[tuple[int, int], tuple[str, ...], int, bool],
) -> None:
    state = planner(closed, held)
    made = [
        accept(n, TODAY - ago - length, TODAY - ago, fields=fields, priority_class=priority, force=force)
        for n, ((ago, length), fields, priority, force) in enumerate([*earlier, last], 1)
    ]
    for message in made[:-1]:
        take(state, message)
    # Among batches of one instant the id decides, and a plan does not know the ids of new ones.
    made[-1] = replace(made[-1], accepted_at=NOW + 1)
    take(state, Tick(), at=NOW + 1)
    before = {name: copy.deepcopy(getattr(state, name)) for name in ("batches", "requests", "data_sets")}
    line = pickle.dumps(state.queue)
    there = set(state.batches)
    plan = board.plan(state, made[-1], state.now)
    assert {name: getattr(state, name) for name in before} == before
    assert pickle.dumps(state.queue) == line

    take(state, made[-1])
    request = state.requests.get(made[-1].request_id)
    parts = {} if request is None else {p: state.batches[p] for p in request.parts}
    new = {p: b for p, b in parts.items() if p not in there}
    assert plan.held + plan.running + plan.to_fetch == plan.asked == made[-1].end - made[-1].start + 1
    assert (request is None) == (plan.outcome == "reuse")
    assert {b.batch_id for b in plan.batches} - plan.new == set(parts) - set(new)
    assert sorted((b.start, b.end) for b in plan.batches) == sorted((b.start, b.end) for b in parts.values())
    assert plan.calls == {"reports": 3 * len(new)}
    if closed and plan.position is not None:
        assert plan.position == min(state.queue.position(p) or 0 for p in parts)


@QUICK
@given(st.lists(st.tuples(ranges, st.integers(1, 3)), max_size=8))
def test_indexes_of_requests_are_their_rows_counted_anew(rows: list[tuple[tuple[int, int], int]]) -> None:
    state = State(rules([quota(limit=2, period_ms=500)], max_concurrent=2), now=NOW)
    for n, ((ago, length), org) in enumerate(rows, 1):
        connector = facts(org, org_id=org)
        take(state, accept(n, TODAY - ago - length, TODAY - ago, connector=connector), at=NOW + n)
        by_org = {
            org_id: [r.accept.request_id for r in state.requests.values() if r.accept.connector.org_id == org_id]
            for org_id in {r.accept.connector.org_id for r in state.requests.values()}
        }
        assert {org_id: sorted(found) for org_id, found in state.by_org.items()} == {
            org_id: sorted(found) for org_id, found in by_org.items()
        }
        assert state.queued == sum(r.state == "queued" for r in state.requests.values())
