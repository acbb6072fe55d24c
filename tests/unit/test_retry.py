"""When a failed step comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.errors import ErrorClass, Failure
from app.domain.retry import GiveUp, Retry, RetryPolicy, backoff_s, decide
from app.testing.planning import NOW

FAILURE = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True)
POLICY = RetryPolicy(max_attempts=4, base_s=5.0, cap_s=15.0)


@pytest.mark.parametrize(("attempts", "low", "high"), [(1, 2.5, 5.0), (2, 5.0, 10.0), (3, 7.5, 15.0), (9, 7.5, 15.0)])
def test_backoff_doubles_up_to_its_cap_and_is_spread_over_the_upper_half(
    attempts: int, low: float, high: float
) -> None:
    draws = [backoff_s(attempts, f"bat_{n}", POLICY) for n in range(300)]
    assert low <= min(draws) < low + (high - low) / 10
    assert high >= max(draws) > high - (high - low) / 10


def test_the_same_batch_and_attempt_draw_alike_and_others_do_not() -> None:
    assert backoff_s(2, "bat_1", POLICY) == backoff_s(2, "bat_1", POLICY)
    assert len({backoff_s(2, f"bat_{n}", POLICY) for n in range(20)}) == 20


def test_attempts_are_bounded_by_the_policy() -> None:
    assert isinstance(decide(FAILURE, attempts=3, now=NOW, key="b", policy=POLICY), Retry)
    assert decide(FAILURE, attempts=4, now=NOW, key="b", policy=POLICY) == GiveUp()


def test_what_cannot_succeed_is_not_tried_again() -> None:
    assert decide(replace(FAILURE, retryable=False), attempts=1, now=NOW, key="b", policy=POLICY) == GiveUp()


@pytest.mark.parametrize("delay_s", [0.0, 7.0, 39_600.0])
def test_the_providers_own_delay_wins_over_the_backoff(delay_s: float) -> None:
    told = replace(FAILURE, retry_after_s=delay_s)
    assert decide(told, attempts=1, now=NOW, key="b", policy=POLICY) == Retry(NOW + int(delay_s * 1000))
