"""Who works on what: offers, leases, and what becomes of them when a worker is lost (R5)."""

from __future__ import annotations

from dataclasses import replace

from app.domain import circuits, estimate, lifecycle
from app.domain.messages import Offer
from app.domain.rows import Batch
from app.domain.state import Lease, State, members_of, reserve


def lease(state: State, batch: Batch) -> None:
    """Offers the batch's next step to any worker, under a new epoch."""
    rules = state.rules_of(batch.connector)
    step = rules.steps[min(batch.step, len(rules.steps) - 1)] if batch.place is None else "write"
    row = replace(batch, state="leased", epoch=batch.epoch + 1, not_before=0, worker=None)
    if batch.state == "queued":
        reserve(state, row)
        state.pace.fetch_began(row.batch_id, state.now)
        if not batch.epoch:
            # One that comes back was served before.
            state.pace.turn_taken((row.connector.org_id, row.priority_class), state.now, row.accepted_at)
        for request in members_of(state, row):
            to = lifecycle.move(request.state, "dispatch") if request.state == "queued" else request.state
            estimate.learn(state, request)
            started = request.started_at or state.now
            state.put_request(replace(request, state=str(to), started_at=started, revision=request.revision + 1))
    state.put_batch(row)
    state.leases[row.batch_id] = Lease(state.now, since=state.now)
    circuits.leased(state, row)
    state.changes.offers.append(
        Offer(
            batch_id=row.batch_id,
            epoch=row.epoch,
            step_no=row.step_no,
            step=step,
            run=row.run,
            connector=row.connector,
            report_type=row.report_type,
            start=row.start,
            end=row.end,
            fields=row.extras,
            priority_class=row.priority_class,
            remote=row.remote,
            traceparent=row.traceparent,
            write=None if row.place is None else state.writes[row.members[0]],
        )
    )


def renew_all(state: State) -> None:
    """An heir has heard nobody's heartbeats: every lease counts as renewed from its first step on (R5)."""
    state.restored = False
    circuits.restored(state)
    for held in state.leases.values():
        held.seen_at = state.now


def expire_leases(state: State) -> None:
    """A holder not heard of for the lease's time has lost its step; somebody else gets it under a new epoch."""
    for batch_id, held in list(state.leases.items()):
        if state.now - held.seen_at > state.rules.lease_ms:
            lose(state, state.batches[batch_id])


def lose(state: State, batch: Batch) -> None:
    """Ends a lease without an outcome: the same step is offered again at once, ahead of new work, if anybody still
    wants it."""
    held = state.leases.get(batch.batch_id)
    heard = held is not None and held.worker is not None
    if batch.wanted:
        lease(state, replace(batch, losses=batch.losses + heard, unheard=batch.unheard + (not heard)))
    else:
        state.drop_batch(batch.batch_id)


def hear(state: State, worker: str, held: tuple[tuple[str, int], ...]) -> None:
    """A heartbeat renews the leases it names."""
    for batch_id, epoch in held:
        batch, mine = state.batches.get(batch_id), state.leases.get(batch_id)
        if batch is not None and mine is not None and batch.epoch == epoch and mine.worker in (None, worker):
            mine.seen_at, mine.worker = state.now, worker


def members_changed(state: State, workers: tuple[str, ...]) -> None:
    """Leases of workers that left the group end at once (R5)."""
    alive = set(workers)
    for batch_id, held in list(state.leases.items()):
        if held.worker is not None and held.worker not in alive:
            lose(state, state.batches[batch_id])
