"""What must hold of a planner's state and its calls, worked out the obvious way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from app.domain.state import State

TERMINAL_EVENTS = {"data_fetched": "completed", "fetch_failed": "failed", "fetch_cancelled": "cancelled"}
LONGEST_MS = 3 * 86_400_000
MOST_STEPS = 20_000
_HEARTBEAT_MS = 3_000


def most_within(times: list[int], period_ms: int) -> int:
    """The most of the sorted instants inside any closed interval of the period's length."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > period_ms:
            first += 1
        most = max(most, last - first + 1)
    return most


def check_in_flight(state: State, run: str = "") -> None:
    """No more fetches, and no larger ones, than the rules allow; no day in flight twice."""
    assert len(state.leases) <= state.rules.max_concurrent
    for data_set in state.open_batches:
        running = [b for n in state.open_batches[data_set] if (b := state.batches[n]).state != "queued"]
        both = [(a, b) for a, b in combinations(running, 2) if a.days.overlaps(b.days)]
        assert not both, f"{run}: days of {data_set} in flight twice"
    assert all(len(b.members) <= state.rules.max_members for b in state.batches.values())


def left_over(state: State) -> Iterator[str]:
    """Names of whatever is not empty though nothing lives any more: each would be a leak, or a request forgotten."""
    for name in ("requests", "batches", "permits", "marks", "leases", "asks", "queue", "due", "told", "polls"):
        if getattr(state, name):
            yield name
    if state.books.payers or state.books.of_batch or state.books.out or state.books.windows:
        yield "books"
    buckets = [b for limits in state.limits.values() for b in limits.buckets.values()]
    if any(b.reserved for b in buckets):
        yield "reserved"
