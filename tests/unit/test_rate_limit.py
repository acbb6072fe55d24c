"""Buckets at their edges. (Against brute force: tests/property/test_rate_limit_model.py)"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain import rate_limit
from app.domain.model import Quota
from app.domain.rate_limit import Bucket, Limits, PermitRow
from app.domain.zones import day_of, zone_of
from app.testing.planning import NOW, facts, quota

LIFETIME_MS, GUARD_MS = 130_000, 60_000


def limits(*quotas: Quota) -> Limits:
    return Limits(quotas, LIFETIME_MS, GUARD_MS)


def spend(found: Limits, name: str, now: int = NOW, *, batch_id: str = "bat_1", returned_at: int | None = None) -> bool:
    """One permit, if there is room; its call has ended at ``returned_at``."""
    buckets = found.of("reports", facts())
    if rate_limit.test(buckets, now, batch_id, 1) is not None:
        return False
    rate_limit.hit(buckets, PermitRow(name, batch_id, "reports", tuple(b.key for b in buckets), now, returned_at))
    return True


def test_a_slot_is_free_a_period_after_the_calls_end_not_after_the_grant() -> None:
    found = limits(quota(limit=1))
    assert spend(found, "a", returned_at=NOW + 400)
    assert not spend(found, "b", NOW + 1_400)
    assert spend(found, "b", NOW + 1_401), "a return is stamped up to 1 ms before it happened"


def test_one_call_spends_from_all_its_buckets_or_from_none() -> None:
    found = limits(quota("a", 2), quota("b", 1, 5_000, scope="user"), quota("c", 9, charge="entities"))
    assert spend(found, "one")
    assert not spend(found, "two")
    assert {key: b.used(NOW) for key, b in found.buckets.items()} == {"a|": 1, "b|someone": 1}


def test_a_refusal_names_the_bucket_that_keeps_it_longest() -> None:
    found = limits(quota("a", 1, 1_000), quota("b", 1, 5_000), quota("c", 1, 3_000))
    spend(found, "one", returned_at=NOW)
    full = rate_limit.test(found.of("reports", facts()), NOW + 10, "bat_1", 1)
    assert full is not None
    assert (full.key, full.until, full.closed) == ("b|", NOW + 5_001, False)


def test_scopes_have_buckets_of_their_own() -> None:
    found = limits(quota("app", 9), quota("account", 9, scope="account"), quota("user", 9, scope="user"))
    keys = [[b.key for b in found.of("reports", who)] for who in (facts(1), facts(2), facts(3, subject="else"))]
    assert keys == [
        ["app|", "account|acc1", "user|someone"],
        ["app|", "account|acc2", "user|someone"],
        ["app|", "account|acc3", "user|else"],
    ]


def test_a_closed_bucket_gives_nothing_and_a_closure_is_never_shortened() -> None:
    found = limits(quota(limit=5))
    found.close("per_second|", NOW + 900)
    found.close("per_second|", NOW + 100)
    full = rate_limit.test(found.of("reports", facts()), NOW + 899, "bat_1", 1)
    assert full is not None
    assert (full.until, full.closed) == (NOW + 900, True)
    assert spend(found, "a", NOW + 900)


def reserved(limit: int = 5) -> tuple[Limits, Bucket]:
    found = limits(quota("per_day", limit, 86_400_000, calendar_zone="UTC"))
    (bucket,) = found.of("reports", facts())
    bucket.reserved["bat_1"] = 3
    return found, bucket


def test_a_shadow_bucket_counts_and_only_the_providers_own_refusal_holds() -> None:
    found = limits(quota(limit=1, enforced=False))
    (bucket,) = found.of("reports", facts())
    assert all(spend(found, name) for name in "abc")
    assert (bucket.used(NOW), bucket.window(NOW).remaining) == (3, 0)
    found.close(bucket.key, NOW + 1_000)
    assert not spend(found, "d")
    assert spend(found, "d", NOW + 1_000)


def test_reserved_room_is_its_owners_alone_and_shrinks_as_it_is_used() -> None:
    found, bucket = reserved()
    assert (bucket.room(NOW, "bat_1"), bucket.room(NOW, "bat_2")) == (5, 2)
    assert spend(found, "a")
    assert (bucket.reserved["bat_1"], bucket.room(NOW, "bat_1"), bucket.room(NOW, "bat_2")) == (2, 4, 2)
    assert [spend(found, name, batch_id="bat_2") for name in "bcd"] == [True, True, False]
    assert [spend(found, name) for name in "efg"] == [True, True, False], "kept for it, and no more"


def test_what_only_reservations_keep_is_asked_again_soon_and_what_is_spent_when_the_day_is_over() -> None:
    _, bucket = reserved()
    assert bucket.free_at(NOW, 2) == NOW + rate_limit.RESERVED_RETRY_MS
    for _ in range(4):
        bucket.spend_day(NOW)
    assert bucket.free_at(NOW, 2) == NOW + 12 * 3_600_000 + GUARD_MS


def test_a_need_above_the_limit_is_the_whole_limit() -> None:
    found = limits(quota(limit=2))
    assert rate_limit.test(found.of("reports", facts()), NOW, "bat_1", 3) is None
    spend(found, "a")
    assert rate_limit.test(found.of("reports", facts()), NOW, "bat_1", 3) is not None


def test_a_late_return_frees_no_slot_later_than_the_calls_latest_end() -> None:
    found = limits(quota(limit=1))
    spend(found, "a")
    (bucket,) = found.buckets.values()
    bucket.spend(PermitRow("a", "bat_1", "reports", (bucket.key,), NOW, NOW + 10 * LIFETIME_MS))
    assert bucket.taken["a"] == NOW + LIFETIME_MS + 1_001


def test_a_window_tells_what_a_caller_sees() -> None:
    found = limits(quota(limit=3))
    spend(found, "a", returned_at=NOW)
    spend(found, "b")
    (bucket,) = found.buckets.values()
    window = bucket.window(NOW)
    # The one that is still out counts to its latest end, yet will be back within moments.
    assert (window.used, window.remaining, window.reset_at) == (2, 1, NOW + 1_001)
    found.close(bucket.key, NOW + 10**9)
    assert (bucket.window(NOW).remaining, bucket.window(NOW).reset_at) == (0, NOW + 10**9)


@pytest.mark.parametrize(
    ("date", "hours"),
    [((2026, 3, 8), 23), ((2026, 11, 1), 25), ((2026, 11, 2), 24), ((2026, 12, 31), 24), ((2028, 2, 29), 24)],
)
def test_a_pacific_day_is_as_long_as_it_is(date: tuple[int, int, int], hours: int) -> None:
    """Two full days one after the other open exactly one day's length apart."""
    bucket = limits(quota("per_day", 1, 86_400_000, calendar_zone="America/Los_Angeles")).of("reports", facts())[0]
    noon = int(datetime(*date, 20, tzinfo=UTC).timestamp() * 1000)
    ends = bucket.next_day(noon)
    begins = bucket.next_day(noon - 86_400_000)
    assert (ends - begins) / 3_600_000 == hours
    assert day_of(ends - GUARD_MS, "America/Los_Angeles") == day_of(ends - GUARD_MS - 1, "America/Los_Angeles") + 1


@pytest.mark.parametrize(("offset_ms", "counted"), [(-190_000, 1), (-190_001, 0), (59_999, 1), (60_000, 0)])
def test_a_call_near_midnight_counts_in_both_days(offset_ms: int, counted: int) -> None:
    """From guard and lifetime before to guard after midnight, nobody can know which day the provider counts it in."""
    midnight = NOW + 12 * 3_600_000
    bucket = limits(quota("per_day", 9, 86_400_000, calendar_zone="UTC")).of("reports", facts())[0]
    days = bucket.spend_day(midnight + offset_ms)
    other = day_of(midnight + (0 if offset_ms < 0 else -1), "UTC")
    assert days.get(other, 0) == counted
    assert sum(days.values()) == 1 + counted


def test_days_long_past_are_forgotten() -> None:
    bucket = limits(quota("per_day", 9, 86_400_000, calendar_zone="UTC")).of("reports", facts())[0]
    for day in range(5):
        bucket.spend_day(NOW + day * 86_400_000)
    assert len(bucket.days) == 1


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "/etc/passwd", "a\0b", "x" * 5_000])
def test_a_zone_that_nobody_knows_counts_as_utc(zone: str) -> None:
    assert zone_of(zone) is None
    assert day_of(1_773_144_000_000, zone) == day_of(1_773_144_000_000, "UTC")


def test_all_who_are_shown_a_bucket_in_one_step_are_one_count() -> None:
    walks: list[int] = []

    class Counted(dict[str, int]):
        def values(self) -> Any:
            walks.append(len(self))
            return super().values()

    bucket = Bucket("day|", quota("day", 9, 86_400_000), 130_000, 0)
    bucket.taken = Counted()
    bucket.spend(PermitRow("a", "b", "reports", ("day|",), NOW, NOW))
    first = bucket.window(NOW)
    assert [bucket.window(NOW).remaining for _ in range(100)] == [8] * 100
    assert len(walks) == 2
    bucket.spend(PermitRow("c", "b", "reports", ("day|",), NOW, NOW + 5))
    assert (bucket.window(NOW).remaining, bucket.window(NOW).reset_at) == (7, first.reset_at)
    assert bucket.window(first.reset_at).remaining == 8
