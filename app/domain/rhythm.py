"""When a full sliding bucket frees its slots: in the rhythm in which they were spent. For estimates only."""

from __future__ import annotations

from app.domain.rate_limit import MS_GUARD, Bucket


def nth_free_at(bucket: Bucket, now: int, nth: int, *, heard_at: int) -> int:
    """When (ms) the ``nth`` slot from ``now`` is free, if each is taken as soon as it is. ``heard_at``: up to when all
    returns are known, no later than ``now``. Looks only."""
    if bucket.frees[0] != (now, heard_at, bucket.moves):
        bucket.frees = (now, heard_at, bucket.moves), _expected(bucket, now, heard_at)
    held = bucket.frees[1]
    spare = bucket.quota.limit - len(held) - bucket.others(now)
    cycles, place = divmod(nth - 1, max(1, len(held) + spare))
    at = now if place < spare else held[min(place - spare, len(held) - 1)]
    return max(at, bucket.closed_until) + cycles * (_kept_ms(bucket) + round(bucket.response_ms))


def _kept_ms(bucket: Bucket) -> int:
    return bucket.quota.period_ms + MS_GUARD


def _expected(bucket: Bucket, now: int, heard_at: int) -> list[int]:
    """When the taken slots are probably free, in order. A permit that is still out counts to its latest end, yet will
    most likely be back as soon as others were, or at once if it should have been."""
    kept_ms, response_ms = _kept_ms(bucket), round(bucket.response_ms)

    def expected(free: int) -> int:
        latest_end = free - kept_ms
        if latest_end <= heard_at:
            return free
        return max(latest_end - bucket.lifetime_ms + response_ms, heard_at) + kept_ms

    return sorted(at for free in bucket.taken.values() if (at := expected(free)) > now)
