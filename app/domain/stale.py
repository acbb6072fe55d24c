"""Answers from earlier results while an account's circuit is open (spec section 8).

A request whose every day is held with its columns, however old, is completed at once and says that it is stale. What it
waited for stays in the queue without it, as a refresh in class 4: nobody pays for it, and ``dataset_updated`` announces
it. Who forces a fresh fetch is not answered so.
"""

from __future__ import annotations

from dataclasses import replace

from app.domain import circuits, closing, coverage
from app.domain.coverage import Run
from app.domain.rows import Batch, Request
from app.domain.state import State

LOOKS_PER_STEP = 2_000
"""A transaction has to fit its time limit."""


def held(state: State, request: Request) -> list[Run]:
    """What a request that has not begun can be answered from: all its days, or nothing."""
    accept = request.accept
    if (
        request.state != "queued"
        or accept.force
        or accept.write is not None
        or not circuits.is_open(state, accept.connector)
    ):
        return []
    runs = closing.covering(state, request)
    return [] if coverage.gaps(request.days, runs) else runs


def answered(state: State, request: Request) -> bool:
    """Completes a planned request from what is held, if that can be and it would have to wait."""
    runs = held(state, request) if request.parts else []
    if not runs:
        return False
    for name in request.parts:
        batch = state.batches.get(name)
        if batch is not None and not _refreshed(state, batch):
            state.put_batch(replace(batch, refresh=True))
    closing.complete(state, request, runs, stale_until=state.circuits[request.accept.connector.account_id].retry_at)
    return True


def answer_waiting(state: State) -> bool:
    """The same for members of batches that are to be looked at: of an account whose circuit has opened, or handed back
    while it is open. Whether some are left for the next step."""
    left = LOOKS_PER_STEP
    while state.stale and left > 0:
        name = next(iter(state.stale))
        del state.stale[name]
        batch = state.batches.get(name)
        for member in () if batch is None or batch.state != "queued" else batch.members:
            left -= 1
            if (request := state.requests.get(member)) is not None:
                answered(state, request)
    return bool(state.stale)


def _refreshed(state: State, batch: Batch) -> bool:
    """Another refresh brings all of this one: in a long outage each window would leave one behind."""
    others = (state.batches[name] for name in state.open_batches.get(batch.data_set, {}) if name != batch.batch_id)
    extras = set(batch.extras)
    return any(o.refresh and o.days.covers(batch.days) and extras <= set(o.extras) for o in others)
