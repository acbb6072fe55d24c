"""Quotas are counted exactly as a brute-force reading of the arrival times counts them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from app.sandbox.clock import Instant
from app.sandbox.quotas import QuotaRule, QuotaState, change_rule, count_call, free_in, new_quotas, snapshot

SLIDING = QuotaRule("second", "reports", "application", 3, 10.0)
DAILY = QuotaRule("day", "reports", "application", 2, 86_400.0, "America/Los_Angeles")


def hit(state: QuotaState, at: float, user: str = "u", account: str | None = None) -> tuple[str, ...]:
    return count_call(state, "reports", "app", user, account, Instant(at, at))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 6), st.integers(1, 15))
def test_a_sliding_window_counts_like_brute_force(ticks: list[int], limit: int, period: int) -> None:
    state = new_quotas((QuotaRule("r", "reports", "application", limit, float(period)),))
    arrivals = sorted(ticks)
    refused = [bool(hit(state, float(at))) for at in arrivals]
    counts = [sum(1 for other in arrivals[: n + 1] if other > at - period) for n, at in enumerate(arrivals)]
    assert refused == [count > limit for count in counts]
    if arrivals:
        fullest = max(sum(1 for one in arrivals if start <= one < start + period) for start in range(41))
        row = snapshot(state)[0]
        assert (row["peak"], row["over"], row["calls"]) == (fullest, sum(refused), len(arrivals))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 6), st.integers(1, 15))
def test_the_wait_is_the_shortest_after_which_a_call_passes(ticks: list[int], limit: int, period: int) -> None:
    arrivals = sorted(ticks)
    now = arrivals[-1] if arrivals else 0

    def passes(at: int) -> bool:
        state = new_quotas((QuotaRule("r", "reports", "application", limit, float(period)),))
        for one in arrivals:
            hit(state, float(one))
        return not hit(state, float(at))

    state = new_quotas((QuotaRule("r", "reports", "application", limit, float(period)),))
    for one in arrivals:
        hit(state, float(one))
    wait = free_in(state, "r", "app", Instant(now, now))
    expected = next((seconds for seconds in range(period + 1) if passes(now + seconds)), period)
    assert wait == expected


def test_a_refused_call_still_fills_the_window() -> None:
    state = new_quotas((SLIDING,))
    assert [hit(state, at) for at in (0, 1, 2, 3)] == [(), (), (), ("second",)]
    assert hit(state, 10.5) == ("second",), "the window still holds the refused call"
    assert hit(state, 14.0) == ()


def test_the_window_is_half_open() -> None:
    state = new_quotas((QuotaRule("r", "reports", "application", 1, 10.0),))
    assert hit(state, 0.0) == ()
    assert hit(state, 10.0) == ()
    assert hit(state, 19.9) == ("r",)


def test_the_day_begins_at_pacific_midnight() -> None:
    state = new_quotas((DAILY,))
    before = datetime(2026, 1, 15, 7, 59, tzinfo=UTC).timestamp()
    after = datetime(2026, 1, 15, 8, 1, tzinfo=UTC).timestamp()
    assert [hit(state, before) for _ in range(3)] == [(), (), ("day",)]
    assert hit(state, after) == ()
    assert snapshot(state)[0]["peak"] == 3


def test_scopes_and_groups_are_counted_apart() -> None:
    per_user = QuotaRule("user", "reports", "user", 1, 10.0)
    per_account = QuotaRule("account", "reports", "account", 1, 10.0)
    state = new_quotas((per_user, per_account))
    assert hit(state, 0, "a") == ()
    assert hit(state, 1, "b", "77") == ()
    assert hit(state, 2, "b", "78") == ("user",)
    assert hit(state, 3, "c", "77") == ("account",)
    assert count_call(state, "entities", "app", "a", "77", Instant(4, 4)) == ()


def test_limits_change_at_once_and_none_lifts_them() -> None:
    state = new_quotas((SLIDING,))
    hit(state, 0)
    change_rule(state, "second", 1, None)
    assert hit(state, 1) == ("second",)
    change_rule(state, "second", None, None)
    assert hit(state, 2) == ()
    change_rule(state, "second", 1, 5.0)
    assert hit(state, 3) == (), "another period starts afresh"
