"""A connector's health over fifteen minutes of calls."""

from __future__ import annotations

import pytest

from app.domain.health import MINUTE_MS, MINUTES, Health, condition, record
from app.testing.planning import NOW


def after(*calls: tuple[int, int, bool]) -> Health:
    """Health after calls as (minutes from NOW, latency ms, ok)."""
    found = Health()
    for minutes, latency_ms, ok in calls:
        found = record(found, NOW + minutes * MINUTE_MS, latency_ms, ok=ok)
    return found


def test_without_calls_nothing_is_known() -> None:
    assert condition(None, NOW).status == "unknown"
    told = condition(Health(), NOW)
    assert (told.status, told.calls, told.last_check_at, told.latency_ms, told.error_rate) == (
        "unknown", 0, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "of", "status"),
    [(0, 1, "healthy"), (4, 100, "healthy"), (5, 100, "degraded"), (49, 100, "degraded"), (50, 100, "unhealthy"),
     (1, 1, "unhealthy")],
)  # fmt: skip
def test_the_share_of_failed_calls_names_the_status(failed: int, of: int, status: str) -> None:
    told = condition(after(*[(0, 10, n >= failed) for n in range(of)]), NOW)
    assert (told.status, told.calls, told.error_rate) == (status, of, failed / of)


def test_latency_is_the_mean_over_the_window() -> None:
    told = condition(after((0, 100, True), (1, 200, True), (2, 600, False)), NOW + 2 * MINUTE_MS)
    assert (told.latency_ms, told.last_check_at) == (300, NOW + 2 * MINUTE_MS)


def test_what_is_older_than_the_window_no_longer_counts_but_is_remembered_as_the_last() -> None:
    health = after((0, 100, False))
    assert condition(health, NOW + (MINUTES - 1) * MINUTE_MS).status == "unhealthy"
    later = condition(health, NOW + MINUTES * MINUTE_MS)
    assert (later.status, later.last_check_at) == ("unknown", NOW)


def test_a_row_never_grows_beyond_the_window() -> None:
    health = after(*[(minute, 10, True) for minute in range(100)])
    assert len(health.minutes) == MINUTES
    assert condition(health, NOW + 99 * MINUTE_MS).calls == MINUTES


def test_a_minute_counts_its_own_calls_once() -> None:
    health = after((0, 10, True), (0, 30, False), (0, 20, True))
    assert health.minutes == ((NOW // MINUTE_MS, 3, 1, 60),)
