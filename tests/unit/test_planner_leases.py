"""Leases, epochs and permits: who may work on what, and who may call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from app.domain import planner
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Answer, Ask, Heartbeat, Members, Offer, Returned, StepOutcome, Tick
from app.domain.rate_limit import Bucket
from app.domain.rules import Rules
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, reasons, result_of, rules, take

BROKEN = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True)


def begun(rule: Rules | None = None, **changes: Any) -> tuple[State, Offer]:
    """One request of one day, its first step offered."""
    state = State(rule or rules(), now=NOW)
    return state, take(state, accept(1, TODAY, TODAY, **changes)).offers[0]


def ask(offer: Offer, name: str = "ask1", worker: str = "w", **changes: Any) -> Ask:
    return replace(Ask(name, worker, offer.batch_id, offer.epoch, offer.step_no, "reports"), **changes)


def ended(offer: Offer, **what: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **what)


def denied(changes: Changes) -> list[str | None]:
    return [a.denied for a in changes.answers]


def beat(offer: Offer, worker: str = "w") -> Heartbeat:
    return Heartbeat(worker, ((offer.batch_id, offer.epoch),))


def test_a_holder_not_heard_of_for_the_leases_time_loses_its_step() -> None:
    state, first = begun()
    assert not take(state, Tick(), at=NOW + 15_000).offers
    (again,) = take(state, Tick(), at=NOW + 15_001).offers
    assert again == replace(first, epoch=first.epoch + 1)
    assert (state.batches[first.batch_id].losses, state.batches[first.batch_id].unheard) == (0, 1)
    take(state, ask(again))
    take(state, Tick(), at=NOW + 30_003)
    assert (state.batches[first.batch_id].losses, state.batches[first.batch_id].unheard) == (1, 1)


def test_progress_forgets_the_losses_of_steps_before() -> None:
    """A long fetch that loses a holder now and then does not kill workers."""
    state, first = begun()
    take(state, ask(first))
    (again,) = take(state, Tick(), at=NOW + 15_001).offers
    assert state.batches[again.batch_id].losses == 1
    take(state, ended(again, remote={"report_id": "1"}))
    assert state.batches[again.batch_id].losses == 0


def test_heartbeats_renew_exactly_the_leases_they_name() -> None:
    state, first = begun()
    for at in (10_000, 20_000, 30_000):
        assert not take(state, beat(first), at=NOW + at).offers
    stale = Heartbeat("w", ((first.batch_id, first.epoch - 1), ("bat_unknown", 1)))
    take(state, stale, beat(first, "another"), at=NOW + 44_000)
    assert take(state, Tick(), at=NOW + 45_001).offers, "an old epoch, or another worker, renews nothing"


def test_a_heartbeat_of_an_old_epoch_cannot_hold_on_to_the_new_lease() -> None:
    state, first = begun()
    (again,) = take(state, Tick(), at=NOW + 15_001).offers
    take(state, beat(first, "zombie"), at=NOW + 16_000)
    assert denied(take(state, ask(again, worker="heir"))) == [None]


def test_old_epochs_and_ended_steps_get_no_permits() -> None:
    state, first = begun()
    take(state, Tick(), at=NOW + 15_001)
    assert denied(take(state, ask(first))) == ["stale"]
    state, first = begun()
    take(state, ended(first, remote={"report": "1"}))
    assert denied(take(state, ask(first))) == ["stale"], "it is with the provider, nobody holds it"
    (poll,) = take(state, Tick(), at=NOW + 5_000).offers
    assert denied(take(state, ask(first, "ask2"))) == ["stale"]
    assert denied(take(state, ask(poll, "ask3", step_no=first.step_no))) == ["stale"]
    assert denied(take(state, ask(poll, "ask4"))) == [None]


def test_the_first_worker_that_asks_holds_the_lease() -> None:
    """An offer may be delivered to two workers."""
    state, first = begun()
    assert denied(take(state, ask(first, "ask1", "one"), ask(first, "ask2", "two"))) == [None, "stale"]


def test_leases_of_workers_that_left_end_at_once() -> None:
    state, first = begun()
    take(state, beat(first))
    assert not take(state, Members(("w", "x"))).offers
    (again,) = take(state, Members(("x",))).offers
    assert again.epoch == first.epoch + 1
    assert not take(state, Members(("x",))).offers, "who takes it up is not known yet"


def test_an_heir_ends_leases_of_workers_that_left_and_renews_the_others() -> None:
    state, rows = State(rules(), now=NOW), Rows()
    first_step = take(state, accept(1, TODAY, TODAY))
    rows.write(first_step)
    (first,) = first_step.offers
    rows.write(take(state, ask(first, worker="w")))
    heir = restore(state.rules, rows.read(), NOW)
    assert not take(heir, Members(("w", "x")), at=NOW + 60_000).offers, "nobody's heartbeats were heard meanwhile"
    (again,) = take(heir, Members(("x",)), at=NOW + 60_001).offers
    assert again.epoch == first.epoch + 1


def test_a_batch_that_kills_its_workers_is_given_up() -> None:
    state, offer = begun()
    for loss in range(1, 6):
        take(state, beat(offer), at=NOW + loss * 20_000 - 19_000)
        step = take(state, Tick(), at=NOW + loss * 20_000)
        assert not step.events
        (offer,) = step.offers
    take(state, beat(offer), at=NOW + 101_000)
    gone = take(state, Tick(), at=NOW + 120_000)
    assert [(e.type, e.data["error"]["code"]) for e in gone.events] == [("fetch_failed", "worker_lost")]
    assert state.batches == {}


def test_an_offer_that_nobody_takes_waits_for_a_worker_long_but_not_for_ever() -> None:
    state, _ = begun()
    for look in range(1, 61):
        assert not take(state, Tick(), at=NOW + look * 15_001).events
    gone = take(state, Tick(), at=NOW + 61 * 15_001)
    assert [(e.type, e.data["error"]["code"]) for e in gone.events] == [("fetch_failed", "worker_lost")]


@pytest.mark.parametrize("what", [{"failure": BROKEN}, {"released": True}])
def test_who_does_not_hold_the_lease_cannot_end_its_step(what: dict[str, Any]) -> None:
    state, offer = begun()
    take(state, ask(offer))
    take(state, replace(ended(offer, **what), worker="another"))
    assert state.batches[offer.batch_id].step_no == offer.step_no
    assert not denied(take(state, ask(offer, "ask2")))[0]


def test_the_result_of_a_lost_lease_counts_if_it_comes_first() -> None:
    state, first = begun()
    (again,) = take(state, Tick(), at=NOW + 15_001).offers
    assert [e.type for e in take(state, ended(first, file=result_of(first))).events] == [
        "dataset_updated",
        "data_fetched",
    ]
    assert not take(state, ended(again, file=result_of(again, reading="later"))).events
    assert denied(take(state, ask(again))) == ["stale"]


@pytest.mark.parametrize("what", [{"failure": BROKEN}, {"released": True}])
def test_a_failure_of_a_lost_lease_changes_nothing(what: dict[str, Any]) -> None:
    state, first = begun()
    (again,) = take(state, Tick(), at=NOW + 15_001).offers
    take(state, ended(first, **what))
    batch = state.batches[first.batch_id]
    assert (batch.state, batch.epoch, batch.attempts) == ("leased", again.epoch, 0)


def test_an_outcome_told_twice_moves_the_batch_once() -> None:
    state, first = begun()
    running = ended(first, remote={"report": "1"})
    take(state, running, running)
    batch = state.batches[first.batch_id]
    assert (batch.state, batch.step_no, batch.polls) == ("remote", 1, 1)
    (poll,) = take(state, Tick(), at=NOW + 5_000).offers
    take(state, running)
    assert state.batches[first.batch_id].state == "leased"
    assert (poll.step, poll.remote) == ("poll", {"report": "1"})


def test_polls_follow_the_schedule_or_the_providers_word() -> None:
    state, first = begun(rules(polls_s=(5.0, 20.0)))
    take(state, ended(first, remote={"report": "1"}))
    (poll,) = take(state, Tick(), at=NOW + 5_000).offers
    take(state, ended(poll, remote={"report": "1"}))
    assert not take(state, Tick(), at=NOW + 24_999).offers
    (poll,) = take(state, Tick(), at=NOW + 25_000).offers
    take(state, ended(poll, remote={"report": "1"}, poll_after_s=2.0))
    assert take(state, Tick(), at=NOW + 27_000).offers


def test_between_polls_nobody_holds_a_slot_and_a_due_poll_gets_the_next_one() -> None:
    """Else reports stand ready at the provider for as long as new ones can be begun."""
    state, first = begun(rules(max_concurrent=1))
    (second,) = take(state, ended(first, remote={"report": "1"}), accept(2, TODAY - 3, TODAY - 3)).offers
    take(state, accept(3, TODAY - 5, TODAY - 5, priority_class=1), beat(second), at=NOW + 5_000)
    assert state.batches[first.batch_id].state == "remote"
    freed = take(state, ended(second, file=result_of(second)), at=NOW + 5_100)
    assert [(o.batch_id, o.step) for o in freed.offers] == [(first.batch_id, "poll")]
    (third,) = take(state, ended(freed.offers[0], file=result_of(first))).offers
    assert third.start == TODAY - 5


def test_slots_are_the_limit_and_go_by_priority_then_age() -> None:
    state = State(rules(max_concurrent=2), now=NOW)
    accepts = [
        accept(n, TODAY - n, TODAY - n, priority_class=priority, accepted_at=NOW + n, connector=facts(n))
        for n, priority in enumerate((5, 3, 1, 2, 1), 1)
    ]
    assert [o.priority_class for o in take(state, *accepts).offers] == [1, 1]
    positions = [state.queue.position(p) for r in state.requests.values() for p in r.parts]
    assert positions == [3, 2, None, 1, None]


def test_days_of_one_data_set_are_in_flight_once() -> None:
    """A batch of another window overlaps one that runs: it waits, and then needs only what is missing."""
    state, first = begun(connector=facts())
    later = accept(2, TODAY - 2, TODAY, fields=("reach",), accepted_at=NOW + 400_000)
    assert not take(state, later).offers
    assert [w and w["reason"] for w in reasons(state).values()] == ["overlapping_fetch"]
    freed = take(state, ended(first, file=result_of(first)))
    assert [(o.start, o.end, o.fields) for o in freed.offers] == [(TODAY - 2, TODAY, ("reach",))]


def test_permits_are_counted_before_they_are_answered() -> None:
    state, first = begun(rules([quota(limit=2)]))
    changes = take(state, ask(first, "ask1"), ask(first, "ask2"), ask(first, "ask3"))
    assert denied(changes) == [None, None]
    assert {k for k in changes.rows if k.startswith("p/")} == {"p/ask1", "p/ask2"}
    assert set(state.asks) == {"ask3"}


def test_a_waiting_ask_is_answered_as_soon_as_a_returned_slot_is_free() -> None:
    state, first = begun(rules([quota(limit=1)]))
    take(state, ask(first, "ask1"), ask(first, "ask2"))
    take(state, Returned(("ask1",)), at=NOW + 300)
    assert denied(take(state, Tick(), at=NOW + 1_300)) == []
    assert planner.next_due(state) == NOW + 1_301
    assert denied(take(state, Tick(), at=NOW + 1_301)) == [None]


def test_an_ask_that_would_wait_long_is_told_when_to_come_back() -> None:
    state, first = begun(rules([quota(limit=1, period_ms=60_000)], ask_hold_ms=4_000))
    take(state, ask(first, "ask1"))
    take(state, Returned(("ask1",)))
    assert take(state, ask(first, "ask2"), at=NOW + 10).answers == [Answer("ask2", "w", "quota", NOW + 60_001, 59_991)]


def test_an_ask_repeated_is_granted_once_and_one_given_up_is_forgotten() -> None:
    state, first = begun(rules([quota(limit=1)]))
    assert denied(take(state, ask(first), ask(first))) == [None]
    assert denied(take(state, ask(first))) == []
    take(state, ask(first, "ask2"), beat(first))
    take(state, beat(first), at=NOW + 10_001)
    assert state.asks == {}, "its worker waits for it no longer"


def test_a_waiting_ask_keeps_back_new_fetches_of_its_quota_and_no_others() -> None:
    state, first = begun(rules([quota(limit=1, period_ms=20_000, scope="user")]))
    take(state, ask(first, "ask1"), ask(first, "ask2"), beat(first))
    same = take(state, accept(2, TODAY, TODAY, connector=facts(2)))
    other = take(state, accept(3, TODAY, TODAY, connector=facts(3, subject="another")))
    assert not same.offers
    assert [o.connector.subject for o in other.offers] == ["another"]


def test_a_throttled_head_blocks_nobody_whose_quota_has_room() -> None:
    state = State(rules([quota(limit=1, scope="account")]), now=NOW)
    state.limits_of_type("DV360").close("per_second|acc1", NOW + 60_000)
    accepts = [accept(n, TODAY, TODAY, connector=facts(n), priority_class=n) for n in (1, 2)]
    assert [o.connector.account_id for o in take(state, *accepts).offers] == ["acc2"]
    assert list(reasons(state).values()) == [{"reason": "quota", "until": NOW + 60_000, "bucket": "per_second"}]
    assert [o.connector.account_id for o in take(state, Tick(), at=NOW + 60_000).offers if o.epoch == 1] == ["acc1"]


def test_a_fetch_begins_only_when_its_whole_minimum_fits_into_the_day() -> None:
    """Else reports are created that cannot be downloaded (R3). Others' reservations are looked at again in seconds."""
    state, first = begun(rules([quota("per_day", 5, 86_400_000, calendar_zone="UTC")]))
    assert not take(state, accept(2, TODAY - 4, TODAY - 4)).offers
    assert planner.next_due(state) == NOW + 1_000
    assert state.blocked_until == NOW + 5_000
    take(state, ask(first), ask(first, "ask2"), ask(first, "ask3"))
    done = take(state, ended(first, file=result_of(first)))
    assert not done.offers, "three of five are spent, three are needed"
    assert state.blocked_until is not None
    assert state.blocked_until > NOW + 11 * 3_600_000, "the day's end"


def test_what_a_fetch_did_not_need_is_free_again() -> None:
    state, first = begun(rules([quota("per_day", 5, 86_400_000, calendar_zone="UTC")]))
    take(state, accept(2, TODAY - 4, TODAY - 4), ask(first))
    assert [o.start for o in take(state, ended(first, file=result_of(first))).offers] == [TODAY - 4]


def test_a_permit_that_never_comes_back_counts_to_the_calls_latest_end_and_is_then_forgotten() -> None:
    rule = rules([quota(limit=1)], permit_valid_ms=1_000, call_timeout_ms=2_000)
    state, first = begun(rule)
    take(state, ask(first))
    bucket = state.limits_of_type("DV360").buckets["per_second|"]
    take(state, beat(first), at=NOW + 4_000)
    assert (bucket.used(NOW + 4_000), set(state.permits)) == (1, {"ask1"})
    take(state, Tick(), at=NOW + 4_001)
    assert (bucket.used(NOW + 4_001), set(state.permits)) == (0, {"ask1"}), "its minute is not told yet"
    take(state, Tick(), at=NOW + 60_000)
    assert state.permits == {}


def test_an_ask_that_waits_wakes_the_planner_once_however_often_it_is_looked_at() -> None:
    """The permit before it is still out and counts for minutes, yet will be back within moments: looked at again after
    a period, sooner than the idle tick, and with no reminder for each look."""
    state, first = begun(rules([quota(limit=1, period_ms=500)], minimum=1))
    take(state, ask(first, "one"))
    take(state, ask(first, "two"), at=NOW + 100)
    before = len(state.due)
    for at in range(110, 600, 10):
        assert not take(state, Tick(), at=NOW + at).answers
        assert planner.next_due(state) == NOW + at + 501
    assert len(state.due) == before
    take(state, Returned(("one",)), at=NOW + 600)
    (answer,) = take(state, Tick(), at=NOW + 1_101).answers
    assert (answer.ask_id, answer.denied) == ("two", None)
    assert state.asks_wait_until is None


def test_what_a_fetch_gives_back_is_looked_for_in_its_own_buckets() -> None:
    """Of other accounts there may be ten thousand, each with a bucket of its own."""

    class Alone(dict[str, Bucket]):
        def values(self) -> NoReturn:
            raise AssertionError("a walk over everybody's buckets")

    state, offer = begun(rules([quota(limit=9, period_ms=3_600_000, scope="account")]))
    limits = state.limits_of_type("DV360")
    (bucket,) = limits.buckets.values()
    assert bucket.reserved == {offer.batch_id: 3}
    limits.buckets = Alone(limits.buckets)
    take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer)))
    assert not bucket.reserved
