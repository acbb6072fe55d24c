"""Whose turn it is, and why the others wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

from app.domain import circuits, events, jobs, leases, rate_limit, relook, reserve, writes
from app.domain.messages import Event
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Bucket, Full
from app.domain.rows import Batch
from app.domain.state import State


def dispatch(state: State) -> None:
    """Gives every free slot to the batch whose turn it is. A blocked head blocks nobody whose quota has room."""
    state.others_wait = None
    state.blocked_until = state.now if relook.look_again(state) else None
    line, busy, most = state.queue, _slots_by_account(state), _most_slots(state)
    line.wake_due(state.now)
    for account in line.parked("slots"):
        if busy[account] < most:
            line.wake(("slots", account))
    circuits.wake(state)
    floors = True
    while state.others_wait is None:
        due = line.neediest() if floors else None
        batch_id = due or line.best()
        if batch_id is None:
            break
        batch = state.batches[batch_id]
        if len(state.leases) >= state.rules.max_concurrent or jobs.full(state, batch.connector.connector_type):
            state.others_wait = _reason("concurrency", None)
        elif _stopped(state, batch, busy[batch.connector.account_id] >= most):
            continue
        elif (full := room(state, batch)) is None:
            line.started(batch)
            leases.lease(state, batch)
            busy[batch.connector.account_id] += 1
        else:
            floors = _blocked(state, batch, full, by_floor=due is not None)
    wakes = [at for at in (state.blocked_until, line.next_wake()) if at is not None]
    state.blocked_until = min(wakes, default=None)


def _blocked(state: State, batch: Batch, full: Full, *, by_floor: bool) -> bool:
    """A full bucket keeps the batch, its lane, or everybody. Whether the floors' turn may still be taken."""
    reason, topic = quota_reason(full), ("bucket", full.key)
    aged = full.kept and state.queue.aged(batch.batch_id)
    if not aged and _shuts_all(state, batch, full):
        if by_floor:
            return False  # what keeps this class out may let a better one in
        state.others_wait = reason
        state.blocked_until = min(full.until, state.blocked_until or full.until)
    elif aged:
        # It stands before others that the reserve does not keep out.
        state.queue.hold(batch.batch_id, reason, topic=topic)
    else:
        state.queue.park(batch.batch_id, reason, [topic])
    announce_full(state, batch.connector, full)
    _tell(state, batch, reason)
    return True


def _stopped(state: State, batch: Batch, account_full: bool) -> bool:
    """Whether something other than quota keeps the batch, or its whole lane, from starting."""
    line = state.queue
    if (reason := circuits.reason(state, batch.connector)) is not None:
        line.park(batch.batch_id, reason, [circuits.topic(batch.connector.account_id)])
    elif (reason := writes.kept(state, batch)) is not None:
        line.hold(batch.batch_id, reason)
    elif batch.data_set in state.moved or _in_flight(state, batch):
        # Of a data set that has moved on it may need nothing, and will be looked at again.
        reason = _reason("overlapping_fetch", None)
        line.hold(batch.batch_id, reason, topic=("data", batch.data_set))
    elif batch.not_before > state.now:
        reason = _reason("backing_off", batch.not_before)
        line.hold(batch.batch_id, reason)
    elif account_full:
        reason = _reason("concurrency", None)
        line.park(batch.batch_id, reason, [("slots", batch.connector.account_id)])
    else:
        return False
    _tell(state, batch, reason)
    return True


def _tell(state: State, batch: Batch, reason: dict[str, Any]) -> None:
    """The views of a batch's members follow when the kind of reason changes."""
    old = state.told.get(batch.batch_id)
    state.told[batch.batch_id] = reason["reason"]
    if old is not None and old != reason["reason"]:
        state.touched.update(dict.fromkeys(m for m in batch.members if m in state.requests))


def full_of(state: State, batch: Batch) -> bool:
    """The batch's account has all the slots that one may have."""
    return _slots_by_account(state)[batch.connector.account_id] >= _most_slots(state)


def _slots_by_account(state: State) -> Counter[str]:
    return Counter(state.batches[batch_id].connector.account_id for batch_id in state.leases)


def _most_slots(state: State) -> int:
    """Half of all: where one account's provider hangs, the others must not wait for every slot it took."""
    return max(2, (state.rules.max_concurrent + 1) // 2)


def _shuts_all(state: State, batch: Batch, full: Full) -> bool:
    """An application's bucket is everybody's: no other batch of this type can start either. Unless it is written to
    as well: reads and writes spend different buckets."""
    if state.rules_of(batch.connector).write_calls:
        return False
    return state.limits_of(batch.connector).buckets[full.key].quota.scope == "application"


def _in_flight(state: State, batch: Batch) -> bool:
    """Days of one data set in flight are exclusive: an overlapping batch attaches or waits (R7)."""
    return any(b.batch_id != batch.batch_id for b in state.running(batch.data_set, batch.days))


def room(state: State, batch: Batch, look_at: int | None = None) -> Full | None:
    """None if the fetch's declared minimum of calls fits into every bucket now; a short bucket needs room for one.
    ``look_at``: an estimated now, at which is only looked."""
    test = rate_limit.test if look_at is None else rate_limit.look
    now = state.now if look_at is None else look_at
    limits = state.limits_of(batch.connector)
    worst: Full | None = None
    for charge, calls in state.calls_of(batch).items():
        for bucket in limits.of(charge, batch.connector):
            long = bucket.calendar or bucket.quota.period_ms >= rate_limit.LONG_PERIOD_MS
            need = max(1, calls - batch.calls) if long else 1
            full = test([bucket], now, batch.batch_id, need, whole=reserve.whole(batch))
            if full is not None and (worst is None or full.until > worst.until):
                worst = full
    return worst


def _reason(reason: str, until: int | None, bucket: str | None = None) -> dict[str, Any]:
    return {"reason": reason, "until": until} | ({"bucket": bucket} if bucket else {})


def slot_reason(state: State) -> dict[str, Any] | None:
    """Why a fetch that could start waits all the same: every slot is taken."""
    taken = len(state.leases) >= state.rules.max_concurrent or any(jobs.full(state, t) for t in state.in_flight)
    return _reason("concurrency", None) if taken else None


def quota_reason(full: Full) -> dict[str, Any]:
    """Why a fetch that needs a full bucket waits."""
    return _reason("quota", full.until, full.key.partition("|")[0])


def announce_full(state: State, connector: ConnectorFacts, full: Full) -> None:
    """``rate_limit_hit`` when demand first waits on our own full count; again only after one period not full. A bucket
    whose room is only kept for others is not full."""
    if full.kept:
        return
    bucket = state.limits_of(connector).buckets[full.key]
    quiet = bucket.full_at and state.now - bucket.full_at <= bucket.quota.period_ms
    # Nobody looks again before that, so that it was full all the while.
    bucket.full_at = full.until
    if full.closed or quiet:
        return
    others = bucket.others(state.now) > 0
    state.changes.events.append(limit_event(state, connector, bucket, full.until, "local", others=others))


def limit_event(
    state: State, connector: ConnectorFacts, bucket: Bucket, until: int, source: str, *, others: bool
) -> Event:
    """``rate_limit_hit`` for a bucket; a connector is named only where it alone spends from it."""
    quota = bucket.quota
    return events.rate_limit_hit(
        now=state.now,
        connector_type=connector.connector_type,
        bucket=bucket.key,
        scope=quota.scope,
        limit=quota.limit,
        period_ms=quota.period_ms,
        until_at=until,
        source=source,
        spent_by_others=others,
        org_id=connector.org_id if quota.scope == "account" else None,
        connector_id=connector.connector_id if quota.scope == "account" else None,
    )
