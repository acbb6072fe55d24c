"""Waiting batches looked at again after their data set has moved on: they may have nothing, or less, left to fetch."""

from __future__ import annotations

from app.domain import closing, refit
from app.domain.model import Days
from app.domain.rows import Batch
from app.domain.state import State

LOOKS_PER_STEP = 2_000
"""Batches looked at, and requests closed by reuse, in one step at most: a transaction has to fit its time limit."""


def moved(state: State, data_set: str, days: Days) -> None:
    """Notes that a data set has new results for these days."""
    known = state.moved.get(data_set, days)
    state.moved[data_set] = None if known is None else known.union(days)


def look_again(state: State) -> bool:
    """Reuses what the members of waiting batches can have without a call. Only batches that share a day with what is
    new are looked at. Whether some are left for the next step."""
    budget = LOOKS_PER_STEP
    for data_set, days in list(state.moved.items()):
        results = state.data_set(data_set).results
        for batch_id in _waiting(state, data_set, days):
            batch = state.batches.get(batch_id)
            if batch is None or batch.state != "queued" or batch.remote is not None or batch.seen_results == results:
                continue
            if budget <= 0:
                return True
            budget -= 1 + _shrink(state, batch)
        state.moved.pop(data_set, None)
        state.queue.wake(("data", data_set))
    return False


def _waiting(state: State, data_set: str, days: Days | None) -> list[str]:
    return list(state.open_batches.get(data_set, {})) if days is None else state.near.waiting(data_set, days)


def _shrink(state: State, batch: Batch) -> int:
    """Makes a batch fit, and completes what its members no longer need of it; how many members that were."""
    found = refit.fit(state, batch, batch.members)
    refit.apply(state, batch, found.rows)
    for request in found.done:
        closing.complete_part(state, state.requests.get(request.accept.request_id, request), batch)
    return len(found.done)
