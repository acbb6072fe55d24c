"""Waiting batches made to fit again, and columns that do not add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.domain import refit
from app.domain.commands import FetchCommand
from app.domain.coverage import add
from app.domain.errors import ErrorClass, Failure
from app.domain.intake import Refused, judge
from app.domain.messages import Accept, Cancel, Offer, StepOutcome
from app.domain.rows import Batch
from app.domain.state import State
from app.testing.planning import NOW, REPORT, TODAY, accept, batches, facts, request_id, stored, take
from tests.property.merging_model import closed, report, rules_with

KEY = f"{facts().connector_id}|{REPORT}"
REFUSED = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No such column.", retryable=False)


def groups(state: State) -> list[tuple[set[str], int, int]]:
    return [(set(b.members), TODAY - b.start, TODAY - b.end) for b in batches(state)]


def ids(*numbers: int) -> set[str]:
    return {request_id(n) for n in numbers}


def leave(state: State, number: int) -> None:
    take(state, Cancel(request_id(number), 1, facts().connector_id))


def ended(offer: Offer, *, failure: Failure | None = None, absent: tuple[str, ...] = ()) -> StepOutcome:
    file = None if failure else stored(offer.start, offer.end, name=offer.batch_id, columns_absent=absent)
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=file, failure=failure)


def test_who_connected_two_batches_leaves_two_and_their_members_know_where_they_are() -> None:
    state = closed(rules_with())
    take(state, accept(1, TODAY - 9, TODAY - 7, fields=("views",)), accept(2, TODAY - 3, TODAY, accepted_at=NOW + 1))
    take(state, accept(3, TODAY - 8, TODAY - 2, priority_class=1))
    (whole,) = batches(state)
    leave(state, 3)
    assert groups(state) == [(ids(1), 9, 7), (ids(2), 3, 0)]
    left, right = batches(state)
    assert (left.batch_id, left.extras, left.priority_class, left.accepted_at) == (whole.batch_id, ("views",), 3, NOW)
    assert (right.extras, right.priority_class, right.accepted_at) == ((), 3, NOW + 1)
    assert [state.requests[request_id(n)].parts for n in (1, 2)] == [(left.batch_id,), (right.batch_id,)]
    assert state.requests[request_id(2)].batches == (whole.batch_id, right.batch_id)


def test_a_retry_stays_what_its_failures_made_it_when_a_member_leaves() -> None:
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 9, TODAY), accept(2, TODAY - 9, TODAY - 5)).offers
    later = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)
    take(state, ended(offer, failure=later))
    (before,) = batches(state)
    leave(state, 1)
    (after,) = batches(state)
    assert (after.attempts, after.priority_class, after.not_before) == (1, 4, before.not_before)
    assert (after.start, after.end) == (TODAY - 9, TODAY - 5)


def test_who_leaves_a_running_batch_changes_nothing_but_its_members() -> None:
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 9, TODAY), accept(2, TODAY - 9, TODAY - 5)).offers
    leave(state, 1)
    assert groups(state) == [(ids(2), 9, 0)]
    ends = [e for e in take(state, ended(offer)).events if e.request_id]
    assert [(e.type, e.request_id) for e in ends] == [("data_fetched", request_id(2))]


def test_days_that_came_in_the_middle_are_not_fetched_again() -> None:
    """What is left falls apart into what each side misses."""
    state = State(rules_with(max_concurrent=1), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 6, TODAY - 4)).offers
    take(state, accept(2, TODAY - 9, TODAY - 5, force=True), accept(3, TODAY - 5, TODAY, accepted_at=NOW + 1))
    assert groups(state) == [(ids(2), 9, 5), (ids(1, 3), 6, 4), (ids(3), 3, 0)]
    take(state, accept(4, TODAY - 5, TODAY, fields=("views",)), accept(5, TODAY - 9, TODAY - 3, fields=("views",)))
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(TODAY - 7, TODAY - 5), version=1, read_at=NOW,
                                columns=("date", "impressions", "clicks", "views")))  # fmt: skip
    take(state, ended(offer, failure=Failure(ErrorClass.NOT_FOUND, "gone", "Gone.", retryable=False)))
    state.moved[KEY] = None
    take(state, StepOutcome("none", 0, 0, "w", 0))
    needs = {request_id(2): set(range(5, 10)), request_id(5): {9, 8, 4, 3}, request_id(4): {4, 3, 2, 1, 0}}
    for name, days in needs.items():
        parts = [state.batches[p] for p in state.requests[name].parts]
        assert days <= {TODAY - d for b in parts for d in range(b.start, b.end + 1)}


def test_a_hole_in_what_is_missed_is_not_fetched() -> None:
    state = closed(rules_with())
    take(state, accept(1, TODAY - 9, TODAY))
    (before,) = batches(state)
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(TODAY - 6, TODAY - 4), version=1, read_at=NOW, columns=()))
    state.moved[KEY] = None
    take(state, StepOutcome("none", 0, 0, "w", 0))
    assert groups(state) == [(ids(1), 9, 7), (ids(1), 3, 0)]
    first, second = batches(state)
    assert first.batch_id == before.batch_id
    assert state.requests[request_id(1)].parts == (first.batch_id, second.batch_id)


def test_only_batches_that_share_a_day_with_a_result_are_written_again() -> None:
    state = State(rules_with(max_concurrent=1), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 9, TODAY - 9, priority_class=1)).offers
    take(state, accept(2, TODAY - 10, TODAY - 8, force=True))
    others = [accept(n, TODAY - n, TODAY - n) for n in range(20, 60)]
    take(state, *others)
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    changed = [key for key in take(state, ended(offer)).rows if key.startswith("b/")]
    assert len(changed) == 2, "the one that ended, and the one that is near"


def test_who_needs_nothing_more_is_served_though_another_leaves_in_the_same_step() -> None:
    state = closed(rules_with())
    take(state, accept(1, TODAY - 9, TODAY), accept(2, TODAY - 6, TODAY - 4))
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(TODAY - 6, TODAY - 4), version=1, read_at=NOW, columns=()))
    state.moved[KEY] = None
    changes = take(state, Cancel(request_id(1), 1, facts().connector_id))
    assert {e.request_id: e.type for e in changes.events} == {
        request_id(1): "fetch_cancelled",
        request_id(2): "data_fetched",
    }
    assert not state.batches


def test_a_group_of_several_batches_keeps_its_days_when_one_of_many_leaves() -> None:
    """So that the first one fetched still serves the others."""
    state = closed(rules_with(max_members=2))
    take(state, accept(1, TODAY - 9, TODAY - 9), accept(2, TODAY - 1, TODAY - 1), accept(3, TODAY - 9, TODAY))
    leave(state, 1)
    assert groups(state) in ([(ids(2), 9, 0), (ids(3), 9, 0)], [(ids(3), 9, 0), (ids(2), 9, 0)])


def test_a_chain_of_shared_days_goes_on_through_batches_of_different_days() -> None:
    state = closed(rules_with(max_members=1))
    take(state, accept(1, TODAY - 9, TODAY - 4), accept(2, TODAY - 5, TODAY))
    data = add(state.data_set(KEY), stored(TODAY - 7, TODAY - 6), version=1, read_at=NOW, columns=())
    state.store(f"c/{KEY}", data)
    state.moved[KEY] = None
    take(state, StepOutcome("none", 0, 0, "w", 0))
    assert sorted((first, last) for _, first, last in groups(state)) == [(5, 0), (5, 4), (9, 8)]
    take(state, accept(3, TODAY, TODAY, accepted_at=NOW + 1))
    assert sorted((first, last) for _, first, last in groups(state)) == [(5, 0), (5, 0), (5, 0), (9, 8)]


def test_members_of_a_batch_that_is_swallowed_twice_know_where_they_are() -> None:
    state = closed(rules_with())
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(TODAY - 5, TODAY - 5), version=1, read_at=NOW, columns=()))
    for number, first, last, at in ((1, 7, 3, 1), (2, 9, 9, 2), (3, 2, 2, 0)):
        take(state, accept(number, TODAY - first, TODAY - last, force=True, accepted_at=NOW + at))
    take(state, accept(4, TODAY - 10, TODAY - 1, accepted_at=NOW + 3))
    (whole,) = batches(state)
    assert {r.parts for r in state.requests.values()} == {(whole.batch_id,)}


def test_nobody_joins_a_batch_that_is_tried_alone() -> None:
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 9, TODAY), accept(2, TODAY - 9, TODAY, fields=("forbidden",))).offers
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    take(state, ended(offer, failure=REFUSED), accept(3, TODAY - 9, TODAY))
    assert sorted((b.alone, b.members) for b in batches(state)) == [
        (False, (request_id(3),)),
        (True, (request_id(1),)),
        (True, (request_id(2),)),
    ]


@pytest.mark.parametrize(
    ("max_age_s", "read_ago_ms", "attached"),
    [(None, 600_001, True), (600, 600_000, True), (600, 600_001, False), (0, 300_000, True), (0, 300_001, False)],
)
def test_a_fetch_that_read_its_figures_too_long_ago_is_not_attached_to(
    max_age_s: int | None, read_ago_ms: int, attached: bool
) -> None:
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY)).offers
    state.put_batch(replace(state.batches[offer.batch_id], read_at=NOW - read_ago_ms))
    take(state, accept(2, TODAY, TODAY, max_age_s=max_age_s))
    assert (request_id(2) in state.batches[offer.batch_id].members) is attached


# columns that do not add up


@pytest.mark.parametrize(
    ("first", "second", "batches_made"),
    [
        (("reach",), ("reach",), 1),
        (("reach", "views"), ("reach",), 1),
        (("reach",), (), 2),
        ((), ("reach",), 2),
        (("reach",), ("frequency",), 2),
        (("reach", "frequency"), ("reach",), 2),
    ],
)
def test_they_join_and_attach_only_where_their_sets_are_equal(
    first: tuple[str, ...], second: tuple[str, ...], batches_made: int
) -> None:
    for state in (closed(rules_with()), State(rules_with(), now=NOW)):
        take(state, accept(1, TODAY - 9, TODAY, fields=first))
        take(state, accept(2, TODAY - 5, TODAY - 4, fields=second))
        assert len(state.batches) == batches_made


def reuse(held: tuple[str, ...], absent: tuple[str, ...], asked: tuple[str, ...]) -> bool:
    """A request is served at once from a file that was read with columns of which some were missing."""
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY, fields=held)).offers
    file = stored(TODAY, TODAY, name="held", columns_absent=absent)
    take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=file))
    changes = take(state, accept(2, TODAY, TODAY, fields=asked))
    return any(e.request_id == request_id(2) for e in changes.events)


@pytest.mark.parametrize(
    ("held", "absent", "asked", "served"),
    [
        (("reach",), (), ("reach",), True),
        (("reach", "views"), (), ("reach",), True),
        (("reach", "frequency"), (), ("reach",), False),
        (("reach", "frequency"), (), (), True),
        (("reach", "frequency"), (), ("clicks", "impressions"), True),
        (("reach", "frequency"), ("frequency",), ("reach",), False),
        (("reach", "views"), ("views",), ("reach",), True),
        (("reach",), ("frequency",), ("reach",), True),
    ],
)
def test_they_are_reused_only_from_a_file_read_with_the_same_of_them(
    held: tuple[str, ...], absent: tuple[str, ...], asked: tuple[str, ...], served: bool
) -> None:
    assert reuse(held, absent, asked) is served


EDGE = TODAY - TODAY % 31


def half_done(**changes: Any) -> tuple[State, Offer, str]:
    """A request in two parts of which the first is fetched, and then replaced by another's file; the second part."""
    state = State(rules_with(longest=31, max_concurrent=1), now=NOW)
    offers = take(state, accept(1, EDGE - 3, EDGE + 3, **changes)).offers
    (second,) = take(state, ended(offers[0])).offers
    other = stored(offers[0].start, offers[0].end, name="other")
    columns = ("date", "impressions", "clicks", "reach", "frequency")
    state.store(f"c/{KEY}", add(state.data_set(KEY), other, version=9, read_at=NOW, columns=columns))
    return state, second, f"file:///{offers[0].batch_id}.parquet"


FRAGILE: list[dict[str, Any]] = [{"fields": ("reach",)}, {"fields": ("views",), "force": True}]


@pytest.mark.parametrize("changes", FRAGILE)
def test_what_an_ended_part_brought_is_not_lost_to_anothers_file(changes: dict[str, Any]) -> None:
    state, second, first_file = half_done(**changes)
    (end,) = [e for e in take(state, ended(second)).events if e.request_id]
    assert {f["uri"] for f in end.data["files"]} == {first_file, f"file:///{second.batch_id}.parquet"}
    assert end.data["records_fetched"] == 2 * 7


@pytest.mark.parametrize("changes", FRAGILE)
def test_a_part_that_lacked_a_column_is_fetched_again_and_the_others_are_not(changes: dict[str, Any]) -> None:
    state, second, _ = half_done(**changes)
    take(state, ended(second, absent=changes["fields"]))
    assert [(b.start, b.end) for b in batches(state)] == [(second.start, second.end)]


# one member's bad field


def test_a_field_that_is_not_there_is_refused_before_it_could_join_anybody() -> None:
    command = FetchCommand(
        request_id=request_id(2), org_id=1, connector_id=facts().connector_id, report_type=REPORT,
        start=TODAY - 9, end=TODAY, fields=("clicks", "no_such_field"),
    )  # fmt: skip
    verdict = judge(
        command, request_id=request_id(2), accepted_at=NOW, connector=facts(),
        catalogue={"DV360": {REPORT: report()}}, today=lambda _: TODAY,
    )  # fmt: skip
    assert isinstance(verdict, Refused)
    assert [f.code for f in verdict.faults] == ["unknown_field_name"]


def test_a_refused_batch_is_split_into_what_each_member_misses_and_no_attempt_is_counted() -> None:
    state = State(rules_with(), now=NOW)
    days = stored(TODAY - 6, TODAY - 5)
    state.store(f"c/{KEY}", add(state.data_set(KEY), days, version=1, read_at=NOW - 1, columns=("views",)))
    bad: Accept = accept(3, TODAY - 9, TODAY - 7, fields=("forbidden",))
    (offer,) = take(state, accept(1, TODAY - 9, TODAY, force=True), accept(2, TODAY - 8, TODAY), bad).offers
    changes = take(state, ended(offer, failure=REFUSED))
    alone = batches(state)
    assert all(b.alone and b.attempts == 0 and len(b.members) == 1 for b in alone)
    assert [state.requests[request_id(n)].attempts for n in (1, 2, 3)] == [0, 0, 0]
    assert sorted((min(m), first, last) for m, first, last in groups(state)) == [
        (request_id(1), 9, 0),
        (request_id(2), 4, 0),
        (request_id(2), 8, 7),
        (request_id(3), 9, 7),
    ]
    assert {b.extras for b in alone if b.members != (request_id(3),)} == {()}
    ends, offers = {}, list(changes.offers)
    while offers:
        one = offers.pop()
        failure = REFUSED if "forbidden" in one.fields else None
        changes = take(state, ended(one, failure=failure))
        ends.update({e.request_id: e.type for e in changes.events if e.request_id})
        offers += changes.offers
    fine = "data_fetched"
    assert ends == {request_id(1): fine, request_id(2): fine, request_id(3): "fetch_failed"}


def test_one_of_two_that_ask_for_the_same_leaves_without_a_look_at_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred of a long backfill cancelled in one step were a minute's work, more than a transaction has."""
    state = closed(rules_with())
    take(state, *(accept(n, TODAY - 9, TODAY - 4, accepted_at=NOW + n) for n in (1, 2, 3)))
    looked: list[str] = []
    whole = refit.fit

    def seen(state: State, batch: Batch, names: Sequence[str]) -> refit.Fit:
        looked.append(batch.batch_id)
        return whole(state, batch, names)

    monkeypatch.setattr(refit, "fit", seen)
    leave(state, 1)
    assert not looked
    (batch,) = batches(state)
    assert (batch.accepted_at, batch.members) == (NOW + 2, (request_id(2), request_id(3)))
    leave(state, 2)
    leave(state, 3)
    assert not batches(state)


@pytest.mark.parametrize(
    "other",
    [{"priority_class": 5}, {"fields": ("clicks",)}, {"max_age_s": 3_600}, {"end": TODAY - 5}, {"start": TODAY - 8}],
)
def test_who_asks_for_nearly_the_same_leaves_with_a_look_at_the_others(other: dict[str, Any]) -> None:
    given: dict[str, Any] = {"start": TODAY - 9, "end": TODAY - 4, "fields": ("views",), "priority_class": 3} | other
    state = closed(rules_with())
    take(state, accept(1, TODAY - 9, TODAY - 4, fields=("views",)), accept(2, **given))
    leave(state, 1)
    (batch,) = batches(state)
    extras = tuple(set(given["fields"]) - {"clicks"})
    wanted = (given["start"], given["end"], extras, given["priority_class"])
    assert (batch.start, batch.end, batch.extras, batch.priority_class) == wanted
