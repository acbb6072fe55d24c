"""Who may call: asks, permits and their return (ADR 3)."""

from __future__ import annotations

from dataclasses import replace

from app.domain import booking, bygone, circuits, dispatch, health, ledger, loose, rate_limit, reserve, usage, writes
from app.domain.coverage import DataSet
from app.domain.health import Health
from app.domain.messages import Answer, Ask, Returned
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Bucket, Full, PermitRow
from app.domain.rows import Batch
from app.domain.state import State


def ask(state: State, message: Ask) -> None:
    """Queues an ask; ``serve_asks`` answers it in this step if there is room."""
    if message.ask_id not in state.permits and message.ask_id not in state.asks:
        state.asks[message.ask_id] = (message, state.now)


def serve_asks(state: State) -> None:
    """Answers asks, the best batch's first. One that must wait longer than a worker should be held is told so."""
    order = sorted(state.asks.items(), key=lambda item: _rank(state, item[1][0], item[1][1]))
    state.asks_wait_until = None
    # One that its worker is about to give up would be granted in vain, and what is granted is spent.
    oldest = state.now - state.rules.permit_valid_ms + state.rules.permit_valid_ms // 10
    for ask_id, (message, asked_at) in order:
        if asked_at < oldest:
            del state.asks[ask_id]
            continue
        answer = _answer(state, message)
        if answer is not None:
            del state.asks[ask_id]
            state.changes.answers.append(answer)


def _rank(state: State, message: Ask, asked_at: int) -> tuple[int, int, int, int]:
    """Fetches that have spent calls already go first: what they began must not be begun again."""
    if message.batch_id is None:
        return loose.rank(asked_at)
    batch = state.batches.get(message.batch_id)
    if batch is None:
        return (0, 0, 0, 0)
    return (int(batch.calls == 0), batch.priority_class, batch.accepted_at, asked_at)


def _answer(state: State, message: Ask) -> Answer | None:
    """Granted, denied, or None while it may still be granted soon."""
    if message.batch_id is None:
        return _answer_loose(state, message)
    batch, held = state.batches.get(message.batch_id), state.leases.get(message.batch_id)
    current = batch is not None and (batch.epoch, batch.step_no) == (message.epoch, message.step_no)
    if batch is None or held is None or not current or held.worker not in (None, message.worker):
        return Answer(message.ask_id, message.worker, "stale")
    if not batch.wanted:
        # Whoever it was for has left: its step ends here, and its slot is free.
        state.drop_batch(batch.batch_id)
        return Answer(message.ask_id, message.worker, "stale")
    held.worker, held.seen_at = message.worker, state.now
    denied, retry_at = circuits.denies(state, batch.connector)
    if denied:
        return None if retry_at is None else _later(state, message, "circuit", retry_at)
    buckets = state.limits_of(batch.connector).of(message.charge, batch.connector)
    full = rate_limit.test(buckets, state.now, batch.batch_id, 1, whole=reserve.whole(batch))
    if full is None:
        grant(state, batch, message, buckets)
        return Answer(message.ask_id, message.worker)
    return _not_now(state, message, batch.connector, full)


def _answer_loose(state: State, message: Ask) -> Answer | None:
    """The same for a call without a fetch."""
    if message.connector is None:
        return Answer(message.ask_id, message.worker, "stale")
    denied, retry_at = circuits.denies(state, message.connector)
    if denied:
        return None if retry_at is None else _later(state, message, "circuit", retry_at)
    buckets, full = loose.test(state, message, message.connector)
    if full is not None:
        return _not_now(state, message, message.connector, full)
    row = circuits.permit(state, message.connector, loose.NO_BATCH, message, tuple(b.key for b in buckets))
    _spend(state, booking.charge_to_organisation(state, message.connector, row), buckets)
    return Answer(message.ask_id, message.worker)


def _later(state: State, message: Ask, why: str, at: int) -> Answer:
    return Answer(message.ask_id, message.worker, why, at, at - state.now)


def _not_now(state: State, message: Ask, connector: ConnectorFacts, full: Full) -> Answer | None:
    dispatch.announce_full(state, connector, full)
    if full.until - state.now > state.rules.ask_hold_ms:
        return _later(state, message, "quota", full.until)
    # One time for all, made anew in every step: a reminder for each ask in each step would pile up.
    state.asks_wait_until = min(full.until, state.asks_wait_until or full.until)
    return None


def grant(state: State, batch: Batch, message: Ask, buckets: list[Bucket]) -> None:
    """Spends a permit from every bucket, durably; with the data call's permit the data set's version is drawn (R7)."""
    row = circuits.permit(state, batch.connector, batch.batch_id, message, tuple(b.key for b in buckets))
    _spend(state, booking.charge_to_members(state, batch, row), buckets)
    for bucket in buckets:
        state.pace.spent(batch.batch_id, bucket.quota.name)
    writes.granted(state, batch, row)
    batch = replace(batch, calls=batch.calls + 1, worker=message.worker)
    if message.data and batch.place is None:
        data: DataSet = state.data_set(batch.data_set)
        data = replace(data, last_version=data.last_version + 1)
        bygone.begin(state, batch)
        state.put(f"c/{data.key}", data)
        batch = replace(batch, version=data.last_version, read_at=state.now)
    state.put_batch(batch)


def _spend(state: State, row: PermitRow, buckets: list[Bucket]) -> None:
    for key, counts in rate_limit.hit(buckets, row).items():
        state.put(f"d/{key}", counts)
    booking.count(state, row, buckets)
    # Also of a call that no quota counts: how it ends is its connector's health.
    state.put(f"p/{row.ask_id}", row)
    state.remind(state.latest_end(row), "permit", row.ask_id)


def returned(state: State, message: Returned) -> None:
    """Calls have ended: their slots are free one period from now, and how they ended is their connectors' health."""
    usage.hear(state, message)
    ends = {ask_id: (latency_ms, verdict) for ask_id, latency_ms, verdict in message.ends}
    errors = dict(message.errors)
    for ask_id in message.ask_ids:
        row = state.permits.get(ask_id)
        if row is None or row.returned_at is not None:
            continue
        if ask_id in ends and row.connector_id:
            latency_ms, verdict = ends[ask_id]
            state.pace.latency_ms.add(latency_ms)
            known = state.health.get(row.connector_id, Health())
            state.put(f"h/{row.connector_id}", health.record(known, state.now, latency_ms, ok=bool(verdict)))
        circuits.returned(state, row, ends[ask_id][1] if ask_id in ends else None, errors.get(ask_id, ""))
        row = booking.book(state, row, ledger.outcome_of(message, ask_id), ended_at=state.now)
        row = replace(row, returned_at=state.now)
        state.put(f"p/{ask_id}", row)
        writes.ended(state, row)
        for bucket in buckets_of(state, row):
            bucket.give_back(row)
        state.remind(max(forgettable_at(state, row), state.now + 1), "permit", ask_id)


def buckets_of(state: State, row: PermitRow) -> list[Bucket]:
    """The buckets a permit was spent from."""
    return [limits.buckets[k] for limits in state.limits.values() for k in row.keys if k in limits.buckets]


def forgettable_at(state: State, row: PermitRow) -> int:
    """When no sliding bucket and no open window counts the permit any longer."""
    buckets = buckets_of(state, row)
    return max(rate_limit.expires_at(row, buckets), ledger.counted_until(row, buckets))


def forget_permit(state: State, ask_id: str) -> None:
    """Drops a permit's row once it counts nowhere; else comes back when it does not."""
    row = state.permits.get(ask_id)
    if row is None:
        return
    row = booking.lost(state, row)
    if state.latest_end(row) <= state.now:
        writes.ended(state, row)
    at = forgettable_at(state, row)
    if at <= state.now:
        state.drop(f"p/{ask_id}")
    else:
        state.remind(at, "permit", ask_id)
