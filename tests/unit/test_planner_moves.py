"""What waits while its data set, its retry or the queue moves on."""

from __future__ import annotations

from typing import Any

from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Ask, Cancel, Offer, StepOutcome, Tick
from app.domain.state import Changes, State
from app.testing.planning import NOW, TODAY, accept, batches, facts, reasons, request_id, result_of, rules, take


def ended(state: State, offer: Offer, at: int | None = None, **what: Any) -> Changes:
    """The step of an offer ends; with a file if nothing else is said."""
    given = what or {"file": result_of(offer)}
    return take(state, StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **given), at=at)


def data_call(state: State, offer: Offer, at: int | None = None) -> None:
    take(
        state,
        Ask(f"ask {offer.batch_id}", "w", offer.batch_id, offer.epoch, offer.step_no, "reports", data=True),
        at=at,
    )


def test_a_batch_that_waited_takes_the_columns_that_came_meanwhile() -> None:
    state, later = State(rules(), now=NOW), NOW + 400_000
    (first,) = take(state, accept(1, TODAY - 9, TODAY - 6, fields=("reach",))).offers
    assert not take(state, accept(2, TODAY - 9, TODAY - 6, fields=("views",), accepted_at=later), at=NOW + 10).offers
    (second,) = ended(state, first).offers
    assert second.fields == ("reach", "views")


def test_days_that_an_older_version_brings_late_are_not_fetched_again() -> None:
    state = State(rules(max_concurrent=2, max_members=1), now=NOW)
    offers = take(state, accept(1, TODAY - 30, TODAY - 26), accept(2, TODAY - 20, TODAY - 16)).offers
    old, new = sorted(offers, key=lambda offer: offer.start)
    for offer in (old, new):
        data_call(state, offer)
    take(state, accept(3, TODAY - 30, TODAY - 26))
    assert not ended(state, new, NOW + 1_000).offers
    last = ended(state, old, NOW + 2_000)
    assert [e.request_id for e in last.events if e.request_id] == [request_id(1), request_id(3)]
    assert not last.offers


def test_who_joins_a_retry_waits_with_it() -> None:
    state = State(rules(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 5, TODAY - 3)).offers
    down = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, retry_after_s=600.0)
    ended(state, offer, failure=down)
    assert not take(state, accept(2, TODAY - 5, TODAY - 3, accepted_at=NOW + 1_000), at=NOW + 1_000).offers
    (batch,) = batches(state)
    assert batch.not_before >= NOW + 600_000
    assert len(batch.members) == 2
    assert take(state, Tick(), at=batch.not_before).offers


def test_nobody_attaches_to_a_reading_that_is_too_old_for_it() -> None:
    state = State(rules(), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY)).offers
    data_call(state, offer)
    now = NOW + 400_000
    take(state, accept(2, TODAY, TODAY, max_age_s=60), accept(3, TODAY, TODAY), at=now)
    assert state.requests[request_id(2)].parts != (offer.batch_id,)
    assert state.requests[request_id(3)].parts == (offer.batch_id,)


def test_what_was_not_looked_at_again_is_not_fetched() -> None:
    """More requests are served by one result than one step may close."""
    state = State(rules(max_concurrent=5), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 30, TODAY - 26)).offers
    take(state, *(accept(n, TODAY - 30, TODAY - 26) for n in range(2, 2_700)))
    served = 0
    changes = ended(state, offer)
    for _ in range(3):
        assert not changes.offers
        served += sum(e.type == "data_fetched" for e in changes.events)
        changes = take(state, Tick())
    assert served == 2_699


def test_reminders_do_not_outlive_what_they_are_for() -> None:
    state, far = State(rules(), now=NOW), NOW + 300 * 86_400_000
    for n in range(1, 3_001):
        name = request_id(n)
        take(state, accept(n, TODAY - 5, TODAY - 3, deadline_at=far), Cancel(name, 1, facts().connector_id))
    take(state, Tick(), at=NOW + 3_700_000)
    take(state, Tick(), at=NOW + 3_701_000)
    assert not state.requests
    assert len(state.due) <= 1_000


def test_days_beyond_the_providers_retention_are_forgotten() -> None:
    state = State(rules(), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 700, TODAY - 699)).offers
    ended(state, offer)
    (kept,) = state.data_sets.values()
    assert len(kept.runs) == 1
    later = NOW + 40 * 86_400_000
    (offer,) = take(state, accept(2, TODAY, TODAY, accepted_at=later), at=later).offers
    ended(state, offer, later)
    (kept,) = state.data_sets.values()
    assert [run.start for run in kept.runs] == [TODAY]


def test_one_account_leaves_slots_to_others_also_when_its_calls_hang() -> None:
    state = State(rules(max_concurrent=6), now=NOW)
    hanging = [accept(n, TODAY - 10 * n, TODAY - 10 * n) for n in range(1, 9)]
    assert len(take(state, *hanging).offers) == 3
    other = facts(2)
    (offer,) = take(state, accept(20, TODAY, TODAY, connector=other)).offers
    assert offer.connector == other
    assert {w and w["reason"] for w in reasons(state).values()} == {"concurrency"}
