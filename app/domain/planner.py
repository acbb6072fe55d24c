"""The planner's step: ``step(state, messages) -> changes``.

Deterministic: the same state, messages and instants give the same changes, so a simulator, a replay and the worker
decide alike. It is the only code that changes planner state. Time is the records' own (broker's LogAppendTime, ms).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.domain import (
    batching,
    booking,
    bygone,
    circuits,
    closing,
    dispatch,
    estimate,
    leases,
    lifecycle,
    outcome,
    permits,
    restoring,
    stale,
    writes,
)
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Accept, Ask, Cancel, Heartbeat, Members, Milestone, Refuse, Returned, StepOutcome, Tick
from app.domain.rows import Mark, Request
from app.domain.state import Changes, State

IDLE_MS = 1_000
"""With live requests the planner wants to be woken at least this often: leases and waiting asks run on its clock."""

TOMBSTONE_MS = 86_400_000
"""A cancel of an unknown request waits this long for its command."""


def step(state: State, messages: Sequence[tuple[Any, int]]) -> Changes:
    """Takes (message, LogAppendTime ms) in inbox order; returns what must become durable together."""
    state.changes = Changes()
    restoring.close_doubted(state)
    for message, at in messages:
        state.now = max(state.now, at)
        if state.restored:
            leases.renew_all(state)
            bygone.restored(state)
        HANDLERS[type(message)](state, message)
    advance(state)
    _show(state)
    return state.changes


def advance(state: State) -> None:
    """What time alone changes, then whose turn it is. Asks come first: while one waits its bucket is full, so that no
    new fetch begins that would only wait with it, and fetches of other quotas do."""
    _come_due(state)
    leases.expire_leases(state)
    _give_up_on_killers(state)
    _poll_first(state)
    permits.serve_asks(state)
    more = stale.answer_waiting(state)
    dispatch.dispatch(state)
    if more:
        state.blocked_until = state.now


def next_due(state: State) -> int | None:
    """When the planner should next be woken by a tick (ms), or None while nothing can come due."""
    times = [state.due[0][0]] if state.due else []
    times += [at for at in (state.blocked_until, state.asks_wait_until) if at is not None]
    if state.requests or state.asks or state.leases:
        times.append(state.now + IDLE_MS)
    return min(times, default=None)


def accept(state: State, message: Accept) -> None:
    """A new request is planned; a known one is the same request, or a refused imposter."""
    known = _known(state, message.request_id)
    if known is not None:
        if known != message.body_hash and message.source is not None:
            detail = "This request_id belongs to an accepted request with another body; use a new id."
            state.changes.dead.append((message.source, "idempotency_mismatch", detail))
        return
    connector, write = message.connector, message.write
    tombstone = _tombstone(message.request_id, connector.org_id, connector.connector_id)
    # The rows of a write are a row of their own, or they would be written again with every move.
    request = Request(message if write is None else replace(message, write=replace(write, rows="")))
    if message.deadline_at is not None:
        state.remind(message.deadline_at, "deadline", message.request_id)
    if tombstone in state.marks:
        state.drop(f"m/{tombstone}")
        closing.cancel(state, request, "cancelled before it was created")
    elif len(state.requests) >= state.rules.max_live:
        closing.fail(state, request, _overfull(state))
    elif write is not None and (full := writes.overfull(state, write)) is not None:
        closing.fail(state, request, full)
    else:
        state.put_request(request)
        planned = batching.plan(state, request) if write is None else writes.plan(state, request, write)
        if not stale.answered(state, planned):
            closing.settle(state, planned)


def _known(state: State, request_id: str) -> str | None:
    """Body hash of a request already accepted; a cancel's tombstone is no such thing."""
    row = state.requests.get(request_id)
    if row is not None:
        return row.accept.body_hash
    mark = state.marks.get(request_id)
    return None if mark is None else mark.body_hash


def _tombstone(request_id: str, org_id: int, connector_id: str) -> str:
    """Name of the mark that waits for a cancelled command. It names who cancelled: ids made from an Idempotency-Key can
    be worked out by others, whose cancel must not reach the request."""
    return f"cancel:{org_id}|{connector_id}|{request_id}"


def _overfull(state: State) -> Failure:
    text = f"{state.rules.max_live} requests of this connector type are live; ask again when some have ended."
    return Failure(ErrorClass.QUOTA, "queue_full", text, retryable=True)


def refuse(state: State, message: Refuse) -> None:
    """A refused command whose id is unknown gets its one event; the id stays free. A mark only keeps a repeat quiet."""
    if _known(state, message.request_id) is None and f"refused:{message.event.event_id}" not in state.marks:
        state.changes.events.append(message.event)
        state.put(f"m/refused:{message.event.event_id}", Mark(state.now, ""))
        state.remind(state.now + state.rules.closed_mark_ms, "mark", f"refused:{message.event.event_id}")


def cancel(state: State, message: Cancel) -> None:
    """Ends a live request of the same organisation, unless it is a write that may be in the sheet; for an unknown id a
    tombstone waits a day for its command."""
    request = state.requests.get(message.request_id)
    if request is None:
        if message.request_id not in state.marks:
            name = _tombstone(message.request_id, message.org_id, message.connector_id)
            state.put(f"m/{name}", Mark(state.now + TOMBSTONE_MS - state.rules.closed_mark_ms, ""))
            state.remind(state.now + TOMBSTONE_MS, "mark", name)
        return
    same = (message.org_id, message.connector_id)
    if same != (request.accept.connector.org_id, request.accept.connector.connector_id):
        return
    if request.sent:
        writes.refuse_cancel(state, message)
    else:
        closing.cancel(state, request, "cancelled by command")


def _tick(state: State, message: Tick) -> None:
    """Only its time matters."""


def _come_due(state: State) -> None:
    alive = len(state.requests) + len(state.batches) + len(state.marks) + len(state.permits) + len(state.data_sets)
    if len(state.due) > 1_000 + 8 * alive:
        _forget_reminders(state)
    while state.due and state.due[0][0] <= state.now:
        _, kind, name = heapq.heappop(state.due)
        DUE[kind](state, name)


def _forget_reminders(state: State) -> None:
    """Reminders of what is gone: a deadline a year ahead would stay for a year after its request ended."""
    tables: dict[str, Any] = {
        "batch": state.batches, "deadline": state.requests, "mark": state.marks, "permit": state.permits,
        "circuit": state.circuits, "table": state.data_sets,
        "window": state.books.windows,
    }  # fmt: skip
    state.due = [entry for entry in state.due if entry[2] in tables[entry[1]]]
    heapq.heapify(state.due)


def _batch_due(state: State, name: str) -> None:
    """A poll's time has come: it goes ahead of new fetches, and gets the next free slot."""
    batch = state.batches.get(name)
    if batch is None or batch.state != "remote" or batch.not_before > state.now:
        return
    if not batch.wanted:
        state.drop_batch(name)
        return
    kept = circuits.keeps(state, batch.connector.account_id) is not None
    if kept or len(state.leases) >= state.rules.max_concurrent or dispatch.full_of(state, batch):
        state.polls[name] = None
        return
    full = dispatch.room(state, batch)
    if full is None:
        leases.lease(state, batch)
        return
    state.put_batch(replace(batch, not_before=full.until))
    state.remind(full.until, "batch", name)


def _poll_first(state: State) -> None:
    """Slots that became free in this step go to due polls before new fetches: a report that is ready costs no more."""
    for name in list(state.polls):
        if len(state.leases) >= state.rules.max_concurrent:
            return
        batch = state.batches.get(name)
        if batch is not None and dispatch.full_of(state, batch):
            continue
        del state.polls[name]
        _batch_due(state, name)


def _deadline_due(state: State, name: str) -> None:
    request = state.requests.get(name)
    if request is not None and request.state not in lifecycle.TERMINAL:
        closing.expire(state, request)


def _mark_due(state: State, name: str) -> None:
    mark = state.marks.get(name)
    if mark is not None and mark.closed_at + state.rules.closed_mark_ms <= state.now:
        state.drop(f"m/{name}")
        if mark.body_hash:
            state.changes.views[name] = None


def _give_up_on_killers(state: State) -> None:
    for name in list(state.leases):
        batch = state.batches[name]
        if batch.losses > outcome.MAX_LOSSES or batch.unheard > outcome.MAX_UNHEARD:
            lost = batch.losses + batch.unheard
            text = f"Its worker was lost, or none was heard of, {lost} times; the fetch was given up."
            outcome.end(state, batch, Failure(ErrorClass.INTERNAL, "worker_lost", text, retryable=True))


def _show(state: State) -> None:
    """The views of every request that this step touched, as it stands at the end of the step."""
    for name in state.touched:
        request = state.requests.get(name)
        if request is not None:
            row = estimate.freeze(state, request, closing.first_open(state, request))
            row = replace(row, revision=request.revision + 1)
            state.put(f"r/{name}", row)
            state.changes.views[name] = closing.view(state, row)
    state.touched.clear()


HANDLERS: dict[type, Callable[[State, Any], None]] = {
    Accept: accept,
    Refuse: refuse,
    Cancel: cancel,
    Ask: permits.ask,
    Returned: lambda state, m: permits.returned(state, m),
    Heartbeat: lambda state, m: leases.hear(state, m.worker, m.held),
    Members: lambda state, m: leases.members_changed(state, m.workers),
    StepOutcome: outcome.apply,
    Tick: _tick,
    Milestone: lambda state, m: state.changes.milestones.append(m),
}
DUE: dict[str, Callable[[State, str], None]] = {
    "batch": _batch_due,
    "circuit": circuits.due,
    "deadline": _deadline_due,
    "mark": _mark_due,
    "permit": permits.forget_permit,
    "table": bygone.due,
    "window": booking.close_windows,
}
