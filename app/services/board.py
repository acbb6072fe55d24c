"""``ports.PlannerBoards`` over the planners of this worker: the domain's board as plain JSON values (ADR 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.domain import board
from app.domain.board import Place, Plan
from app.domain.health import Condition
from app.domain.messages import Accept
from app.domain.model import ConnectorFacts, Days
from app.domain.rate_limit import Window
from app.domain.rows import Batch
from app.domain.state import State
from app.ports import PlannerBoard
from app.services.status import PRIORITY_NAME, instant, kind_of, shown

NAMED = 100
"""Own requests that a queue's answer names; all of them are counted and placed."""

_LONG_S = 0.005

Owned = Callable[[str], tuple[State, int] | None]
"""Connector type -> the state of its planner and quota time by now (ms); None where it is not owned here, or not
ready."""


class Recent:
    """Queues that took long to walk, kept for ten times as long: whoever asks on and on for a hundred thousand requests
    must not keep the planner from its work. ``monotonic``: seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._kept: dict[tuple[int, int], tuple[State, float, str, dict[str, Any]]] = {}

    def queue(
        self, state: State, org_id: int, as_of: str, walk: Callable[[], dict[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """The queue, and the instant it is of."""
        began, name = self._monotonic(), (id(state), org_id)
        kept = self._kept.get(name)
        if kept is not None and kept[0] is state and began < kept[1]:
            return kept[2], kept[3]
        found = walk()
        took = self._monotonic() - began
        self._kept = {k: v for k, v in self._kept.items() if began < v[1]}
        if took > _LONG_S:
            self._kept[name] = (state, began + 11 * took, as_of, found)
        return as_of, found


class OwnedBoard:
    """``ports.PlannerBoard`` over one state. ``now`` is quota time, ms."""

    def __init__(
        self, state: State, now: int, connector: Callable[[str], ConnectorFacts | None], recent: Recent
    ) -> None:
        self._state, self._now, self._connector, self._recent = state, now, connector, recent

    def part(self, org_id: int, connector_ids: Sequence[str]) -> dict[str, Any]:
        """The organisation's part of the queue, and these connectors. Walks all of its own queued requests."""
        now = instant(self._now) or ""
        as_of, queue = self._recent.queue(self._state, org_id, now, lambda: self._queue(org_id))
        return {
            "as_of": as_of,
            "queue": queue,
            "connectors": {name: self._of_connector(name) for name in connector_ids},
        }

    def live(self, request_id: str) -> dict[str, Any] | None:
        """The fields of a status body that change by themselves."""
        found = board.place(self._state, request_id, self._now)
        if found is None:
            return None
        return {
            "progress": found.progress,
            "waiting": shown(found.waiting),
            "queue_position": found.position,
            "estimated_wait_seconds": found.wait.p50_s,
            "estimated_wait_p90_seconds": found.wait.p90_s,
            "batched_with": found.batched_with,
            "rate_limit_status": _status(found.window),
            "as_of": instant(self._now),
        }

    def dry_run(self, accept: Accept) -> dict[str, Any]:
        """The plan of a command that passed validation."""
        return {"dry_run": True, **_plan(board.plan(self._state, accept, self._now), self._now)}

    def _queue(self, org_id: int) -> dict[str, Any]:
        mine = board.queue(self._state, org_id, self._now, NAMED)
        return {
            "total_queued": self._state.queued,
            "your_requests": len(mine.positions),
            "positions": list(mine.positions),
            "estimated_wait_seconds": mine.wait.p50_s,
            "requests": [_entry(found) for found in mine.first],
        }

    def _of_connector(self, connector_id: str) -> dict[str, Any]:
        facts = self._connector(connector_id)
        window = None if facts is None else board.window(self._state, facts, self._now)
        return {"health": _health(board.health(self._state, connector_id, self._now)), "rate_limit": _limit(window)}


class Boards:
    """``ports.PlannerBoards``. ``owner``: connector type -> base URL of another worker that owns its planner."""

    def __init__(
        self,
        owned: Owned,
        owner: Callable[[str], str | None],
        connector: Callable[[str], ConnectorFacts | None],
        monotonic: Callable[[], float],
    ) -> None:
        self._owned, self._owner, self._connector = owned, owner, connector
        self._recent = Recent(monotonic)

    def here(self, connector_type: str) -> PlannerBoard | None:
        """The board of a planner that this worker owns and that is ready."""
        found = self._owned(connector_type)
        return None if found is None else OwnedBoard(*found, self._connector, self._recent)

    def owner(self, connector_type: str) -> str | None:
        """Who else has it."""
        return self._owner(connector_type)


def _entry(found: Place) -> dict[str, Any]:
    accept = found.accept
    return {
        "request_id": accept.request_id,
        "connector_id": accept.connector.connector_id,
        "connector_type": accept.connector.connector_type,
        "request_type": kind_of(accept),
        "report_type": accept.report_type or None,
        "target": None if accept.write is None else accept.write.target,
        "priority": PRIORITY_NAME.get(accept.priority_class),
        "status": found.state,
        "queue_position": found.position,
        "estimated_wait_seconds": found.wait.p50_s,
        "estimated_wait_p90_seconds": found.wait.p90_s,
        "waiting": shown(found.waiting),
    }


def _health(found: Condition) -> dict[str, Any]:
    return {
        "status": found.status,
        "last_check": instant(found.last_check_at),
        "latency_ms": found.latency_ms,
        "error_rate": found.error_rate,
        "calls": found.calls,
    }


def _limit(window: Window | None) -> dict[str, Any] | None:
    if window is None:
        return None
    return {
        "limit": window.quota.limit,
        "remaining": window.remaining,
        "reset_at": instant(window.reset_at),
        "bucket": window.quota.name,
    }


def _status(window: Window | None) -> dict[str, Any] | None:
    """The seed's ``rate_limit_status``, which counts the other way round."""
    if window is None:
        return None
    return {
        "current": window.used,
        "limit": window.quota.limit,
        "reset_at": instant(window.reset_at),
        "bucket": window.quota.name,
    }


def _plan(plan: Plan, now: int) -> Mapping[str, Any]:
    return {
        "outcome": plan.outcome,
        "days": {"asked": plan.asked, "held": plan.held, "running": plan.running, "to_fetch": plan.to_fetch},
        "batches": [_batch(batch, batch.batch_id in plan.new) for batch in plan.batches],
        "calls": dict(plan.calls),
        "buckets": [{**(_limit(window) or {}), "calls": calls} for window, calls in plan.windows],
        "queue_position": plan.position,
        "estimated_wait_seconds": plan.wait.p50_s,
        "estimated_wait_p90_seconds": plan.wait.p90_s,
        "waiting": shown(plan.waiting),
        "as_of": instant(now),
    }


def _batch(batch: Batch, new: bool) -> dict[str, Any]:
    """A batch that is not there yet has no id: it will be named after the request that makes it."""
    days = Days(batch.start, batch.end)
    # A waiting batch of a preview counts the asking request already, one under way does not.
    others = len(batch.members) - (batch.state == "queued")
    return {"batch_id": None if new else batch.batch_id, "start": days.first, "end": days.last, "members": others}
