"""Whose turn it is, and why the others wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

from app.domain import events, leases, rate_limit, relook
from app.domain.messages import Event
from app.domain.rate_limit import Bucket, Full
from app.domain.rows import Batch
from app.domain.state import State


def dispatch(state: State) -> None:
    """Gives every free slot to the best batch that can start now. A blocked head blocks nobody whose quota has room."""
    state.blocked_until = state.others_wait = None
    relook.look_again(state)
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
            leases.lease(state, batch)
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


def _shuts_all(state: State, batch: Batch, full: Full) -> bool:
    """An application's bucket is everybody's: no other batch of this type can start either."""
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
