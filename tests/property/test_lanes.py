"""What keeps a batch back keeps nobody else, and ends when it is over: to the millisecond, and after a move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.lanes import Fairness
from app.domain.messages import Accept, Ask, Cancel, Offer, Returned, StepOutcome
from app.testing.planning import NOW, TODAY, accept, quota, reasons, result_of, rules
from app.testing.planning_starts import Starts

PERIOD, LIMIT, LONG = 10_000, 3, 86_400_000
HOUR = 3_600_000


def asleep(*quotas: Any, minimum: int = 1, **changes: Any) -> Starts:
    """Fetches that go on until a test ends them; leases outlive everything."""
    return Starts(rules(quotas, minimum=minimum, lease_ms=10 * LONG, **changes), service_ms=10 * LONG)


def ended(offer: Offer, **how: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 0, **(how or {"file": result_of(offer)}))


def asked(offer: Offer, name: str) -> Ask:
    return Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, "reports")


def begun(w: Starts, message: Accept) -> Offer:
    (offer,) = w.take(message).offers
    return offer


def started_at(w: Starts, message: Accept) -> int | None:
    return next((s.at for s in w.log if s.request_id == message.request_id), None)


permits = st.tuples(st.integers(0, 9_000), st.none() | st.integers(0, 40_000))


@settings(max_examples=120, deadline=None)
@given(st.lists(permits, min_size=LIMIT, max_size=LIMIT), st.integers(1, 20_000))
def test_a_lane_starts_within_a_millisecond_of_room(calls: list[tuple[int, int | None]], came: int) -> None:
    """Of three permits each counts until one period after its return, or after its call's latest end if none comes."""
    w = asleep(quota("per_10_s", LIMIT, PERIOD, scope="account"), max_concurrent=10)
    first = begun(w, w.request(1, 3, account_id="a"))
    late = w.request(1, 3, account_id="a")
    late = accept(77, TODAY, TODAY, connector=late.connector, accepted_at=NOW + 9_000 + came)
    lifetime = w.rules.permit_valid_ms + w.rules.call_timeout_ms
    news: list[tuple[int, Any]] = [(NOW + 9_000 + came, late)]
    free = []
    for n, (at, latency) in enumerate(sorted(calls, key=lambda c: c[0])):
        news.append((NOW + at, asked(first, f"ask{n}")))
        if latency is not None:
            news.append((NOW + at + latency, Returned((f"ask{n}",))))
        free.append(NOW + at + (lifetime if latency is None else latency) + PERIOD + 1)
    stranger = w.request(2, 3, account_id="b")
    news.append((NOW + 9_000 + came + 1, stranger))
    for at, message in sorted(news, key=lambda one: one[0]):
        w.run(until=at)
        w.take(message, at=at)
    w.run(until=NOW + 9_000 + came + lifetime + 2 * PERIOD)
    due = max(NOW + 9_000 + came, min(free))
    began = started_at(w, late)
    assert began is not None
    assert due <= began <= due + 1
    assert started_at(w, stranger) == NOW + 9_000 + came + 1


@pytest.mark.parametrize("scope", ["account", "user"])
def test_a_reservation_given_back_starts_the_lane_in_the_same_step(scope: str) -> None:
    w = asleep(quota("per_day", 5, LONG, scope=scope, calendar_zone="UTC"), minimum=3)
    first = begun(w, w.request(1, 3, account_id="a"))
    late, other = w.request(1, 3, account_id="a"), w.request(2, 3, account_id="b")
    w.take(late, other, at=NOW + 1)
    assert started_at(w, late) is None
    assert started_at(w, other) == NOW + 1
    w.take(ended(first), at=NOW + 7)
    assert started_at(w, late) == NOW + 7


@pytest.mark.parametrize("seconds", [1.5, 30.0, 39_600.0])
def test_a_lane_starts_when_its_closure_is_over(seconds: float) -> None:
    w = asleep(quota("per_10_s", LIMIT, PERIOD, scope="account"))
    first = begun(w, w.request(1, 1, account_id="a"))
    others = [w.request(1, 3, account_id="a"), w.request(1, 5, account_id="b"), w.request(2, 5, account_id="a2")]
    failure = Failure(ErrorClass.QUOTA, "x", "x", retryable=True, throttle=Throttle(None, seconds))
    w.take(ended(first, failure=failure), *others, at=NOW + 1)
    assert [started_at(w, m) for m in others] == [None, NOW + 1, NOW + 1]
    w.run(until=NOW + 2 * int(seconds * 1000))
    assert started_at(w, others[0]) == NOW + 1 + int(seconds * 1000)
    assert w.log[-2:] == [s for s in w.log if s.at == NOW + 1 + int(seconds * 1000)], "and the one that was throttled"


def test_one_that_backs_off_keeps_nobody_of_its_lane() -> None:
    w = asleep(quota("per_10_s", LIMIT, PERIOD, scope="account"))
    first = begun(w, w.request(1, 1, account_id="a"))
    broken = Failure(ErrorClass.PROVIDER_SYSTEM, "x", "x", retryable=True, retry_after_s=90.0)
    late = w.request(1, 5, account_id="a")
    w.take(ended(first, failure=broken), late, at=NOW + 1)
    assert started_at(w, late) == NOW + 1
    assert list(reasons(w.state).values()) == [{"reason": "backing_off", "until": NOW + 90_001}]
    w.run(until=NOW + 200_000)
    assert [s.at for s in w.log if s.batch_id == first.batch_id] == [NOW, NOW + 90_001]


REFUSED = Failure(ErrorClass.NOT_FOUND, "x", "x", retryable=False)
BROKEN = Failure(ErrorClass.PROVIDER_SYSTEM, "x", "x", retryable=True, retry_after_s=60.0)
LOST = replace(BROKEN, remote_lost=True)
ENDS: list[tuple[bool, dict[str, Any]]] = [
    *((remote, how) for remote in (False, True) for how in ({}, {"failure": REFUSED})),
    *((False, how) for how in ({"failure": BROKEN}, {"released": True, "not_before_s": 60.0})),
    (True, {"failure": LOST}),
]


@pytest.mark.parametrize(("remote", "how"), ENDS)
def test_overlapping_days_start_in_the_step_in_which_the_fetch_before_ends(
    how: dict[str, Any], *, remote: bool
) -> None:
    """Nobody else of the lane waits for it."""
    w = asleep()
    first = begun(w, accept(1, TODAY - 5, TODAY))
    if remote:
        w.take(ended(first, remote={"id": "x"}, poll_after_s=5.0), at=NOW + 1)
        (first,) = w.take(at=NOW + 5_001).offers
    late = accept(2, TODAY - 6, TODAY - 5, force=True, priority_class=2)
    beside = accept(3, TODAY - 30, TODAY - 29, priority_class=5)
    w.take(late, beside, at=NOW + 6_000)
    assert [started_at(w, m) for m in (late, beside)] == [None, NOW + 6_000]
    w.run(until=NOW + 8_000)
    assert started_at(w, late) is None
    w.take(ended(first, **how), at=NOW + 8_000)
    assert started_at(w, late) == NOW + 8_000


def test_an_accounts_slot_that_comes_free_starts_its_next_in_the_same_step() -> None:
    w = asleep(max_concurrent=4)
    mine = w.requests(3, 1, 3, account_id="a")
    w.take(*mine)
    offer = w.state.batches[w.log[0].batch_id]
    assert len(w.log) == 2
    other = w.request(1, 5, account_id="b")
    w.take(other, at=NOW + 1)
    assert started_at(w, other) == NOW + 1, "one of the same organisation passes"
    w.take(StepOutcome(offer.batch_id, 1, 0, "w", 0, file=None, failure=REFUSED), at=NOW + 2)
    assert [s.at for s in w.log] == [NOW, NOW, NOW + 1, NOW + 2]


ORDERLY = Fairness({"premium": 2}, floor_percent=0, aging_ms=10**9)
asks = st.tuples(
    st.integers(1, 4), st.sampled_from([1, 2, 3, 5]), st.integers(1, 2), st.integers(0, 3_000), st.integers(0, 9)
)


def moving(wanted: list[tuple[int, int, int, int, int]], move_at: int | None, slots: int, quotas: Any) -> Starts:
    """A run of these requests (organisation, class, account, when, a tenth is cancelled), the planner moved once. The
    bucket of one account is closed for the first five seconds."""
    w = Starts(rules(quotas, max_concurrent=slots, fairness=ORDERLY), durable=True)
    throttled = Failure(ErrorClass.QUOTA, "x", "x", retryable=True, throttle=Throttle(None, 5.0))
    w.take(ended(begun(w, w.request(9, 1, account_id="acc1")), failure=throttled))
    coming: list[tuple[int, Any]] = []
    for org, class_, account, at, cancelled in wanted:
        plan = "premium" if org == 2 else "standard"
        message = w.request(org, class_, account_id=f"acc{account}", plan=plan)
        coming.append((NOW + at, message))
        if not cancelled:
            who = message.connector
            coming.append((NOW + at + 700, Cancel(message.request_id, who.org_id, who.connector_id)))
    if move_at is not None:
        coming.append((NOW + move_at, None))
    for at, one in sorted(coming, key=lambda c: (c[0], c[1] is None)):
        w.run(until=at)
        if one is not None:
            w.take(one, at=at)
        else:
            before = list(w.state.queue)
            w.move()
            assert list(w.state.queue) == before
            w.take(at=at)
            assert None not in reasons(w.state).values()
    w.run()
    return w


@settings(max_examples=60, deadline=None)
@given(st.lists(asks, max_size=25), st.integers(3_000, 9_000), st.integers(1, 3))
def test_a_move_changes_nobodys_turn(wanted: list[tuple[int, int, int, int, int]], at: int, slots: int) -> None:
    """Newcomers after it may stand a little otherwise: virtual time is only known from the tags that are left."""
    closed = (quota("per_minute", 5, 60_000, scope="account"),)
    straight, moved = moving(wanted, None, slots, closed), moving(wanted, at, slots, closed)
    assert moved.log == straight.log


def test_after_a_move_newcomers_do_not_pass_those_who_waited() -> None:
    """Virtual time is known again from the tags of those that wait and of the one under way."""
    w = Starts(rules(max_concurrent=1, fairness=ORDERLY), durable=True)
    w.take(*w.requests(30, 2, 3), *w.requests(30, 3, 3))
    w.run(starts=40)
    w.move()
    newcomer = w.request(4, 3)
    w.take(newcomer)
    (name,) = w.state.requests[newcomer.request_id].parts
    class_, finish = w.state.batches[name].turn or (0, 0)
    assert class_ == 3
    assert finish >= 3_000 * 20, "twenty of each have started"
    assert w.state.queue.position(name) in (1, 2, 3)


def test_of_several_full_buckets_the_last_to_have_room_is_the_reason() -> None:
    both = quota("per_10_s", LIMIT, PERIOD, scope="account"), quota("per_minute", 9, 60_000, scope="user")
    for name in ("per_10_s|a", "per_minute|user1"):
        w = asleep(*both)
        for key in ("per_10_s|a", "per_minute|user1"):
            w.state.limits_of_type("DV360").close(key, NOW + (30_000 if key == name else 10_000))
        w.take(w.request(1, 3, account_id="a"))
        bucket = name.partition("|")[0]
        assert list(reasons(w.state).values()) == [{"reason": "quota", "until": NOW + 30_000, "bucket": bucket}]


def test_whoever_waits_is_told_when_it_waits_for_something_else() -> None:
    w = asleep(quota("per_10_s", LIMIT, PERIOD, scope="account"))
    mine = w.request(1, 3, account_id="a")
    broken = Failure(ErrorClass.PROVIDER_SYSTEM, "x", "x", retryable=True, retry_after_s=90.0)
    told = w.take(ended(begun(w, mine), failure=broken), at=NOW + 1).views[mine.request_id]
    assert (told and told.waiting) == {"reason": "backing_off", "until": NOW + 90_001}
    w.state.limits_of_type("DV360").close("per_10_s|a", NOW + 200_000)
    assert mine.request_id not in w.take(at=NOW + 90_000).views
    told = w.take(at=NOW + 90_001).views[mine.request_id]
    assert (told and told.waiting) == {"reason": "quota", "until": NOW + 200_000, "bucket": "per_10_s"}
