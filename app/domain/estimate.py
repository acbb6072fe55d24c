"""When a waiting batch will probably start: p50 and p90 (docs/planner.md section 4).

A raw estimate comes from the place in the line and the measured pace; what it leaves out is measured at every start, as
the ratio of the real wait to the raw estimate that was frozen when the request was accepted. Median and 90th percentile
of that ratio are followed by class and size of the estimate (stochastic approximation: Robbins and Monro, 1951).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.domain import jobs, rhythm
from app.domain.pace import Ratios
from app.domain.rate_limit import LONG_PERIOD_MS, Bucket
from app.domain.rows import Batch, Request
from app.domain.state import State

_FLOOR_MS = 1_000
"""A wait below this is as good as none."""
_DAY_MS = 86_400_000
_PRIOR, _SLOWEST = 20, 0.005
"""How many starts the beginning counts for, and the gain when much has been learned. Starts tell of estimates that were
given long ago: a quicker one would swing."""
_SMALLEST_STEP, _FAR, _MOST_TIMES = 0.01, 0.5, 6.0
"""Bounds of what one start changes, as logarithms, and of how many spreads the 90th percentile may lie off."""
_SIZE = 4
"""Estimates of one size differ by no more than this factor."""
_FEWEST = 20
"""Starts from which on what was learned is told."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds until the start: half of all start by ``p50_s``, nine of ten by ``p90_s``."""

    p50_s: float
    p90_s: float


NOW = Expected(0.0, 0.0)


def expected(state: State, batch: Batch, *, now: int | None = None) -> Expected:
    """For a batch that waits. ``now`` may be later than the last step, for a look only."""
    return _calibrated(state, batch.priority_class, raw_ms(state, batch, now))


def planned(state: State, batch: Batch, waiting: Mapping[str, Any] | None, now: int) -> Expected:
    """For a batch that is not there yet, and what would keep it (as ``dispatch`` says it)."""
    if waiting is None:
        return NOW
    until = waiting["until"] or 0
    return _calibrated(state, batch.priority_class, round(_common(state, batch, until, now)))


def freeze(state: State, request: Request, batch: Batch | None) -> Request:
    """Notes what is expected of a request when it is shown first, so that its start can be compared with it."""
    if request.expected_ms is not None or request.started_at is not None or batch is None or batch.state != "queued":
        return request
    return replace(request, expected_ms=raw_ms(state, batch), expected_class=batch.priority_class)


def learn(state: State, request: Request) -> None:
    """A request starts: its real wait against what was expected of it."""
    if not request.expected_ms or request.started_at is not None:
        return
    class_, size = request.expected_class or request.accept.priority_class, _size(request.expected_ms)
    old = state.ratios.get(_key(class_, size)) or _known(state, class_, size)
    wait_ms = max(0, state.now - request.accept.accepted_at)
    ratio = math.log((wait_ms + _FLOOR_MS) / (request.expected_ms + _FLOOR_MS))
    state.put(f"e/{_key(class_, size)}", learned(old, ratio))


def learned(old: Ratios, ratio: float) -> Ratios:
    """Percentiles that have heard of one more logarithm of a ratio. Steps are large first, then small for ever, since
    what is learned must follow what changes; they go by the spread, so that what varies little is told narrowly."""
    gain = max(_SLOWEST, 1.0 / (old.count + _PRIOR))
    # A single start that is far out does not say how far starts vary.
    spread = old.spread + gain * (min(abs(ratio - old.middle), max(_FAR, 4.0 * old.spread)) - old.spread)
    middle = old.middle + gain * max(_SMALLEST_STEP, 2.0 * spread) * (1.0 if ratio > old.middle else -1.0)
    # By factors: nine of ten stay below in the long run, whatever the distribution.
    times = old.times * math.exp(gain * (1.8 if ratio > old.high else -0.2))
    return Ratios(middle, spread, min(_MOST_TIMES, max(1 / _MOST_TIMES, times)), old.count + 1)


def raw_ms(state: State, batch: Batch, now: int | None = None) -> int:
    """The estimate before calibration, ms."""
    at = state.now if now is None else now
    own, others = state.queue.reason(batch.batch_id), state.others_wait
    wait = 0.0 if own is None else _own(state, batch, own["reason"], own["until"] or 0, at)
    if others is not None:
        wait = max(wait, _common(state, batch, others["until"] or 0, at))
    return round(wait)


def _common(state: State, batch: Batch, until: int, now: int) -> float:
    """Behind everybody before it, at the pace at which work starts; quotas that end before it are waited for. Whoever
    comes later and goes before it all the same is in its organisation's own pace."""
    ahead = state.queue.rank(batch) - 1
    slot = state.pace.hold_ms.value / state.rules.max_concurrent
    first = max(0, until - now)
    found = max(first, ahead * slot if until else (ahead + 1) * slot, _calendar(state, batch, ahead, now))
    for bucket in _spent(state, batch):
        if bucket.quota.scope == "application" and not _long(bucket):
            nth = 1 + round(ahead * _calls(state, bucket))
            free = rhythm.nth_free_at(bucket, now, nth, heard_at=min(state.now, now))
            found = max(found, free - now)
    return max(found, _own_turns(state, batch), _jobs(state, batch, ahead))


def _jobs(state: State, batch: Batch, ahead: int) -> float:
    """Where reports that wait at the provider are bounded, for so long as those before it need one's place."""
    most = jobs.most(state, batch.connector.connector_type)
    if most is None:
        return 0.0
    over = ahead - (most - len(state.in_flight.get(batch.connector.connector_type, ())))
    return max(0, over + 1) * state.pace.job_ms.value / most


def _own_turns(state: State, batch: Batch) -> float:
    """At the pace at which its organisation was served lately."""
    turns = state.pace.turns.get((batch.connector.org_id, batch.priority_class))
    each_ms = None if turns is None else turns.each_ms(state.now)
    return 0.0 if each_ms is None else state.queue.ahead_of_own(batch) * each_ms


def _calendar(state: State, batch: Batch, ahead: int, now: int) -> float:
    """What long quotas make of it: so many fetches fit into what is left, the rest waits for the next days. An
    account's or a user's is spent by its lane alone, however many others stand before it."""
    worst, gap = 0.0, gap_ms(state, batch)
    lane = state.queue.ahead_in_lane(batch)
    for bucket in (b for b in _spent(state, batch) if _long(b)):
        calls = _calls(state, bucket)
        # A bucket that a throttle has closed shows no room: what it holds is there again when it opens.
        opens = max(now, bucket.closed_until)
        before = ahead if bucket.quota.scope == "application" else lane
        over = before - int(bucket.remaining(opens) / calls)
        if over < 0:
            worst = max(worst, opens - now + (ahead + 1) * gap if opens > now else 0.0)
            continue
        if not bucket.calendar:
            worst = max(worst, opens - now + (over + 1) * bucket.quota.period_ms * calls / bucket.quota.limit)
            continue
        days, rest = divmod(over, max(1, int(bucket.quota.limit / calls)))
        worst = max(worst, bucket.next_day(opens) - now + days * _DAY_MS + (rest + 1) * gap)
    return worst


def _own(state: State, batch: Batch, reason: str, until: int, now: int) -> float:
    """What keeps the batch or its lane alone."""
    wait = float(max(0, until - now))
    ahead = state.queue.ahead_in_lane(batch)
    if reason == "quota":
        return wait + ahead * max((_each(state, bucket) for bucket in _spent(state, batch)), default=0.0)
    if reason == "concurrency":
        return (ahead + 1) * state.pace.hold_ms.value / max(2, (state.rules.max_concurrent + 1) // 2)
    if reason == "earlier_write":
        each = state.pace.job_ms.value or state.pace.hold_ms.value
        return max(wait, state.sheets.ahead(batch) * each)
    if reason == "overlapping_fetch":
        return state.pace.job_ms.value or state.mean_ms or state.pace.hold_ms.value
    return wait


def gap_ms(state: State, batch: Batch) -> float:
    """Time between two starts while work waits: what the slots allow, or the application's quotas. (Slots that wait for
    permits are held longer, so that where both are short they say the same.)"""
    each = [_each(state, b) for b in _spent(state, batch) if b.quota.scope == "application" and not _long(b)]
    return max(state.pace.hold_ms.value / state.rules.max_concurrent, *each, 0.0)


def _each(state: State, bucket: Bucket) -> float:
    """How long a fetch's calls keep a bucket, all of it to themselves."""
    return (bucket.quota.period_ms + bucket.response_ms) * _calls(state, bucket) / bucket.quota.limit


def _calls(state: State, bucket: Bucket) -> float:
    """Calls of a fetch that spend from a bucket: as measured, and no less than declared."""
    rules = state.rules.connectors[bucket.quota.connector_type]
    return max(float(rules.minimum_calls.get(bucket.quota.charge, 1)), state.pace.calls(bucket.quota.name))


def _long(bucket: Bucket) -> bool:
    return bucket.calendar or bucket.quota.period_ms >= LONG_PERIOD_MS


def _spent(state: State, batch: Batch) -> list[Bucket]:
    """The buckets that a fetch spends from."""
    limits = state.limits_of(batch.connector)
    return [b for c in state.calls_of(batch) for b in limits.of(c, batch.connector) if b.quota.enforced]


def _size(raw: int) -> int:
    """Of an estimate: less than 4 s, 16 s, about 1, 4, 17 minutes, 1 hour, 4 hours, and more."""
    return min(7, int(math.log(max(1.0, raw / 1_000), _SIZE)))


def _key(priority_class: int, size: int) -> str:
    return f"{priority_class}:{size}"


def _known(state: State, priority_class: int, size: int) -> Ratios:
    """What was learned of waits of a size; as long as that is little, how far shorter ones, which are known sooner, lie
    apart: by a size at most, as more would be a wait of another size, of which that was not learned."""
    for one in range(size, -1, -1):
        known = state.ratios.get(_key(priority_class, one))
        if known is not None and known.count >= _FEWEST:
            if one == size:
                return known
            return replace(known, middle=0.0, spread=min(known.spread, math.log(_SIZE) / known.times), count=0)
    return Ratios()


def _calibrated(state: State, priority_class: int, raw: int) -> Expected:
    if raw <= 0:
        return NOW
    ratios = _known(state, priority_class, _size(raw))
    p50, p90 = (max(0.0, (raw + _FLOOR_MS) * math.exp(x) - _FLOOR_MS) for x in (ratios.middle, ratios.high))
    return Expected(round(p50 / 1_000, 1), round(p90 / 1_000, 1))
