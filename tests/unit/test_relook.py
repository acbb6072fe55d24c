"""Waiting batches looked at again: which ones, how many at once, and what they take over from what came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain import relook
from app.domain.coverage import add
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Cancel, Offer, StepOutcome
from app.domain.model import Days
from app.domain.state import State
from app.testing.planning import NOW, REPORT, TODAY, accept, batches, facts, request_id, stored, take
from tests.property.merging_model import closed, rules_with

KEY = f"{facts().connector_id}|{REPORT}"
NOTHING = StepOutcome("none", 0, 0, "w", 0)
VIEWS = ("date", "impressions", "clicks", "views")


def came(state: State, first: int, last: int, *, columns: tuple[str, ...] = VIEWS) -> None:
    """A result for days counted back from today, as a fetch that ended would leave it."""
    data = state.data_set(KEY)
    file = stored(TODAY - first, TODAY - last, name=f"{first}-{last}")
    state.store(f"c/{KEY}", add(data, file, version=data.last_version + 1, read_at=NOW, columns=columns))
    relook.moved(state, KEY, Days(TODAY - first, TODAY - last))


def ended(offer: Offer) -> StepOutcome:
    file = stored(offer.start, offer.end, name=offer.batch_id)
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=file)


def test_results_of_different_days_in_one_step_are_all_used() -> None:
    state = closed(rules_with())
    take(state, *(accept(n, TODAY - n, TODAY - n) for n in (2, 4, 6, 8)))
    came(state, 9, 8)
    came(state, 4, 4)
    came(state, 2, 1)
    take(state, NOTHING)
    assert set(state.requests) == {request_id(6)}


def test_a_result_is_used_by_whoever_shares_only_its_last_day() -> None:
    state = closed(rules_with())
    take(state, accept(1, TODAY - 4, TODAY))
    came(state, 9, 4)
    take(state, NOTHING)
    assert [(TODAY - b.start, TODAY - b.end) for b in batches(state)] == [(3, 0)]


def test_no_more_are_looked_at_in_one_step_than_fit_and_all_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those not looked at yet do not start: they may need nothing."""
    monkeypatch.setattr(relook, "LOOKS_PER_STEP", 2)
    state = State(rules_with(max_concurrent=3), now=NOW)
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    take(state, *(accept(n, TODAY - n, TODAY - n, fields=("reach",)) for n in range(1, 8)))
    state.limits_of_type("DV360").buckets["per_second|"].closed_until = 0
    came(state, 7, 1)
    results = state.data_set(KEY).results
    seen, offered = [], []
    for _ in range(5):
        changes = take(state, NOTHING)
        seen.append(sum(b.seen_results == results for b in batches(state)))
        offered.append(len(changes.offers))
    assert seen == [2, 4, 6, 7, 7]
    assert offered[:3] == [0, 0, 0]
    assert KEY not in state.moved


def test_what_is_fetched_anew_keeps_the_columns_that_came_meanwhile() -> None:
    """Or a warehouse would be left with old figures in them."""
    state = closed(rules_with())
    take(state, accept(1, TODAY - 6, TODAY, force=True))
    came(state, 3, 3)
    take(state, NOTHING)
    assert [b.extras for b in batches(state)] == [("views",)]


def test_who_is_tried_alone_asks_for_nothing_but_its_own_columns() -> None:
    """A further column may be what the provider refused."""
    refused = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No such column.", retryable=False)
    state = State(rules_with(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 6, TODAY, force=True), accept(2, TODAY, TODAY, fields=("views",))).offers
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, failure=refused))
    came(state, 3, 3)
    take(state, NOTHING)
    assert {b.members: b.extras for b in batches(state)} == {(request_id(1),): (), (request_id(2),): ("views",)}


def test_a_batch_that_falls_apart_has_one_heir_to_its_version() -> None:
    """A version is announced once."""
    state = closed(rules_with())
    take(state, accept(1, TODAY - 9, TODAY - 7), accept(2, TODAY - 3, TODAY), accept(3, TODAY - 8, TODAY - 2))
    (whole,) = batches(state)
    state.put_batch(replace(whole, version=5, read_at=NOW - 1))
    take(state, Cancel(request_id(3), 1, facts().connector_id))
    assert sorted((b.version or 0, b.read_at or 0) for b in batches(state)) == [(0, 0), (5, NOW - 1)]


def test_a_result_between_commands_serves_who_waits_for_it() -> None:
    state = State(rules_with(max_concurrent=1), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 6, TODAY)).offers
    later = accept(2, TODAY - 5, TODAY - 1, accepted_at=NOW + 10)
    state.put_batch(replace(state.batches[offer.batch_id], alone=True))  # so that nobody attaches to it
    take(state, later)
    events = take(state, ended(offer)).events
    assert [e.request_id for e in events if e.request_id] == [request_id(1), request_id(2)]
