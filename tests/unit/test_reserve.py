"""What is kept for classes 1 and 2, and from whom. (Against brute force: tests/property/test_rate_limit_model.py)"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import reserve
from app.domain.messages import Ask, Offer, StepOutcome, Tick
from app.domain.model import Quota
from app.domain.rate_limit import Bucket, Limits
from app.domain.reserve import Melting
from app.domain.state import Changes, State
from app.testing.planning import NOW, TODAY, accept, batches, facts, quota, reasons, rules, take

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HALF = quota("per_hour", 4, HOUR_MS, reserve=Decimal("0.5"))
CALENDAR = quota("per_day", 10, DAY_MS, calendar_zone="UTC", reserve=Decimal("0.5"))


def begun(*quotas: Quota, **changes: Any) -> State:
    return State(rules(quotas, minimum=1, max_concurrent=50, **changes), now=NOW)


def asked(state: State, number: int, priority_class: int = 3) -> Changes:
    """A request of an account of its own, so that nothing but the quota keeps it."""
    return take(state, accept(number, TODAY, TODAY, connector=facts(number), priority_class=priority_class))


def call(state: State, offer: Offer, name: str) -> bool:
    answers = take(state, Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, "reports")).answers
    return [a.denied for a in answers] == [None]


def spent(state: State, numbers: range, priority_class: int = 3) -> list[Offer]:
    """Fetches that have begun, with one call each."""
    offers = [o for n in numbers for o in asked(state, n, priority_class).offers]
    assert all(call(state, o, f"ask {o.batch_id}") for o in offers)
    return offers


# how much


@given(st.fractions(0, 900), st.integers(1, 10**8), st.integers(0, 10**9), st.integers(-(10**8), 2 * 10**8))
def test_it_melts_in_a_straight_line_in_whole_calls(calls: Fraction, length: int, opens: int, after: int) -> None:
    melting = Melting(calls, opens, opens + length)
    left = min(max(Fraction(length - after, length), Fraction(0)), Fraction(1))
    assert melting.at(opens + after) == int(calls * left)


@given(st.fractions(0, 900), st.integers(1, 10**8), st.integers(0, 10**9), st.integers(0, 900))
def test_the_time_at_which_few_enough_are_kept_is_the_first(
    calls: Fraction, length: int, opens: int, most: int
) -> None:
    melting = Melting(calls, opens, opens + length)
    at = melting.free_at(most)
    assert melting.at(at) <= most
    assert at == opens or melting.at(at - 1) > most
    assert opens <= at <= opens + length


def test_a_day_that_is_shorter_than_its_guards_keeps_nothing() -> None:
    assert (Melting(Fraction(9), 10, 10).at(0), Melting(Fraction(9), 10, 5).free_at(0)) == (0, 10)


@pytest.mark.parametrize(
    ("limit", "share", "kept"), [(10, "0.25", 2), (1, "0.9", 0), (2, "0.9", 1), (1000, "0.9", 900), (10, "0", 0)]
)
def test_a_sliding_share_is_rounded_down_and_never_the_whole(limit: int, share: str, kept: int) -> None:
    assert reserve.standing(quota(limit=limit, reserve=Decimal(share))) == kept < limit


def test_by_default_a_tenth_of_calendar_quotas_is_kept_and_nothing_of_others() -> None:
    assert reserve.calls_of(quota(limit=15, calendar_zone="UTC")) == Fraction(3, 2)
    assert reserve.calls_of(quota(limit=15)) == 0


@pytest.mark.parametrize(("date", "hours"), [((2026, 3, 8), 23), ((2026, 11, 1), 25), ((2026, 7, 1), 24)])
def test_half_of_it_is_left_at_half_of_a_day_of_any_length(date: tuple[int, int, int], hours: int) -> None:
    zone = "America/Los_Angeles"
    rule = quota("per_day", 2_000, DAY_MS, calendar_zone=zone)
    bucket = Bucket("per_day|", rule, 130_000, 60_000)
    midnight = int(datetime(*date, tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    opens, ends = midnight + 60_000, midnight + hours * HOUR_MS - 60_000 - 130_000
    assert [2_000 - bucket.left(at, whole=False) for at in (opens, (opens + ends) // 2, ends - 1)] == [200, 100, 0]
    assert bucket.left(opens) == 2_000


def test_near_midnight_what_the_next_day_keeps_counts_too() -> None:
    bucket = Bucket("per_day|", CALENDAR, 130_000, 60_000)
    before = NOW + 12 * HOUR_MS - 190_000
    assert [bucket.left(at, whole=False) for at in (before - 1, before)] == [10, 5]


# from whom


def test_others_than_classes_1_and_2_leave_it_alone() -> None:
    state = begun(HALF)
    assert len(spent(state, range(1, 3))) == 2
    held = asked(state, 3)
    assert not held.offers
    (batch,) = (b for b in batches(state) if b.state == "queued")
    assert (reasons(state)[batch.batch_id] or {})["reason"] == "quota"
    assert (reasons(state)[batch.batch_id] or {})["bucket"] == "per_hour"
    assert [e.type for e in held.events] == [], "a bucket with room for somebody is not full"
    assert len(spent(state, range(4, 5), 2)) == len(spent(state, range(5, 6), 1)) == 1
    assert not asked(state, 6, 1).offers


@pytest.mark.parametrize("priority_class", [3, 4, 5])
def test_what_was_begun_is_ended(priority_class: int) -> None:
    state = begun(HALF)
    (second,) = asked(state, 1, priority_class).offers
    take(state, StepOutcome(second.batch_id, second.epoch, second.step_no, "w", 1, remote={"report": "1"}))
    (first,) = spent(state, range(2, 3), priority_class)
    spent(state, range(4, 5), 1)
    assert not asked(state, 3, priority_class).offers
    assert call(state, first, "another"), "it has called"
    (poll,) = take(state, Tick(), at=NOW + 5_000).offers
    assert call(state, poll, "poll"), "its report waits"


def test_a_fetch_that_has_only_been_offered_is_not_begun() -> None:
    state = begun(HALF)
    offers = [o for n in (1, 2) for o in asked(state, n).offers]
    spent(state, range(4, 6), 1)
    assert [call(state, o, o.batch_id) for o in offers] == [False, False]


def test_the_wait_ends_when_enough_has_melted() -> None:
    state = begun(CALENDAR)
    assert len(spent(state, range(1, 9))) == 8, "of 10 at noon a quarter less what the guards take is kept: 2"
    assert not asked(state, 9).offers
    (batch,) = (b for b in batches(state) if b.state == "queued")
    until = (reasons(state)[batch.batch_id] or {})["until"]
    midnight = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp() * 1000)
    length = DAY_MS - 60_000 - 60_000 - 130_000
    # 5 * left / length < 2
    assert until == midnight + 60_000 + length - (2 * length - 1) // 5
    early, due = (take(state, Tick(), at=at).offers for at in (until - 1, until))
    assert batch.batch_id not in {o.batch_id for o in early}, "others' leases have run out"
    assert [o.batch_id for o in due] == [batch.batch_id]


def test_a_calendar_reserve_is_spent_when_its_day_ends() -> None:
    state = begun(CALENDAR)
    take(state, Tick(), at=NOW + 12 * HOUR_MS - 190_001)
    assert len(spent(state, range(1, 12))) == 10


def test_a_shadow_quota_keeps_nothing() -> None:
    state = begun(replace(HALF, enforced=False))
    assert len(spent(state, range(1, 8))) == 7


def test_a_need_beyond_the_share_does_not_wait_for_ever() -> None:
    limits = Limits((HALF,), 130_000, 60_000)
    (bucket,) = limits.of("reports", facts())
    assert (bucket.most(3, whole=False), bucket.most(3)) == (2, 3)


def test_a_better_class_passes_where_the_reserve_keeps_its_lane_out() -> None:
    half = quota("per_hour", 2, 3_600_000, scope="account", reserve=Decimal("0.5"))
    state = State(rules((half,), minimum=1), now=NOW)
    assert take(state, accept(1, TODAY, TODAY)).offers
    assert not take(state, accept(2, TODAY - 5, TODAY - 5)).offers, "the second half is kept"
    assert [o.start for o in take(state, accept(3, TODAY - 9, TODAY - 9, priority_class=1)).offers] == [TODAY - 9]
