"""Rows that are older than what was done: restored from a copy, or the end of their log is lost.

Nobody knows which calls are missing in them, so every bucket starts as spent by calls that were permitted just now and
never come back: a sliding one for their lifetime and a period, a calendar one until the last day is over in which they
may count. The closures are rows, so that the next owner keeps them too.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.rate_limit import EVERY_SCOPE, Bucket
from app.domain.rows import Closure
from app.domain.state import State


def doubt(state: State, at: int, connector_types: Iterable[str]) -> None:
    """The rows of these types are older than what was done before ``at`` (broker's ms, which may be later than the
    state's own now: what the rows lack was done in between)."""
    state.doubted = (at, tuple(connector_types))


def distrusted_until(state: State) -> int:
    """When the last bucket closed by such rows opens again (ms); 0 where there was none."""
    doubted = (row.until for key, row in state.closures.items() if key.endswith(f"|{EVERY_SCOPE}"))
    return max(doubted, default=0)


def close_doubted(state: State) -> None:
    """The first thing of the first step: the closures are durable with whatever it decides."""
    if state.doubted is None:
        return
    (at, types), state.doubted = state.doubted, None
    for connector_type in types:
        limits = state.limits_of_type(connector_type)
        for quota in limits.quotas:
            if not quota.enforced:
                continue
            key = f"{quota.name}|{EVERY_SCOPE}"
            limits.close(key, Bucket(key, quota, limits.lifetime_ms, limits.guard_ms).spent_until(at))
            state.put(f"x/{key}", Closure(limits.closed[key]))
