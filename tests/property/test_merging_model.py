"""Merging against its definition: any order of arrival, any cut, any cancel; every file it brings is what was asked.

The definition is in ``merging_model``. ``test_planner_merging`` has the same for plain overlap, written another way.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import batching
from app.domain.coverage import DataSet, add
from app.domain.messages import Accept, Cancel, Event, Offer, StepOutcome
from app.domain.rows import Request
from app.domain.rules import Rules
from app.domain.state import State, restore
from app.testing.planning import NOW, REPORT, TODAY, Rows, accept, facts, request_id, stored, take
from tests.property.merging_model import (
    APART,
    STANDARD,
    WINDOW,
    WINDOW_MS,
    accepts_of,
    closed,
    expected,
    found_in,
    groups_of,
    pieces,
    rules_with,
)

QUICK = settings(max_examples=200, deadline=None)
COLUMN_SETS = ((), ("views",), ("reach",), ("frequency", "reach"), ("views", "reach"), ("forbidden",))

cuts = st.tuples(st.sampled_from([0, 0, 1, 4, 7, 30]), st.sampled_from([1, 3, 7, 31]))
asked = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.integers(0, 25) | st.integers(0, 4),
        st.sampled_from(COLUMN_SETS),
        st.sampled_from([1, 2, 3, 5, 5]),
        st.integers(0, 2 * WINDOW_MS - 1),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([False, False, True]),
    ),
    max_size=9,
)
holdings = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6), st.sampled_from(COLUMN_SETS)), max_size=4)


def everything(accepts: list[Accept]) -> list[tuple[Accept, range]]:
    """Nothing is held: all days of all requests are missing."""
    return [(a, range(a.start, a.end + 1)) for a in accepts]


@st.composite
def in_any_order(draw: st.DrawFn) -> tuple[list[Accept], list[Accept]]:
    accepts = accepts_of(draw(asked))
    return accepts, draw(st.permutations(accepts))


@QUICK
@given(in_any_order(), cuts, st.sampled_from([1, 2, 3, 200]), st.booleans())
def test_what_is_fetched_is_the_closure_of_overlap_whoever_came_first(
    drawn: tuple[list[Accept], list[Accept]], cut: tuple[int, int], most: int, one_step: bool
) -> None:
    """Also of groups larger than a batch, and whether commands come in one planner step or in many."""
    accepts, order = drawn
    using = rules_with(*cut, max_members=most)
    state = closed(using)
    if one_step:
        take(state, *order)
    else:
        for message in order:
            take(state, message)
    assert found_in(state) == expected(everything(accepts), using)
    longest = cut[0]
    for batch in state.batches.values():
        assert longest == 0 or batch.start // longest == batch.end // longest


@QUICK
@given(in_any_order(), cuts, st.data())
def test_who_leaves_leaves_the_others_as_if_never_there(
    drawn: tuple[list[Accept], list[Accept]], cut: tuple[int, int], data: st.DataObject
) -> None:
    """Cancelled anywhere between the others' commands: range, columns and class are those of who is left."""
    accepts, order = drawn
    using = rules_with(*cut)
    state = closed(using)
    gone = data.draw(st.sets(st.sampled_from([a.request_id for a in accepts]))) if accepts else set()
    script: list[Accept | Cancel] = list(order)
    for a in (a for a in accepts if a.request_id in gone):
        at = data.draw(st.integers(script.index(a) + 1, len(script)))
        script.insert(at, Cancel(a.request_id, 1, a.connector.connector_id))
    for message in script:
        take(state, message)
    left = [a for a in accepts if a.request_id not in gone]
    assert found_in(state) == expected(everything(left), using)


@QUICK
@given(in_any_order(), st.data())
def test_who_leaves_a_group_of_several_batches_takes_nothing_from_the_others(
    drawn: tuple[list[Accept], list[Accept]], data: st.DataObject
) -> None:
    accepts, order = drawn
    state = closed(rules_with(max_members=2))
    take(state, *order)
    gone = data.draw(st.sets(st.sampled_from([a.request_id for a in accepts]))) if accepts else set()
    for a in (a for a in accepts if a.request_id in gone):
        take(state, Cancel(a.request_id, 1, a.connector.connector_id))
    found_in(state)
    for row in state.requests.values():
        a, parts = row.accept, [state.batches[p] for p in row.parts]
        assert set(range(a.start, a.end + 1)) <= {d for b in parts for d in range(b.start, b.end + 1)}
        assert all(set(a.fields) - STANDARD <= set(b.extras) for b in parts)
        assert all(APART.intersection(a.fields) == APART.intersection(b.extras) for b in parts)


def holding(state: State, held: list[tuple[int, int, tuple[str, ...]]]) -> dict[int, frozenset[str]]:
    """Files of some days, read a second ago; day -> columns of the newest."""
    key = f"{facts().connector_id}|{REPORT}"
    data, model = DataSet(key), {}
    for version, (ago, length, extra) in enumerate(held, 1):
        file = stored(TODAY - ago - length, TODAY - ago, name=str(version))
        columns = tuple(sorted(STANDARD.union(extra)))
        data = add(data, file, version=version, read_at=NOW - 1_000, columns=columns)
        model.update(dict.fromkeys(range(file.start, file.end + 1), frozenset(columns)))
    state.store(f"c/{key}", data)
    return model


def misses(a: Accept, model: dict[int, frozenset[str]]) -> list[int]:
    """The days that no file holds as this request needs them."""
    want, apart = set(a.fields), APART.intersection(a.fields)
    found = []
    for day in range(a.start, a.end + 1):
        columns = model.get(day, frozenset()) if a.connector == facts() and not a.force else frozenset[str]()
        serves = bool(columns) and want <= columns and (not apart or apart == columns & APART)
        if not serves:
            found.append(day)
    return found


@QUICK
@given(in_any_order(), cuts, holdings)
def test_of_days_held_only_the_missing_ones_are_fetched_and_columns_are_kept(
    drawn: tuple[list[Accept], list[Accept]], cut: tuple[int, int], held: list[tuple[int, int, tuple[str, ...]]]
) -> None:
    """Nobody gets less than they miss, and no batch has a day that nobody misses."""
    accepts, order = drawn
    using = rules_with(*cut)
    state = closed(using)
    model = holding(state, held)
    for message in order:
        take(state, message)
    groups = []
    for group in expected([(a, misses(a, model)) for a in accepts], using):
        mine = group.data_set == f"{facts().connector_id}|{REPORT}"
        known = {c for d in range(group.start, group.end + 1) for c in model.get(d, ())} if mine else set()
        columns = tuple(sorted(set(group.columns) | (known - APART - STANDARD)))
        groups.append(replace(group, columns=columns))
    assert found_in(state) == sorted(groups)


@QUICK
@given(in_any_order(), cuts, holdings, st.sampled_from([1, 2, 200]), st.sampled_from([1, 10]))
def test_a_preview_shows_the_batches_that_the_command_then_is_in(
    drawn: tuple[list[Accept], list[Accept]],
    cut: tuple[int, int],
    held: list[tuple[int, int, tuple[str, ...]]],
    most: int,
    slots: int,
) -> None:
    _, order = drawn
    state = State(rules_with(*cut, max_members=most, max_concurrent=slots), now=NOW)
    holding(state, held)
    take(state, *order[: len(order) // 2])
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    for message in order[len(order) // 2 :]:
        before = dict(state.batches)
        shown = batching.preview(state, Request(message), NOW)
        assert state.batches == before
        take(state, message)
        mine = {n: b for n, b in state.batches.items() if message.request_id in b.members}
        # Its turn is drawn when it takes its place.
        waiting = {n: replace(b, turn=shown.queued[n].turn) for n, b in mine.items() if b.state == "queued"}
        assert waiting == shown.queued
        assert {n for n, b in mine.items() if b.state != "queued"} == {b.batch_id for b in shown.running}
        assert shown.new == {n for n in mine if n not in before}


@QUICK
@given(in_any_order(), cuts, st.integers(0, 8))
def test_a_planner_that_moves_between_commands_merges_alike(
    drawn: tuple[list[Accept], list[Accept]], cut: tuple[int, int], at: int
) -> None:
    accepts, order = drawn
    using, rows = rules_with(*cut), Rows()
    state = closed(using)
    for number, message in enumerate(order):
        if number == at:
            state = restore(using, rows.read(), NOW)
            state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
        rows.write(take(state, message))
    assert found_in(state) == expected(everything(accepts), using)


def fetched(state: State, *messages: object, under_way: Sequence[Offer] = ()) -> tuple[list[Offer], list[Event]]:
    """Everything that is offered is fetched, one at a time, until nothing is left to fetch."""
    made = take(state, *messages)
    offers: list[Offer] = []
    events, todo = list(made.events), [*under_way, *made.offers]
    while todo:
        offer = todo.pop(0)
        offers.append(offer)
        file = stored(offer.start, offer.end, name=offer.batch_id)
        made = take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=file))
        events += made.events
        todo += made.offers
    assert not state.requests
    assert not state.batches
    return offers, events


@QUICK
@given(in_any_order(), cuts, st.sampled_from([1, 2, 200]), st.sampled_from([1, 10]), st.integers(0, 9))
def test_each_gets_exactly_its_days_from_files_read_with_its_columns(
    drawn: tuple[list[Accept], list[Accept]], cut: tuple[int, int], most: int, slots: int, first: int
) -> None:
    """One terminal event each, whose files hold every asked day; columns that do not add up come from equal sets."""
    accepts, order = drawn
    state = State(rules_with(*cut, max_members=most, max_concurrent=slots), now=NOW)
    early = take(state, *order[:first])
    offers, events = fetched(state, *order[first:], under_way=early.offers)
    events = [*early.events, *events]
    read = {f"file:///{o.batch_id}.parquet": o for o in offers}
    ends = [e for e in events if e.request_id]
    assert sorted((e.request_id or "", e.type) for e in ends) == [(a.request_id, "data_fetched") for a in accepts]
    by_id = {a.request_id: a for a in accepts}
    for event in ends:
        a = by_id[event.request_id or ""]
        assert event.data["records_fetched"] == 2 * (a.end - a.start + 1)
        for file in event.data["files"]:
            offer = read[file["uri"]]
            assert set(a.fields) - STANDARD <= set(offer.fields)
            assert APART.intersection(a.fields) in (frozenset(), APART.intersection(offer.fields))
    longest = cut[0]
    assert all(longest == 0 or o.start // longest == o.end // longest for o in offers)


def thousand(seed: int, order: str, using: Rules) -> list[Accept]:
    """A thousand requests of one window for parts of one year; lumps and holes included."""
    draw = random.Random(seed)
    found = []
    for n in range(1, 1_001):
        start = TODAY - int(draw.triangular(0, 365, draw.choice([30, 200])))
        end = min(TODAY, start + draw.randint(0, draw.choice([3, 30])))
        found.append(accept(n, start, end, accepted_at=WINDOW + n, priority_class=draw.choice([1, 2, 3, 5])))
    if order == "by_day":
        found.sort(key=lambda a: a.start)
    return found


@pytest.mark.parametrize("order", ["any", "by_day"])
@pytest.mark.parametrize("cut", [(0, 400), (90, 31), (0, 31)])
def test_a_thousand_overlapping_requests_are_fetched_with_the_fewest_fetches(order: str, cut: tuple[int, int]) -> None:
    """The fewest: one for each group of the definition. Five batches' worth of members cost no more."""
    using = rules_with(*cut)
    accepts = thousand(7, order, using)
    state = closed(using)
    take(state, *accepts)
    least = groups_of([p for a, days in everything(accepts) for p in pieces(a, days, using)], WINDOW_MS)
    state.limits_of_type("DV360").buckets["per_second|"].closed_until = 0
    offers, events = fetched(state, StepOutcome("none", 0, 0, "w", 0))
    assert len(offers) == len(least)
    rows = {e.request_id: e.data["records_fetched"] for e in events if e.request_id}
    assert rows == {a.request_id: 2 * (a.end - a.start + 1) for a in accepts}


def test_a_thousand_requests_are_the_members_of_five_batches() -> None:
    state = closed(rules_with())
    take(state, *(accept(n, TODAY - n % 7, TODAY) for n in range(1, 1_001)))
    assert sorted(len(b.members) for b in state.batches.values()) == [200] * 5
    assert set(state.requests) == {request_id(n) for n in range(1, 1_001)}
