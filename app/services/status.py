"""What callers are told of a request and of this worker: the seed's bodies, plus additive fields.

Plain functions over committed views. Views count milliseconds since the epoch; answers show UTC, ISO 8601 with ``Z``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from app.domain.messages import Accept, RequestView
from app.domain.model import PRIORITY_CLASS, RequestState
from app.domain.tables import is_table
from app.domain.writes import facts_of

PRIORITY_NAME: Mapping[int, str] = {number: name for name, number in PRIORITY_CLASS.items()}
COST_UNIT = "calls"
STALE_MESSAGE = "Data may be stale"


class CheckState(StrEnum):
    """``degraded``: something is away that this worker can serve without; ``failed``: it cannot serve."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing readiness depends on; ``detail`` says what is wrong, without addresses or secrets."""

    name: str
    state: CheckState
    detail: str = ""


def instant(ms: int | None) -> str | None:
    """``2026-01-31T09:00:00.250Z`` for milliseconds since the epoch; None stays None."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def shown(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A planner's small mapping for outsiders: whole numbers under names of instants become text."""
    if facts is None:
        return None
    return {k: instant(v) if _is_instant(k, v) else v for k, v in facts.items()}


def _is_instant(name: str, value: object) -> bool:
    return (name == "until" or name.endswith("_at") or name == "as_of") and isinstance(value, int)


def fetch_body(request_id: str, view: RequestView | None) -> dict[str, Any]:
    """The answer to a fetch command: the seed's body plus ``waiting`` and, of one that was completed at once,
    ``result``; without a view nothing is decided yet."""
    if view is None:
        return {
            "request_id": request_id,
            "status": RequestState.QUEUED,
            "queue_position": None,
            "estimated_wait_seconds": None,
            "estimated_wait_p90_seconds": None,
            "batched_with": [],
            "rate_limit_status": None,
            "waiting": None,
        }
    held = _result(view)
    return {
        "request_id": view.request_id,
        "status": view.state,
        "queue_position": view.queue_position,
        "estimated_wait_seconds": view.estimated_wait_s,
        "estimated_wait_p90_seconds": view.estimated_wait_p90_s,
        "batched_with": view.batched_with,
        "rate_limit_status": shown(view.rate_limit),
        "waiting": shown(view.waiting),
    } | ({} if held is None else {"result": held})


def status_body(view: RequestView) -> dict[str, Any]:
    """The state of a request: the seed's body, then everything else that is known of it."""
    return {
        "request_id": view.request_id,
        "status": view.state,
        "progress": view.progress,
        "result": _result(view),
        "execution_time_ms": view.execution_time_ms,
        "cost": None if view.cost is None else float(view.cost),
        "cost_unit": COST_UNIT,
        "waiting": shown(view.waiting),
        "error": shown(view.error),
        "queue_position": view.queue_position,
        "estimated_wait_seconds": view.estimated_wait_s,
        "estimated_wait_p90_seconds": view.estimated_wait_p90_s,
        "batched_with": view.batched_with,
        "rate_limit_status": shown(view.rate_limit),
        "connector_id": view.connector_id,
        "connector_type": view.connector_type,
        "request_type": kind_of(view),
        "report_type": view.report_type or None,
        "date_range": _range(view),
        "fields": view.fields,
        "priority": PRIORITY_NAME.get(view.priority_class),
        "labels": view.labels,
        "attempts": view.attempts,
        "accepted_at": instant(view.accepted_at),
        "started_at": instant(view.started_at),
        "completed_at": instant(view.completed_at),
        "deadline": instant(view.deadline_at),
        "write": view.write,
    }


def kind_of(one: RequestView | Accept) -> str:
    """``fetch`` or ``write``."""
    return "fetch" if one.write is None else "write"


def published_body(accept: Accept) -> dict[str, Any]:
    """The state of a request that is on the command topic and not decided on: queued, its place and the instant of its
    acceptance (the broker's) not known yet."""
    view = RequestView(
        request_id=accept.request_id,
        org_id=accept.connector.org_id,
        connector_id=accept.connector.connector_id,
        connector_type=accept.connector.connector_type,
        report_type=accept.report_type,
        start=accept.start,
        end=accept.end,
        fields=accept.fields,
        priority_class=accept.priority_class,
        state=RequestState.QUEUED,
        accepted_at=accept.accepted_at,
        revision=0,
        body_hash=accept.body_hash,
        labels=accept.labels,
        deadline_at=accept.deadline_at,
        write=None if accept.write is None else facts_of(accept.write, sent=False),
    )
    return status_body(view) | {"accepted_at": None, "as_of": None}


def _result(view: RequestView) -> dict[str, Any] | None:
    """What a completed request got. A stale one says how old its data was when it was answered (whole seconds)."""
    found = shown(view.result)
    if found is None or view.result is None or not found.get("stale"):
        return found
    as_of = view.result.get("as_of")
    age_s = None if as_of is None or view.completed_at is None else max(0, view.completed_at - as_of) // 1000
    return found | {"age_seconds": age_s, "message": STALE_MESSAGE}


def _range(view: RequestView) -> dict[str, str] | None:
    if is_table(view.connector_type) or view.start <= 0 or view.end <= 0:
        return None
    return {"start": date.fromordinal(view.start).isoformat(), "end": date.fromordinal(view.end).isoformat()}


def readiness_body(checks: Sequence[Check]) -> tuple[bool, dict[str, Any]]:
    """Whether this worker can serve, and the answer of ``/readyz``: ``ready``, ``degraded`` (serving) or
    ``not_ready``."""
    states = {c.state for c in checks}
    ready = CheckState.FAILED not in states
    status = "not_ready" if not ready else "degraded" if CheckState.DEGRADED in states else "ready"
    listed = [{"name": c.name, "status": c.state, "detail": c.detail} for c in checks]
    return ready, {"status": status, "checks": listed}
