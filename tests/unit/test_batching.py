"""Who is merged with whom: windows, bridges, bounds, attaching. Order of arrival is a property test's business."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.coverage import add
from app.domain.messages import Accept, Offer, StepOutcome
from app.domain.model import Days
from app.domain.state import State
from app.testing.planning import (
    NOW,
    REPORT,
    TODAY,
    accept,
    batches,
    facts,
    quota,
    request_id,
    result_of,
    rules,
    stored,
    take,
)

WINDOW_MS = 300_000
START = NOW - NOW % WINDOW_MS
KEY = f"{facts().connector_id}|{REPORT}"


def closed(**changes: Any) -> State:
    """A planner whose quota is closed: batches wait and can be looked at."""
    state = State(rules([quota()], **changes), now=NOW)
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    return state


def groups(state: State) -> list[tuple[set[str], int, int]]:
    return [(set(b.members), TODAY - b.start, TODAY - b.end) for b in batches(state)]


def ids(*numbers: int) -> set[str]:
    return {request_id(n) for n in numbers}


@pytest.mark.parametrize(
    ("first_at", "second_at", "together"),
    [
        (0, WINDOW_MS - 1, True),
        (0, WINDOW_MS, False),
        (-1, 0, False),
        (-1, -WINDOW_MS, True),
        (0, 0, True),
        (WINDOW_MS, WINDOW_MS + 1, True),
    ],
)
@pytest.mark.parametrize("late_ms", [0, 1, 600_000])
def test_the_window_of_accepted_time_decides_not_the_time_of_arrival(
    first_at: int, second_at: int, together: bool, late_ms: int
) -> None:
    state = closed()
    take(state, accept(1, TODAY, TODAY, accepted_at=START + first_at))
    take(state, accept(2, TODAY, TODAY, accepted_at=START + second_at), at=NOW + late_ms)
    assert len(batches(state)) == (1 if together else 2)


@pytest.mark.parametrize(("gap", "together"), [(0, True), (1, False), (2, False)])
def test_ranges_must_share_a_day(gap: int, together: bool) -> None:
    """Days that only touch are no overlap: nothing is fetched twice by keeping them apart."""
    state = closed()
    take(state, accept(1, TODAY - 9, TODAY - 5), accept(2, TODAY - 5 + gap, TODAY))
    assert len(batches(state)) == (1 if together else 2)


def test_a_request_that_bridges_two_batches_joins_them_under_the_older_id() -> None:
    state = closed()
    take(
        state,
        accept(1, TODAY - 9, TODAY - 7, accepted_at=START + 5),
        accept(2, TODAY - 3, TODAY, accepted_at=START + 9),
    )
    older = batches(state)[0]
    take(state, accept(3, TODAY - 8, TODAY - 2, accepted_at=START + 7, priority_class=1, fields=("reach",)))
    (whole,) = batches(state)
    assert (whole.batch_id, whole.accepted_at, whole.priority_class) == (older.batch_id, START + 5, 1)
    assert (set(whole.members), whole.start, whole.end) == (ids(1, 2, 3), TODAY - 9, TODAY)
    assert whole.extras == ("reach",)
    assert {r.parts for r in state.requests.values()} == {(whole.batch_id,)}
    assert state.queue.position(whole.batch_id) == len(state.queue) == 1


def test_a_request_whose_gaps_meet_in_another_batch_waits_for_that_batch_alone() -> None:
    """Its first gap's batch is swallowed by the one its second gap joins: a part named after it would never end."""
    state = closed()
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(TODAY - 6, TODAY - 6), version=1, read_at=NOW, columns=()))
    take(state, accept(1, TODAY - 3, TODAY, force=True, accepted_at=START + 1))
    take(state, accept(2, TODAY - 9, TODAY - 5, force=True, accepted_at=START + 2))
    take(state, accept(3, TODAY - 10, TODAY - 2, accepted_at=START + 3))
    (whole,) = batches(state)
    assert set(whole.members) == ids(1, 2, 3)
    assert state.requests[request_id(3)].parts == (whole.batch_id,)


def test_other_data_sets_are_never_merged() -> None:
    state = closed()
    take(state, accept(1, TODAY, TODAY), accept(2, TODAY, TODAY, connector=facts(2)))
    assert len(batches(state)) == 2


def test_a_batch_has_at_most_two_hundred_members() -> None:
    state = closed()
    take(state, *(accept(n, TODAY, TODAY) for n in range(1, 203)))
    assert sorted(len(b.members) for b in batches(state)) == [2, 200]


def test_two_batches_too_large_to_join_stay_apart() -> None:
    state = closed(max_members=3)
    take(state, *(accept(n, TODAY - 9, TODAY - 7) for n in (1, 2)), *(accept(n, TODAY - 3, TODAY) for n in (3, 4)))
    take(state, accept(5, TODAY - 8, TODAY - 2))
    assert sorted(len(b.members) for b in batches(state)) == [2, 3]


def running(*accepts: Accept, **changes: Any) -> State:
    state = State(rules(**changes), now=NOW)
    take(state, *accepts)
    return state


def test_a_request_covered_by_a_running_fetch_attaches_whatever_the_window() -> None:
    state = running(accept(1, TODAY - 9, TODAY, priority_class=5))
    take(state, accept(2, TODAY - 5, TODAY - 2, accepted_at=NOW + 5 * WINDOW_MS, priority_class=2))
    (batch,) = batches(state)
    assert (set(batch.members), batch.priority_class, batch.state) == (ids(1, 2), 2, "leased")
    assert state.requests[request_id(2)].state == "running"


def test_a_request_covered_in_part_takes_those_days_and_queues_the_rest() -> None:
    state = running(accept(1, TODAY - 5, TODAY - 3), max_concurrent=1)
    take(state, accept(2, TODAY - 7, TODAY))
    assert groups(state) == [(ids(2), 7, 6), (ids(1, 2), 5, 3), (ids(2), 2, 0)]


@pytest.mark.parametrize("changes", [{"force": True}, {"fields": ("reach",)}])
def test_a_fetch_that_is_not_what_was_asked_is_not_attached_to(changes: dict[str, Any]) -> None:
    state = running(accept(1, TODAY - 5, TODAY))
    take(state, accept(2, TODAY - 5, TODAY, **changes))
    assert [(b.state, set(b.members)) for b in batches(state)] in (
        [("leased", ids(1)), ("queued", ids(2))],
        [("queued", ids(2)), ("leased", ids(1))],
    )


def test_a_fetch_full_of_members_takes_no_more() -> None:
    state = running(accept(1, TODAY, TODAY), accept(2, TODAY, TODAY), max_members=2)
    take(state, accept(3, TODAY, TODAY))
    assert sorted(len(b.members) for b in batches(state)) == [1, 2]


def test_what_waits_is_looked_at_again_when_its_data_set_moves_on() -> None:
    """Members that another fetch has served need none; the others keep only what is missing."""
    state = running(accept(1, TODAY - 9, TODAY - 5), max_concurrent=1)
    (busy,) = batches(state)
    other = StepOutcome(busy.batch_id, busy.epoch, busy.step_no, "w", 1)
    take(state, accept(2, TODAY - 9, TODAY - 5, fields=("reach",)), accept(3, TODAY - 8, TODAY - 2, fields=("reach",)))
    file = stored(TODAY - 9, TODAY - 5, columns_absent=("views",))
    key = state.data_set(KEY)
    state.store(f"c/{KEY}", add(key, file, version=7, read_at=NOW, columns=("reach",)))
    state.moved[KEY] = Days(TODAY - 9, TODAY)
    ends = take(state, other)
    assert [(e.type, e.request_id) for e in ends.events if e.request_id] == [("data_fetched", request_id(2))]
    (rest,) = [b for b in batches(state) if b.batch_id != busy.batch_id]
    assert (set(rest.members), TODAY - rest.start, TODAY - rest.end) == (ids(3), 4, 2)


def test_the_file_of_a_wider_fetch_serves_each_its_own_slice() -> None:
    state = State(rules(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 9, TODAY - 4), accept(2, TODAY - 6, TODAY)).offers
    outcome = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=result_of(offer))
    events = [e.data for e in take(state, outcome).events if e.request_id]
    assert [(e["slice"]["from"], e["slice"]["to"], e["records_fetched"]) for e in events] == [
        (e["date_range"]["start"], e["date_range"]["end"], days * 2) for e, days in zip(events, (6, 7), strict=True)
    ]
    assert {e["files"][0]["rows"] for e in events} == {20}


def _fetched(state: State, offer: Offer, **changes: Any) -> dict[str, Any]:
    """The news of the version that a fetch of the offer made."""
    file = replace(result_of(offer), **changes)
    outcome = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=file)
    (news,) = [e.data for e in take(state, outcome).events if e.type == "dataset_updated"]
    return dict(news)


def test_days_that_are_read_again_keep_the_columns_they_have() -> None:
    """A narrower file would leave old figures behind, and let the two kinds of requests fetch in turn for ever."""
    state = State(rules(), now=NOW)
    (wide,) = take(state, accept(1, TODAY - 1, TODAY, fields=("reach",))).offers
    assert _fetched(state, wide)["columns_absent"] == []
    (again,) = take(state, accept(2, TODAY, TODAY + 1, force=True)).offers
    assert again.fields == ("reach",)
    (apart,) = take(state, accept(3, TODAY - 30, TODAY - 29)).offers
    assert apart.fields == (), "days that were never asked with it need it not"


def test_columns_that_do_not_add_up_are_not_added_to_another_fetch() -> None:
    state = State(rules(), now=NOW)
    report = state.rules.catalogue["DV360"][REPORT]
    fields = tuple(replace(f, additive=False) if f.name == "reach" else f for f in report.fields)
    state.rules = replace(state.rules, catalogue={"DV360": {REPORT: replace(report, fields=fields)}})
    (wide,) = take(state, accept(1, TODAY, TODAY, fields=("reach",))).offers
    _fetched(state, wide)
    (again,) = take(state, accept(2, TODAY, TODAY, force=True)).offers
    assert again.fields == ()
    assert _fetched(state, again)["columns_absent"] == ["reach"], "a warehouse must not take its keys for complete"


def test_a_standard_column_that_was_not_fetched_is_told() -> None:
    state = State(rules(), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY)).offers
    assert _fetched(state, offer, columns_absent=("clicks", "views"))["columns_absent"] == ["clicks"]
