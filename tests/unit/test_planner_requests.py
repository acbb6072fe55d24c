"""Requests as the planner takes them in and lets them go: once each, whatever is repeated, cancelled or late."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain import planner
from app.domain.coverage import add
from app.domain.errors import ErrorClass, Failure
from app.domain.events import refused
from app.domain.messages import Accept, Cancel, Event, Refuse, StepOutcome, Tick
from app.domain.state import Changes, State, restore
from app.testing.planning import (
    NOW,
    REPORT,
    TODAY,
    Rows,
    accept,
    batches,
    by_day,
    facts,
    quota,
    request_id,
    result_of,
    rules,
    stored,
    take,
)

BROKEN = Failure(ErrorClass.NOT_FOUND, "account_unknown", "No such account.", retryable=False)


def kinds(changes: Changes) -> list[tuple[str, str | None]]:
    return [(e.type, e.request_id) for e in changes.events if e.type != "dataset_updated"]


def begun(*accepts: Accept, **changed: Any) -> tuple[State, Changes]:
    state = State(rules(**changed), now=NOW)
    return state, take(state, *accepts)


def outcome(changes: Changes, **what: Any) -> StepOutcome:
    """How the step offered last ended, at its own epoch."""
    offer = changes.offers[-1]
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **what)


def test_a_repeated_command_is_the_same_request() -> None:
    state, _ = begun(accept(1, TODAY, TODAY))
    again = take(state, accept(1, TODAY, TODAY))
    assert not again.events
    assert not again.dead
    assert not again.offers
    assert len(state.requests) == 1


def test_another_body_under_a_known_id_goes_to_the_dead_letters_and_nowhere_else() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    source = ("connector.commands", 3, 17)
    imposter = accept(1, TODAY - 5, TODAY, body_hash="other", source=source)
    assert [d[:2] for d in take(state, imposter).dead] == [(source, "idempotency_mismatch")]
    take(state, outcome(first, failure=BROKEN))
    assert state.requests == {}
    assert [d[:2] for d in take(state, imposter).dead] == [(source, "idempotency_mismatch")], "after its end, too"
    assert state.requests == {}


def test_a_closed_request_is_known_for_an_hour_and_then_forgotten_with_its_view() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, outcome(first, failure=BROKEN))
    assert not take(state, accept(1, TODAY, TODAY), at=NOW + 3_599_999).events
    gone = take(state, Tick(), at=NOW + 3_600_000)
    assert gone.views == {request_id(1): None}
    assert gone.rows == {f"m/{request_id(1)}": None}


def test_cancel_before_create_ends_cancelled_without_a_fetch() -> None:
    state, _ = begun()
    take(state, Cancel(request_id(1), 1, facts().connector_id))
    created = take(state, accept(1, TODAY, TODAY), at=NOW + 86_399_999)
    assert kinds(created) == [("fetch_cancelled", request_id(1))]
    assert not created.offers
    assert take(state, accept(1, TODAY, TODAY)).events == []


def test_a_tombstone_lasts_a_day_and_says_nothing_when_it_goes() -> None:
    state, _ = begun()
    take(state, Cancel(request_id(1), 1, facts().connector_id))
    assert take(state, Tick(), at=NOW + 86_400_000).views == {}
    assert state.marks == {}
    assert take(state, accept(1, TODAY, TODAY)).offers


@pytest.mark.parametrize("early", [True, False])
def test_another_organisations_cancel_reaches_nobody(early: bool) -> None:
    state, _ = begun()
    foreign, own = Cancel(request_id(1), 2, facts().connector_id), accept(1, TODAY, TODAY)
    changes = [take(state, message) for message in ([foreign, own] if early else [own, foreign])]
    assert [k for c in changes for k in kinds(c)] == []
    assert state.requests[request_id(1)].state == "running"


def test_a_cancel_leaves_the_others_of_its_batch_alone() -> None:
    state, first = begun(accept(1, TODAY - 3, TODAY - 1), accept(2, TODAY - 2, TODAY))
    left = take(state, Cancel(request_id(1), 1, facts().connector_id))
    assert kinds(left) == [("fetch_cancelled", request_id(1))]
    done = take(state, outcome(first, file=result_of(first.offers[0])))
    assert kinds(done) == [("data_fetched", request_id(2))]


def test_the_first_of_cancel_and_outcome_wins() -> None:
    gone = Cancel(request_id(1), 1, facts().connector_id)
    for cancel_first in (True, False):
        state, first = begun(accept(1, TODAY, TODAY))
        done = outcome(first, file=result_of(first.offers[0]))
        end = take(state, *([gone, done] if cancel_first else [done, gone]))
        assert kinds(end) == [("fetch_cancelled" if cancel_first else "data_fetched", request_id(1))]
        assert by_day(state.data_set(f"{facts().connector_id}|{REPORT}")) == {TODAY: 1}, "the result is kept anyway"


@pytest.mark.parametrize("how", ["released", "retried", "lost"])
def test_a_fetch_that_nobody_wants_any_more_is_not_begun_again(how: str) -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, Cancel(request_id(1), 1, facts().connector_id))
    retry = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True)
    messages = {"released": outcome(first, released=True), "retried": outcome(first, failure=retry), "lost": Tick()}
    assert not take(state, messages[how], at=NOW + 15_001).offers
    assert state.batches == {}


def test_a_deadline_ends_a_request_wherever_it_is() -> None:
    state, _ = begun(accept(1, TODAY - 1, TODAY, deadline_at=NOW + 500))
    assert planner.next_due(state) == NOW + 500
    assert kinds(take(state, Tick(), at=NOW + 499)) == []
    late = take(state, Tick(), at=NOW + 500)
    assert kinds(late) == [("fetch_failed", request_id(1))]
    assert late.events[0].data["error"]["class"] == "deadline"
    assert not take(state, accept(2, TODAY - 9, TODAY - 9, deadline_at=NOW)).offers, (
        "one that is late already costs no call"
    )


def test_more_live_requests_than_allowed_are_told_so() -> None:
    state, _ = begun(accept(1, TODAY, TODAY), max_live=1)
    full = take(state, accept(2, TODAY - 5, TODAY - 5))
    assert [e.data["error"]["code"] for e in full.events] == ["queue_full"]
    assert set(state.requests) == {request_id(1)}


def refusal(number: int) -> Refuse:
    event: Event = refused(
        now=NOW,
        kind="fetch_failed",
        org_id=1,
        connector_id=None,
        request_id=request_id(number),
        value=b"{",
        failure=BROKEN,
    )
    return Refuse(request_id(number), "fetch", event)


def test_a_refused_command_is_answered_once_and_leaves_its_id_free() -> None:
    state, _ = begun()
    assert kinds(take(state, refusal(1))) == [("fetch_failed", request_id(1))]
    assert kinds(take(state, refusal(1))) == []
    assert take(state, accept(1, TODAY, TODAY)).offers
    assert kinds(take(state, refusal(1), at=NOW + 3_600_001)) == [], "an accepted request is not refused"


def test_a_request_is_planned_again_when_its_result_lacks_days_but_not_for_ever() -> None:
    state, changes = begun(accept(1, TODAY - 4, TODAY))
    for _ in range(4):
        assert state.requests[request_id(1)].state == "running"
        lacking = stored(TODAY - 4, TODAY - 3, name="short")
        changes = take(state, outcome(changes, file=lacking))
    assert kinds(changes) == [("fetch_failed", request_id(1))]
    assert changes.events[-1].data["error"]["code"] == "incomplete_result"


def test_a_request_planned_again_is_queued_until_its_turn() -> None:
    """Its state told the truth: no fetch of it runs while every slot is another's."""
    state, first = begun(accept(1, TODAY - 4, TODAY), max_concurrent=1)
    take(state, accept(2, TODAY - 9, TODAY - 9, connector=facts(2), priority_class=1))
    take(state, outcome(first, file=stored(TODAY - 4, TODAY - 3)))
    (view,) = [r for r in state.requests.values() if r.accept.request_id == request_id(1)]
    assert (view.state, view.started_at) == ("queued", NOW)


def test_held_days_complete_a_request_at_once() -> None:
    state, first = begun(accept(1, TODAY - 5, TODAY - 1))
    take(state, outcome(first, file=result_of(first.offers[0])))
    reused = take(state, accept(2, TODAY - 4, TODAY - 2))
    assert kinds(reused) == [("data_fetched", request_id(2))]
    data = reused.events[0].data
    assert (data["provider_calls"], data["records_fetched"], data["dataset_version"]) == (0, 6, 1)
    assert not reused.offers


def test_only_missing_days_are_fetched_unless_forced() -> None:
    state, _ = begun()
    key = f"{facts().connector_id}|{REPORT}"
    state.store(f"c/{key}", add(state.data_set(key), stored(TODAY - 6, TODAY - 4), version=1, read_at=NOW, columns=()))
    gaps = take(state, accept(1, TODAY - 9, TODAY - 1)).offers
    assert sorted((o.start, o.end) for o in gaps) == [(TODAY - 9, TODAY - 7), (TODAY - 3, TODAY - 1)]
    forced = take(state, accept(2, TODAY - 5, TODAY - 5, force=True)).offers
    assert [(o.start, o.end) for o in forced] == [(TODAY - 5, TODAY - 5)]


def test_a_restart_forgets_nothing_that_is_due() -> None:
    rows = Rows()
    state, changes = begun(accept(1, TODAY, TODAY, deadline_at=NOW + 60_000), quotas=[quota()])
    rows.write(changes)
    rows.write(take(state, Cancel(request_id(2), 1, facts().connector_id)))
    heir = restore(state.rules, rows.read(), NOW)
    assert heir.requests == state.requests
    assert heir.batches == state.batches
    assert set(heir.leases) == {b.batch_id for b in batches(state)}
    assert kinds(take(heir, accept(2, TODAY - 3, TODAY - 3))) == [("fetch_cancelled", request_id(2))]
    assert ("fetch_failed", request_id(1)) in kinds(take(heir, Tick(), at=NOW + 60_000))
