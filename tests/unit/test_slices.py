"""Cut days: the provider's longest range and a backfill's slices, from the cut itself to the request's one end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.domain.closing import progress, view
from app.domain.coverage import add
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Cancel, Offer, StepOutcome
from app.domain.model import Days
from app.domain.slices import cut_at_multiples, pieces
from app.domain.state import State
from app.testing.planning import NOW, REPORT, TODAY, accept, batches, facts, request_id, stored, take
from tests.property.merging_model import closed, rules_with

EDGE = TODAY - TODAY % 31
"""First day of a slice of 31 days; ``TODAY`` is 16 days into it."""
KEY = f"{facts().connector_id}|{REPORT}"
LATER = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)


def ranges(state: State) -> list[tuple[int, int, int, int]]:
    """Of every waiting batch: first and last day from the edge on, class, members."""
    return [(b.start - EDGE, b.end - EDGE, b.priority_class, len(b.members)) for b in batches(state)]


def ended(offer: Offer, *, calls: int = 1, failure: Failure | None = None) -> StepOutcome:
    file = None if failure else stored(offer.start, offer.end, name=offer.batch_id)
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", calls, file=file, failure=failure)


@pytest.mark.parametrize(
    ("first", "last", "length", "found"),
    [
        (10, 19, 10, [(10, 19)]),
        (9, 20, 10, [(9, 9), (10, 19), (20, 20)]),
        (10, 10, 10, [(10, 10)]),
        (1, 3, 1, [(1, 1), (2, 2), (3, 3)]),
        (1, 300, 0, [(1, 300)]),
    ],
)
def test_days_are_cut_at_multiples_counted_from_day_0(
    first: int, last: int, length: int, found: list[tuple[int, int]]
) -> None:
    assert cut_at_multiples(Days(first, last), length) == [Days(*f) for f in found]


@pytest.mark.parametrize(
    ("priority", "longest", "slice_days", "found"),
    [
        (5, 0, 10, [(5, 9), (10, 19), (20, 24)]),
        (4, 0, 10, [(5, 24)]),
        (5, 20, 10, [(5, 9), (10, 19), (20, 24)]),
        (5, 10, 10, [(5, 9), (10, 19), (20, 24)]),
        (5, 10, 15, [(5, 9), (10, 19), (20, 24)]),
        (1, 10, 15, [(5, 9), (10, 19), (20, 24)]),
        (5, 16, 10, [(5, 9), (10, 15), (16, 24)]),
        (5, 0, 19, [(5, 18), (19, 24)]),
        (5, 0, 20, [(5, 24)]),
    ],
)
def test_a_slice_cuts_where_the_longest_range_does_not(
    priority: int, longest: int, slice_days: int, found: list[tuple[int, int]]
) -> None:
    cut = pieces([Days(5, 24)], longest=longest, slice_days=slice_days, priority_class=priority)
    assert cut == [Days(*f) for f in found]


def backfill(state: State) -> None:
    """Three slices, of which the last one is the present one."""
    take(state, accept(1, EDGE - 62, EDGE + 10, priority_class=5))


def test_a_short_premium_request_lifts_only_the_slice_it_overlaps() -> None:
    state = closed(rules_with())
    backfill(state)
    take(state, accept(2, EDGE - 20, EDGE - 18, priority_class=1))
    assert ranges(state) == [(-62, -32, 5, 1), (-31, -1, 1, 2), (0, 10, 5, 1)]


def test_one_over_an_edge_lifts_the_two_slices_it_connects() -> None:
    state = closed(rules_with())
    take(state, accept(2, EDGE - 2, EDGE, priority_class=1))
    backfill(state)
    assert ranges(state) == [(-62, -32, 5, 1), (-31, 10, 1, 2)]
    take(state, Cancel(request_id(2), 1, facts().connector_id))
    assert ranges(state) == [(-62, -32, 5, 1), (-31, -1, 5, 1), (0, 10, 5, 1)], "they fall apart when it leaves"


def test_a_long_premium_request_is_one_batch_with_all_slices() -> None:
    state = closed(rules_with())
    backfill(state)
    take(state, accept(2, EDGE - 70, EDGE + 12, priority_class=1))
    assert ranges(state) == [(-70, 12, 1, 2)]


def test_no_merge_reaches_over_an_edge_of_the_longest_range() -> None:
    state = closed(rules_with(longest=31))
    take(state, accept(1, EDGE - 5, EDGE + 5, priority_class=1), accept(2, EDGE - 40, EDGE + 2))
    take(state, accept(3, EDGE, EDGE + 16, priority_class=2))
    assert ranges(state) == [(-40, -32, 3, 1), (-31, -1, 1, 2), (0, 16, 1, 3)]


def test_a_gap_is_cut_after_held_days_are_taken_out() -> None:
    state = closed(rules_with(longest=31))
    state.store(f"c/{KEY}", add(state.data_set(KEY), stored(EDGE - 3, EDGE + 3), version=1, read_at=NOW, columns=()))
    take(state, accept(1, EDGE - 5, EDGE + 5))
    assert ranges(state) == [(-5, -4, 3, 1), (4, 5, 3, 1)]


def running(slots: int = 1) -> tuple[State, list[Offer]]:
    state = State(rules_with(max_concurrent=slots), now=NOW)
    return state, take(state, accept(1, EDGE - 62, EDGE + 10, priority_class=5)).offers


def test_a_backfill_gives_way_between_its_slices_and_ends_once() -> None:
    state, offers = running()
    more = take(state, accept(2, EDGE + 12, EDGE + 13, priority_class=2))
    assert more.offers == []
    order, ends = [], []
    while offers:
        offer = offers.pop()
        order.append((offer.start - EDGE, offer.end - EDGE))
        changes = take(state, ended(offer))
        ends += [(len(order), e.request_id, e.type, e.data["records_fetched"]) for e in changes.events if e.request_id]
        offers += changes.offers
    assert order[1] == (12, 13)
    assert sorted([order[0], *order[2:]]) == [(-62, -32), (-31, -1), (0, 10)]
    assert ends == [(2, request_id(2), "data_fetched", 4), (4, request_id(1), "data_fetched", 2 * 73)]
    assert not state.batches


def told(state: State, number: int = 1) -> int:
    return view(state, state.requests[request_id(number)]).progress


def spend(state: State, offer: Offer, calls: int) -> None:
    """As if so many of its calls had been permitted."""
    batch = state.batches[offer.batch_id]
    state.put_batch(type(batch)(**{n: getattr(batch, n) for n in batch.__slots__} | {"calls": calls}))


def test_progress_counts_the_calls_of_all_parts() -> None:
    """Three slices of three calls each."""
    state, offers = running()
    seen = [told(state)]
    while offers:
        offer = offers.pop()
        for calls in (1, 2, 3):
            spend(state, offer, calls)
            seen.append(told(state))
        changes = take(state, ended(offer))
        seen.append(changes.views[request_id(1)].progress)  # type: ignore[union-attr]
        offers += changes.offers
    # The third call of a fetch does not end it: one more may be needed until its outcome is there.
    assert seen == [0, 11, 22, 30, 33, 44, 55, 60, 66, 77, 88, 90, 100]


def test_calls_in_vain_are_no_progress() -> None:
    """An outage must not bring a request that has nothing to 99 percent."""
    state, offers = running()
    failure = Failure(ErrorClass.PROVIDER_SYSTEM, "http_503", "503", retryable=True)
    for _ in range(3):
        offer = offers.pop()
        spend(state, offer, 2)
        assert told(state) == 22
        offers += take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, failure=failure)).offers
        assert told(state) == 0
    assert state.requests[request_id(1)].calls == 6


def test_cost_and_calls_are_summed_over_the_parts() -> None:
    state = closed(rules_with())
    backfill(state)
    take(state, accept(2, EDGE - 31, EDGE - 30, priority_class=1))
    state.limits_of_type("DV360").buckets["per_second|"].closed_until = 0
    events, offers = [], take(state, StepOutcome("none", 0, 0, "w", 0)).offers
    while offers:
        offer = offers.pop()
        spend(state, offer, 5)
        changes = take(state, ended(offer))
        events += changes.events
        offers += changes.offers
    done = {e.request_id: (e.data["provider_calls"], e.data["cost"]) for e in events if e.request_id}
    assert done == {request_id(1): (15, "12.5000"), request_id(2): (5, "2.5000")}


def test_a_request_stays_running_while_one_of_its_parts_runs() -> None:
    state, offers = running(slots=2)
    first, second = offers
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    take(state, ended(first, failure=LATER))
    assert state.batches[first.batch_id].state == "queued"
    assert state.requests[request_id(1)].state == "running"
    take(state, ended(second, failure=LATER))
    assert state.requests[request_id(1)].state == "queued"


def test_progress_never_says_100_before_the_end() -> None:
    state, (offer,) = running()
    spend(state, offer, 10_000)
    assert progress(state, state.requests[request_id(1)]) == 99


def outcomes(offers: Sequence[Offer]) -> list[StepOutcome]:
    return [ended(o) for o in offers]


def test_a_failed_slice_ends_the_request_once_and_drops_its_other_slices() -> None:
    state, (offer,) = running()
    gone = Failure(ErrorClass.NOT_FOUND, "account_unknown", "No such account.", retryable=False)
    changes = take(state, ended(offer, failure=gone))
    assert [(e.type, e.request_id) for e in changes.events] == [("fetch_failed", request_id(1))]
    assert not state.batches
    assert take(state, *outcomes([offer])).events == []
