"""A connector's health: what its real calls of the last fifteen minutes were like.

Counted in minutes, so that a connector's row stays as small as its traffic is large. Time is the broker's (ms).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MINUTE_MS = 60_000
MINUTES = 15
DEGRADED, UNHEALTHY = 0.05, 0.5
"""Shares of failed calls from which a connector is called so."""


@dataclass(frozen=True, slots=True)
class Health:
    """One row. ``minutes``: (minute since the epoch, calls, failed calls, sum of their latencies in ms), oldest first;
    ``last_at``: when the newest call ended."""

    minutes: tuple[tuple[int, int, int, int], ...] = ()
    last_at: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """What is told of it. ``latency_ms``: mean time until an answer began; None without calls, as the rest."""

    status: str
    calls: int
    last_check_at: int | None
    latency_ms: int | None
    error_rate: float | None


def record(health: Health, now: int, latency_ms: int, *, ok: bool) -> Health:
    """Counts one call that ended at ``now``; forgets minutes that no window can show any more."""
    minute = now // MINUTE_MS
    kept = [entry for entry in health.minutes if minute - MINUTES < entry[0] < minute]
    calls, failed, total = next((e[1:] for e in health.minutes if e[0] == minute), (0, 0, 0))
    mine = (minute, calls + 1, failed + (not ok), total + latency_ms)
    return replace(health, minutes=(*kept, mine), last_at=max(health.last_at, now))


def condition(health: Health | None, now: int) -> Condition:
    """The connector's condition at ``now``, which may lie after the newest call."""
    window = () if health is None else [e for e in health.minutes if now // MINUTE_MS - MINUTES < e[0]]
    calls, failed, total = (sum(entry[i] for entry in window) for i in (1, 2, 3))
    last = health.last_at if health is not None and health.last_at else None
    if not calls:
        return Condition("unknown", 0, last, None, None)
    rate = failed / calls
    status = "unhealthy" if rate >= UNHEALTHY else "degraded" if rate >= DEGRADED else "healthy"
    return Condition(status, calls, last, round(total / calls), round(rate, 4))
