"""What a provider's headers say of its own count. They correct ours downwards only.

What exceeds our own calls is somebody else's. Noted from the moment it was told: in a sliding bucket for one period, in
a calendar bucket until that day is over. A smaller number told later takes nothing back, so that no header gives room;
and none holds longer than a period, whatever it says. What was told is a row.
"""

from __future__ import annotations

from app.domain.messages import Returned, Usage
from app.domain.rate_limit import Bucket, PermitRow
from app.domain.rows import Others
from app.domain.state import State

STEPS = 16
"""A number that is no larger than one told within the last sixteenth of a period is not noted: rows stay small."""


def hear(state: State, message: Returned) -> None:
    """Notes what the answers to these calls have told; before the permits are given back."""
    for told in message.usage:
        row = state.permits.get(told.ask_id)
        if row is None or row.returned_at is not None or state.now - row.granted_at > _lifetime_ms(state):
            continue
        bucket = _meant(state, row, told.usage)
        if bucket is not None:
            _note(state, bucket, row, told.usage)


def _lifetime_ms(state: State) -> int:
    """What is told later is as old as that, and what had been spent then may have been freed meanwhile."""
    return state.rules.permit_valid_ms + state.rules.call_timeout_ms


def _meant(state: State, row: PermitRow, usage: Usage) -> Bucket | None:
    """The bucket: the call's own of this quota or, where the header names a scope, one that somebody has spent from."""
    if usage.scope is not None:
        keys: tuple[str, ...] = (f"{usage.quota}|{usage.scope}",)
    else:
        keys = tuple(key for key in row.keys if key.partition("|")[0] == usage.quota)
    return next((limits.buckets[k] for limits in state.limits.values() for k in keys if k in limits.buckets), None)


def calls_of(limit: int, usage: Usage) -> int:
    """Calls that the provider has counted, 0 to ``limit``; what makes no sense says nothing, or no more than *full*."""
    said = [0]
    if usage.used is not None:
        said.append(usage.used)
    if usage.remaining is not None:
        said.append(limit - usage.remaining)
    if usage.percent is not None and usage.percent > 0:
        said.append(-int(-limit * min(usage.percent, 100.0) // 100))
    return min(max(said), limit)


def _note(state: State, bucket: Bucket, row: PermitRow, usage: Usage) -> None:
    others = calls_of(bucket.quota.limit, usage) - bucket.used_since(row.granted_at, state.now)
    if others <= 0:
        return
    if bucket.calendar:
        told = _of_day(bucket, bucket.first_day(row.granted_at), others, bucket.first_day(state.now))
    else:
        told = _of_period(bucket.told, others, state.now, bucket.quota.period_ms)
    if told != bucket.told:
        bucket.told = told
        state.put(f"u/{bucket.key}", Others(told))


def _of_day(bucket: Bucket, day: int, calls: int, oldest: int) -> tuple[tuple[int, int], ...]:
    days = dict(bucket.told)
    days[day] = max(calls, days.get(day, 0))
    return tuple((d, n) for d, n in sorted(days.items()) if d >= oldest)


def _of_period(told: tuple[tuple[int, int], ...], calls: int, now: int, period_ms: int) -> tuple[tuple[int, int], ...]:
    until = now + period_ms
    live = [(u, n) for u, n in told if u > now]
    if any(n >= calls and until - u < period_ms // STEPS for u, n in live):
        return told
    return (*((u, n) for u, n in live if n > calls), (until, calls))
