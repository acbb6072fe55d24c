"""What a throttle closes, and until when."""

from __future__ import annotations

import pytest

from app.domain.messages import Ask, Tick
from app.domain.model import Quota
from app.domain.state import restore
from app.testing.planning import (
    NOW,
    TODAY,
    Rows,
    accept,
    batches,
    facts,
    quota,
    reasons,
    request_id,
    take,
)
from tests.unit.outcome_steps import SLIDING, begun, call, ended, throttled

# throttles


def test_a_throttle_closes_its_bucket_for_everybody_until_the_providers_time_and_says_so_once() -> None:
    state, first = begun(accept(1, TODAY, TODAY), accept(2, TODAY, TODAY, connector=facts(2)), quotas=(SLIDING,))
    one, two = first.offers
    told = take(state, ended(one, failure=throttled("per_minute", 7.0)))
    assert [(e.type, e.data["until"], e.data["source"], e.data["spent_by_others"]) for e in told.events] == [
        ("rate_limit_hit", NOW + 7_000, "provider", True)
    ]
    assert reasons(state)[one.batch_id] == {"reason": "quota", "until": NOW + 7_000, "bucket": "per_minute"}
    more = take(state, ended(two, failure=throttled("per_minute", 6.0)), accept(3, TODAY, TODAY, connector=facts(3)))
    assert not more.events
    assert not more.offers
    assert not take(state, Tick(), at=NOW + 6_999).offers
    again = take(state, Tick(), at=NOW + 7_000)
    assert len(again.offers) == 3
    assert [b.attempts for b in batches(state)] == [0, 0, 0], "a throttle is no attempt"


def test_a_closure_outlives_the_planner() -> None:
    rows = Rows()
    state, first = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    rows.write(first)
    rows.write(take(state, ended(first.offers[0], failure=throttled(None, 7.0))))
    heir = restore(state.rules, rows.read(), NOW)
    assert not take(heir, accept(2, TODAY, TODAY, connector=facts(2)), at=NOW + 6_999).offers
    assert len(take(heir, Tick(), at=NOW + 7_000).offers) == 2


def test_closures_without_a_time_double_and_a_second_throttle_meanwhile_is_the_same_closure() -> None:
    state, first = begun(*(accept(n, TODAY, TODAY, connector=facts(n)) for n in (1, 2)), quotas=(SLIDING,))
    spans = []
    for _ in range(3):
        start = state.now
        for offer in first.offers:
            take(state, ended(offer, failure=throttled()))
        until = state.closures["per_minute|"].until
        spans.append(until - start)
        first = take(state, Tick(), at=until)
        assert len(first.offers) == 2
    assert spans == [60_000, 120_000, 240_000]


MINUTE = quota("app_minute", 100, 60_000)
USER = quota("user_minute", 100, 60_000, scope="user")
SECOND = quota("app_second", 4, 1_000)
HOUR = quota("account_hour", 100, 3_600_000, scope="account")
DAY = quota("app_day", 100, 86_400_000, calendar_zone="UTC")
ENTITIES = quota("entities_minute", 100, 60_000, charge="entities")
DAY_END = NOW + 12 * 3_600_000 + 60_000


@pytest.mark.parametrize(
    ("quotas", "named", "until_s", "closed", "until"),
    [
        ((SECOND, MINUTE, USER, HOUR, DAY), None, 7.0, "app_minute|", NOW + 7_000),
        ((SECOND, USER, HOUR, DAY), None, None, "app_second|", NOW + 60_000),
        ((USER, HOUR, DAY), None, None, "user_minute|someone", NOW + 60_000),
        ((HOUR, DAY), None, None, "account_hour|acc1", NOW + 60_000),
        ((ENTITIES, SECOND), None, None, "app_second|", NOW + 60_000),
        ((MINUTE, HOUR, DAY), "account_hour", None, "account_hour|acc1", NOW + 60_000),
        ((MINUTE, HOUR, DAY), "app_day", None, "app_day|", DAY_END),
        ((MINUTE, HOUR, DAY), "app_day", 39_600.0, "app_day|", NOW + 39_600_000),
        ((MINUTE, ENTITIES), "entities_minute", 9.0, "entities_minute|", NOW + 9_000),
        ((MINUTE, DAY), "unheard_of", None, "app_minute|", NOW + 60_000),
        ((MINUTE,), None, 0.0, "app_minute|", NOW + 1_000),
        ((MINUTE,), None, -1e9, "app_minute|", NOW + 1_000),
        ((MINUTE,), None, 1e12, "app_minute|", NOW + 26 * 3_600_000),
        ((MINUTE,), None, float("inf"), "app_minute|", NOW + 26 * 3_600_000),
    ],
)
def test_which_bucket_a_throttle_closes_and_until_when(
    quotas: tuple[Quota, ...], named: str | None, until_s: float | None, closed: str, until: int
) -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=quotas)
    call(state, first.offers[0], "ask1")
    told = take(state, ended(first.offers[0], failure=throttled(named, until_s)))
    assert {key: row.until for key, row in state.closures.items()} == {closed: until}
    assert [(e.type, e.data["bucket"], e.data["until"]) for e in told.events] == [("rate_limit_hit", closed, until)]
    (batch,) = batches(state)
    assert (batch.attempts, batch.priority_class, state.requests[request_id(1)].attempts) == (0, 3, 0)


def test_a_throttle_means_what_its_own_call_has_spent() -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=(MINUTE, ENTITIES))
    (offer,) = first.offers
    call(state, offer, "ask1")
    take(state, Ask("ask2", "w", offer.batch_id, offer.epoch, offer.step_no, "entities"), at=NOW + 1)
    take(state, ended(offer, failure=throttled()))
    assert list(state.closures) == ["entities_minute|"]


def test_a_throttle_with_a_time_is_no_step_of_the_doubling() -> None:
    state, changes = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    spans = []
    for until_s in (None, 30.0, None, None):
        start = state.now
        take(state, ended(changes.offers[0], failure=throttled(None, until_s)))
        spans.append(state.closures["per_minute|"].until - start)
        changes = take(state, Tick(), at=state.closures["per_minute|"].until)
    assert spans == [60_000, 30_000, 60_000, 120_000]


def test_closures_double_up_to_an_hour_and_begin_anew_after_a_quiet_time() -> None:
    state, changes = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    spans = []
    for quiet_ms in (*[0] * 8, 2 * 3_600_000):
        start = state.now
        take(state, ended(changes.offers[0], failure=throttled()))
        until = state.closures["per_minute|"].until
        spans.append(until - start)
        changes = take(state, Tick(), at=until + quiet_ms)
        if quiet_ms:
            take(state, ended(changes.offers[0], failure=throttled()))
            spans.append(state.closures["per_minute|"].until - state.now)
    assert spans == [60_000 * n for n in (1, 2, 4, 8, 16, 32, 60, 60, 60, 1)]


@pytest.mark.parametrize(
    ("quotas", "named", "closed"),
    [
        ((SLIDING, quota("per_user", 9, 60_000, scope="user")), None, "per_minute|"),
        ((SLIDING, quota("per_user", 9, 60_000, scope="user")), "per_user", "per_user|someone"),
        ((SLIDING,), "of_another_name", "per_minute|"),
        ((quota("per_hour", 9, 3_600_000, scope="account"),), None, "per_hour|acc1"),
    ],
)
def test_a_throttle_closes_what_it_names_else_the_broadest_short_bucket(
    quotas: tuple[Quota, ...], named: str | None, closed: str
) -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=quotas)
    take(state, ended(first.offers[0], failure=throttled(named, 9.0)))
    assert {k: c.until for k, c in state.closures.items()} == {closed: NOW + 9_000}


def test_without_any_bucket_the_providers_time_still_counts() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, ended(first.offers[0], failure=throttled(None, 30.0)))
    assert not take(state, Tick(), at=NOW + 29_999).offers
    assert take(state, Tick(), at=NOW + 30_000).offers


def test_a_days_quota_closes_until_the_providers_midnight() -> None:
    day = quota("per_day", 100, 86_400_000, calendar_zone="America/Los_Angeles")
    state, first = begun(accept(1, TODAY, TODAY), quotas=(day,))
    take(state, ended(first.offers[0], failure=throttled("per_day")))
    assert state.closures["per_day|"].until == NOW + 19 * 3_600_000 + 60_000, "07:00 UTC, and the guard"


def test_our_own_full_count_is_told_once_until_it_was_not_full_for_a_period() -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=(quota("per_minute", 1, 60_000),))
    call(state, first.offers[0], "ask1")
    told = take(state, accept(2, TODAY, TODAY, connector=facts(2)))
    assert [(e.type, e.data["source"], e.data["bucket"]) for e in told.events] == [
        ("rate_limit_hit", "local", "per_minute|")
    ]
    assert not take(state, Tick(), at=NOW + 30_000).events
