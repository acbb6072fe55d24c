"""What a planner says of this moment: places, reasons, estimates, quotas, health, and what a command would do.

Reads a state between two of its steps and changes nothing in it. ``now`` (ms) may be later than the last step: an
estimate, good enough to show and never used to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.domain import batching, circuits, closing, dispatch, estimate, stale
from app.domain.estimate import Expected
from app.domain.health import Condition, condition
from app.domain.messages import Accept
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Window
from app.domain.rows import Batch, Request
from app.domain.state import State

_MANY = 100


@dataclass(frozen=True, slots=True)
class Place:
    """One live request as it stands. ``position`` None: it does not wait for its turn."""

    accept: Accept
    state: str
    position: int | None
    wait: Expected
    waiting: Mapping[str, Any] | None
    progress: int
    batched_with: tuple[str, ...]
    window: Window | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do. ``calls``: charge -> the declared minimum of calls of the fetches it would cause;
    ``windows``: the buckets these spend from, with the calls each would lose."""

    outcome: str
    asked: int
    held: int
    running: int
    to_fetch: int
    batches: tuple[Batch, ...]
    new: frozenset[str]
    calls: Mapping[str, int]
    windows: tuple[tuple[Window, int], ...]
    position: int | None
    wait: Expected
    waiting: Mapping[str, Any] | None


def place(state: State, request_id: str, now: int) -> Place | None:
    """A live request's place; None for one that is not live here."""
    request = state.requests.get(request_id)
    return None if request is None else _place(state, request, now)


@dataclass(frozen=True, slots=True)
class Queue:
    """An organisation's queued requests, best place first: all places, the first few requests, and the longest wait."""

    positions: tuple[int | None, ...]
    first: tuple[Place, ...]
    wait: Expected


def queue(state: State, org_id: int, now: int, most: int) -> Queue:
    """Walks all of an organisation's queued requests; ``most``: how many of them to describe."""
    mine = [r for name in state.by_org.get(org_id, {}) if (r := state.requests[name]).state == "queued"]
    rank = _ranks(state, len(mine))
    ranked = sorted(
        (
            min((at for p in r.parts if (at := rank(p)) is not None), default=0),
            r.accept.accepted_at,
            r.accept.request_id,
        )
        for r in mine
    )
    first = tuple(_place(state, state.requests[name], now) for _, _, name in ranked[:most])
    last = None if not ranked else _place(state, state.requests[ranked[-1][2]], now)
    return Queue(tuple(place or None for place, _, _ in ranked), first, estimate.NOW if last is None else last.wait)


def health(state: State, connector_id: str, now: int) -> Condition:
    """How a connector's calls went lately."""
    return condition(state.health.get(connector_id), now)


def window(state: State, connector: ConnectorFacts, now: int) -> Window | None:
    """The bucket with the least remaining share among those that the connector's data calls spend from, to read or to
    write."""
    found = [closing.least_window(state, connector, now, write=write) for write in (False, True)]
    return min((w for w in found if w is not None), key=lambda w: w.remaining / w.quota.limit, default=None)


def plan(state: State, accept: Accept, now: int) -> Plan:
    """The plan for a command that passed validation, as if it came at ``now``."""
    request = Request(replace(accept, accepted_at=now))
    found = batching.preview(state, request, now)
    first = min(found.queued.values(), key=lambda b: _rank(state, b), default=None)
    calls = _calls(state, accept.connector, len(found.new))
    kept = None if first is None else circuits.reason(state, accept.connector, now)
    full = None if first is None or kept is not None else dispatch.room(state, first, now)
    waiting = kept if full is None else dispatch.quota_reason(full)
    if first is not None and waiting is None:
        waiting = dispatch.slot_reason(state)
    wait = estimate.NOW if first is None else estimate.planned(state, first, waiting, now)
    return Plan(
        outcome="queue_full" if len(state.requests) >= state.rules.max_live else _outcome(state, request, found),
        asked=len(request.days),
        held=found.held,
        running=len(request.days) - found.held - found.days,
        to_fetch=found.days,
        batches=(*found.running, *found.queued.values()),
        new=found.new,
        calls=calls,
        windows=_windows(state, accept.connector, calls, now),
        position=None if first is None else _rank(state, first),
        wait=wait,
        waiting=waiting,
    )


def _ranks(state: State, asked: int) -> Callable[[str], int | None]:
    """Batch id -> its rank; who asks for many is better off with all of them counted once."""
    if asked < _MANY:
        return state.queue.position
    return {batch_id: at for at, batch_id in enumerate(state.queue, 1)}.get


def _place(state: State, request: Request, now: int) -> Place:
    batch = closing.first_open(state, request)
    return Place(
        accept=request.accept,
        state=request.state,
        position=None if batch is None else state.queue.position(batch.batch_id),
        wait=closing.expected(state, request, batch, now),
        waiting=closing.waiting(state, batch),
        progress=closing.progress(state, request),
        batched_with=() if batch is None else closing.others(batch, request.accept),
        window=closing.least_window(state, request.accept.connector, now, write=request.accept.write is not None),
    )


def _rank(state: State, batch: Batch) -> int:
    """Where a batch of a preview would stand. Joining only ever brings a batch forward, so none is ahead of itself."""
    return state.queue.rank(batch)


def _outcome(state: State, request: Request, found: batching.Preview) -> str:
    if (found.queued or found.running) and stale.held(state, request):
        return "stale"
    if found.new:
        return "queue"
    if found.queued:
        return "merge"
    return "attach" if found.running else "reuse"


def _calls(state: State, connector: ConnectorFacts, fetches: int) -> dict[str, int]:
    minimum = state.rules_of(connector).minimum_calls
    return {charge: calls * fetches for charge, calls in minimum.items()}


def _windows(
    state: State, connector: ConnectorFacts, calls: Mapping[str, int], now: int
) -> tuple[tuple[Window, int], ...]:
    limits = state.limits_of(connector)
    spent: Counter[str] = Counter()
    for charge, count in calls.items():
        for bucket in limits.of(charge, connector):
            spent[bucket.key] += count
    return tuple((limits.buckets[key].window(now), count) for key, count in spent.items())
