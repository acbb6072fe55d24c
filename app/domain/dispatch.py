"""Whose turn it is, and who may call: offers, leases and permits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from app.domain import batching, closing, events, health, lifecycle, rate_limit
from app.domain.coverage import DataSet
from app.domain.health import Health
from app.domain.messages import Answer, Ask, Event, Offer, Returned
from app.domain.rate_limit import Bucket, Full, PermitRow
from app.domain.state import Batch, Lease, State, members_of, reserve

CLOSES_PER_STEP = 2_000
"""Requests closed by reuse in one step at most: a transaction has to fit its time limit."""


def dispatch(state: State) -> None:
    """Gives every free slot to the best batch that can start now. A blocked head blocks nobody whose quota has room."""
    state.blocked_until = state.others_wait = None
    _look_again(state)
    free = state.rules.max_concurrent - len(state.leases)
    full: dict[tuple[str, str], Full] = {}
    busy, most = _slots_by_account(state), _most_slots(state)
    for batch_id in state.queue:
        if free <= 0:
            state.others_wait, state.others_from = _reason("concurrency", None), batch_id
            return
        batch = state.batches[batch_id]
        if batch.data_set in state.moved:
            continue  # not looked at again yet: it may need nothing
        scope = (batch.connector.account_id, batch.connector.subject)
        if batch.not_before > state.now:
            wait(state, batch, "backing_off", batch.not_before)
        elif busy[batch.connector.account_id] >= most:
            wait(state, batch, "concurrency", None)
        elif _in_flight(state, batch):
            wait(state, batch, "overlapping_fetch", None)
        elif (found := full.get(scope) or room(state, batch)) is not None:
            full[scope] = found
            blocked(state, batch, found)
            if _shuts_all(state, batch, found):
                state.others_wait, state.others_from = quota_reason(found), batch_id
                return
        else:
            lease(state, batch)
            busy[batch.connector.account_id] += 1
            free -= 1


def full_of(state: State, batch: Batch) -> bool:
    """The batch's account has all the slots that one may have."""
    return _slots_by_account(state)[batch.connector.account_id] >= _most_slots(state)


def _slots_by_account(state: State) -> Counter[str]:
    return Counter(state.batches[batch_id].connector.account_id for batch_id in state.leases)


def _most_slots(state: State) -> int:
    """Half of all: where one account's provider hangs, the others must not wait for every slot it took."""
    return max(2, (state.rules.max_concurrent + 1) // 2)


def _look_again(state: State) -> None:
    """Waiting batches of a data set that has moved on may have nothing, or less, left to fetch."""
    budget = CLOSES_PER_STEP
    for data_set in list(state.moved):
        for batch_id in list(state.open_batches.get(data_set, {})):
            batch = state.batches.get(batch_id)
            if batch is None or batch.state != "queued" or batch.remote is not None:
                continue
            if batch.seen_results == state.data_set(data_set).results:
                continue
            if budget <= 0:
                state.blocked_until = state.now
                return
            budget -= _shrink(state, batch)
        state.moved.pop(data_set, None)


def _shrink(state: State, batch: Batch) -> int:
    """Reuses what a waiting batch's members can have without a call; how many of them were served."""
    rest, done = batching.shrink(state, batch)
    if rest.members:
        state.put_batch(rest)
    else:
        state.drop_batch(batch.batch_id)
    for request in done:
        closing.complete_part(state, state.requests.get(request.accept.request_id, request), batch.batch_id)
    return len(done)


def _shuts_all(state: State, batch: Batch, full: Full) -> bool:
    """An application's bucket is everybody's: no other batch of this type can start either."""
    return state.limits_of(batch.connector).buckets[full.key].quota.scope == "application"


def _in_flight(state: State, batch: Batch) -> bool:
    """Days of one data set in flight are exclusive: an overlapping batch attaches or waits (R7)."""
    return any(b.batch_id != batch.batch_id and b.days.overlaps(batch.days) for b in state.running(batch.data_set))


def room(state: State, batch: Batch, look_at: int | None = None) -> Full | None:
    """None if the fetch's declared minimum of calls fits into every bucket now; a short bucket needs room for one.
    ``look_at``: an estimated now, at which is only looked."""
    test = rate_limit.test if look_at is None else rate_limit.look
    now = state.now if look_at is None else look_at
    limits = state.limits_of(batch.connector)
    worst: Full | None = None
    for charge, calls in state.rules_of(batch.connector).minimum_calls.items():
        for bucket in limits.of(charge, batch.connector):
            long = bucket.calendar or bucket.quota.period_ms >= rate_limit.LONG_PERIOD_MS
            need = max(1, calls - batch.calls) if long else 1
            full = test([bucket], now, batch.batch_id, need)
            if full is not None and (worst is None or full.until > worst.until):
                worst = full
    return worst


def wait(state: State, batch: Batch, reason: str, until: int | None, bucket: str | None = None) -> None:
    """Notes why a batch waits; its members' views follow when the kind of reason changes."""
    new = _reason(reason, until, bucket)
    old = state.waiting.get(batch.batch_id)
    state.waiting[batch.batch_id] = new
    if old is not None and old["reason"] != reason:
        state.touched.update(dict.fromkeys(m for m in batch.members if m in state.requests))


def _reason(reason: str, until: int | None, bucket: str | None = None) -> dict[str, Any]:
    return {"reason": reason, "until": until} | ({"bucket": bucket} if bucket else {})


def slot_reason(state: State) -> dict[str, Any] | None:
    """Why a fetch that could start waits all the same: every slot is taken."""
    return _reason("concurrency", None) if len(state.leases) >= state.rules.max_concurrent else None


def quota_reason(full: Full) -> dict[str, Any]:
    """Why a fetch that needs a full bucket waits."""
    return _reason("quota", full.until, full.key.partition("|")[0])


def blocked(state: State, batch: Batch, full: Full) -> None:
    """A full or closed bucket keeps the batch; demand that first meets a full bucket is worth one event."""
    wait(state, batch, "quota", full.until, full.key.partition("|")[0])
    state.blocked_until = full.until if state.blocked_until is None else min(state.blocked_until, full.until)
    announce_full(state, batch, full)


def announce_full(state: State, batch: Batch, full: Full) -> None:
    """``rate_limit_hit`` when demand first waits on our own full count; again only after one period not full."""
    bucket = state.limits_of(batch.connector).buckets[full.key]
    quiet = bucket.full_at and state.now - bucket.full_at <= bucket.quota.period_ms
    bucket.full_at = state.now
    if full.closed or quiet:
        return
    state.changes.events.append(limit_event(state, batch, bucket, full.until, "local", others=False))


def limit_event(state: State, batch: Batch, bucket: Bucket, until: int, source: str, *, others: bool) -> Event:
    """``rate_limit_hit`` for a bucket; a connector is named only where it alone spends from it."""
    quota = bucket.quota
    return events.rate_limit_hit(
        now=state.now,
        connector_type=batch.connector.connector_type,
        bucket=bucket.key,
        scope=quota.scope,
        limit=quota.limit,
        period_ms=quota.period_ms,
        until_at=until,
        source=source,
        spent_by_others=others,
        org_id=batch.connector.org_id if quota.scope == "account" else None,
        connector_id=batch.connector.connector_id if quota.scope == "account" else None,
    )


def lease(state: State, batch: Batch) -> None:
    """Offers the batch's next step to any worker, under a new epoch."""
    rules = state.rules_of(batch.connector)
    step = rules.steps[min(batch.step, len(rules.steps) - 1)]
    row = replace(batch, state="leased", epoch=batch.epoch + 1, not_before=0, worker=None)
    if batch.state == "queued":
        reserve(state, row)
        for request in members_of(state, row):
            to = lifecycle.move(request.state, "dispatch") if request.state == "queued" else request.state
            started = request.started_at or state.now
            state.put_request(replace(request, state=str(to), started_at=started, revision=request.revision + 1))
    state.put_batch(row)
    state.leases[row.batch_id] = Lease(state.now)
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
        )
    )


def renew_all(state: State) -> None:
    """An heir has heard nobody's heartbeats: every lease counts as renewed from its first step on (R5)."""
    state.restored = False
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
    if batch.members:
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


def ask(state: State, message: Ask) -> None:
    """Queues an ask; ``serve_asks`` answers it in this step if there is room."""
    if message.ask_id not in state.permits and message.ask_id not in state.asks:
        state.asks[message.ask_id] = (message, state.now)


def serve_asks(state: State) -> None:
    """Answers asks, the best batch's first. One that must wait longer than a worker should be held is told so."""
    order = sorted(state.asks.items(), key=lambda item: _rank(state, item[1][0], item[1][1]))
    state.asks_wait_until = None
    for ask_id, (message, asked_at) in order:
        if state.now - asked_at > state.rules.permit_valid_ms:
            del state.asks[ask_id]
            continue
        answer = _answer(state, message)
        if answer is not None:
            del state.asks[ask_id]
            state.changes.answers.append(answer)


def _rank(state: State, message: Ask, asked_at: int) -> tuple[int, int, int, int]:
    """Fetches that have spent calls already go first: what they began must not be begun again."""
    batch = state.batches.get(message.batch_id)
    if batch is None:
        return (0, 0, 0, 0)
    return (int(batch.calls == 0), batch.priority_class, batch.accepted_at, asked_at)


def _answer(state: State, message: Ask) -> Answer | None:
    """Granted, denied, or None while it may still be granted soon."""
    batch, held = state.batches.get(message.batch_id), state.leases.get(message.batch_id)
    current = batch is not None and (batch.epoch, batch.step_no) == (message.epoch, message.step_no)
    if batch is None or held is None or not current or held.worker not in (None, message.worker):
        return Answer(message.ask_id, message.worker, "stale")
    held.worker, held.seen_at = message.worker, state.now
    buckets = state.limits_of(batch.connector).of(message.charge, batch.connector)
    full = rate_limit.test(buckets, state.now, batch.batch_id, 1)
    if full is None:
        grant(state, batch, message, buckets)
        return Answer(message.ask_id, message.worker)
    announce_full(state, batch, full)
    if full.until - state.now > state.rules.ask_hold_ms:
        return Answer(message.ask_id, message.worker, "quota", full.until)
    # One time for all, made anew in every step: a reminder for each ask in each step would pile up.
    state.asks_wait_until = min(full.until, state.asks_wait_until or full.until)
    return None


def grant(state: State, batch: Batch, message: Ask, buckets: list[Bucket]) -> None:
    """Spends a permit from every bucket, durably; with the data call's permit the data set's version is drawn (R7)."""
    keys, connector_id = tuple(b.key for b in buckets), batch.connector.connector_id
    row = PermitRow(message.ask_id, batch.batch_id, message.charge, keys, state.now, connector_id=connector_id)
    for key, counts in rate_limit.hit(buckets, row).items():
        state.put(f"d/{key}", counts)
    # Also of a call that no quota counts: how it ends is its connector's health.
    state.put(f"p/{row.ask_id}", row)
    state.remind(state.now + state.rules.permit_valid_ms + state.rules.call_timeout_ms, "permit", row.ask_id)
    batch = replace(batch, calls=batch.calls + 1, worker=message.worker)
    if message.data:
        data: DataSet = state.data_set(batch.data_set)
        data = replace(data, last_version=data.last_version + 1)
        state.put(f"c/{data.key}", data)
        batch = replace(batch, version=data.last_version, read_at=state.now)
    state.put_batch(batch)


def returned(state: State, message: Returned) -> None:
    """Calls have ended: their slots are free one period from now, and how they ended is their connectors' health."""
    ends = {ask_id: (latency_ms, bool(ok)) for ask_id, latency_ms, ok in message.ends}
    for ask_id in message.ask_ids:
        row = state.permits.get(ask_id)
        if row is None or row.returned_at is not None:
            continue
        if ask_id in ends and row.connector_id:
            latency_ms, ok = ends[ask_id]
            known = state.health.get(row.connector_id, Health())
            state.put(f"h/{row.connector_id}", health.record(known, state.now, latency_ms, ok=ok))
        row = replace(row, returned_at=state.now)
        state.put(f"p/{ask_id}", row)
        for bucket in buckets_of(state, row):
            bucket.spend(row)
        state.remind(max(forgettable_at(state, row), state.now + 1), "permit", ask_id)


def buckets_of(state: State, row: PermitRow) -> list[Bucket]:
    """The buckets a permit was spent from."""
    return [limits.buckets[k] for limits in state.limits.values() for k in row.keys if k in limits.buckets]


def forgettable_at(state: State, row: PermitRow) -> int:
    """When no sliding bucket counts the permit any longer."""
    return rate_limit.expires_at(row, buckets_of(state, row))


def forget_permit(state: State, ask_id: str) -> None:
    """Drops a permit's row once it counts nowhere; else comes back when it does not."""
    row = state.permits.get(ask_id)
    if row is None:
        return
    at = forgettable_at(state, row)
    if at <= state.now:
        state.drop(f"p/{ask_id}")
    else:
        state.remind(at, "permit", ask_id)
