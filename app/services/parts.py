"""What several planners say of themselves, as the one answer a caller gets: connectors, and the queue.

Each planner has one connector type. A part is what its owner said (``ports.PlannerBoard.part``), now or when it was
last heard; parts of other workers are looked at closely before anything is counted with them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.domain.model import ConnectorFacts

NAMED = 100
"""Own requests that the answer about the queue names."""

_UNKNOWN: Final[Mapping[str, Any]] = {
    "status": "unknown",
    "last_check": None,
    "latency_ms": None,
    "error_rate": None,
    "calls": 0,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One connector type's. ``told`` None: nothing was ever heard here; not ``live``: heard earlier."""

    told: Mapping[str, Any] | None
    live: bool

    @property
    def as_of(self) -> str | None:
        """The instant it is of."""
        return None if self.told is None else self.told["as_of"]

    @property
    def queue(self) -> Mapping[str, Any] | None:
        return None if self.told is None else self.told["queue"]

    def connector(self, connector_id: str) -> Mapping[str, Any]:
        """Its health and bucket."""
        known = {} if self.told is None else self.told["connectors"]
        return known.get(connector_id) or {"health": _UNKNOWN, "rate_limit": None}


class LastHeard:
    """Parts as they were last heard, by organisation and connector type; those not asked for longest are forgotten."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._parts: OrderedDict[tuple[int, str], Mapping[str, Any]] = OrderedDict()

    def part(self, org_id: int, connector_type: str, told: Mapping[str, Any] | None) -> Part:
        """The part to answer with: what was told now, which is remembered, or without it what was told before."""
        name = (org_id, connector_type)
        part = Part(self._parts.get(name) if told is None else told, told is not None)
        if part.told is not None:
            self._parts[name] = part.told
            self._parts.move_to_end(name)
        if len(self._parts) > self._most:
            self._parts.popitem(last=False)
        return part


def readable(told: Any) -> Mapping[str, Any] | None:
    """A part as another worker told it; None for anything else."""
    if not isinstance(told, dict) or not isinstance(told.get("as_of"), str):
        return None
    queue, connectors = told.get("queue"), told.get("connectors")
    sound = _is_queue(queue) and isinstance(connectors, dict) and all(map(_is_connector, connectors.values()))
    return told if sound else None


def _is_queue(queue: Any) -> bool:
    return (
        isinstance(queue, dict)
        and all(_is_count(queue.get(name)) for name in ("total_queued", "your_requests"))
        and _is_number(queue.get("estimated_wait_seconds"))
        and _is_list(queue.get("positions"), _is_place)
        and _is_list(queue.get("requests"), lambda one: isinstance(one, dict) and _is_place(one.get("queue_position")))
    )


def _is_connector(told: Any) -> bool:
    if not isinstance(told, dict) or not isinstance(told.get("health"), dict):
        return False
    limit = told.get("rate_limit")
    return limit is None or (
        isinstance(limit, dict) and _is_number(limit.get("limit")) and _is_number(limit.get("remaining"))
    )


def _is_list(value: Any, of: Any) -> bool:
    return isinstance(value, list) and all(map(of, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_count(value)


def _is_place(value: Any) -> bool:
    return value is None or _is_count(value)


def connectors_body(connectors: Sequence[ConnectorFacts], parts: Mapping[str, Part]) -> dict[str, Any]:
    """The answer of ``GET /connectors``."""
    return {
        "connectors": [_connector(facts, parts[facts.connector_type]) for facts in connectors],
        "parts": _told_of(parts),
    }


def queue_body(connectors: Sequence[ConnectorFacts], parts: Mapping[str, Part]) -> dict[str, Any]:
    """The answer of ``GET /connectors/queue``: ``connectors`` are the caller's."""
    queues = [part.queue for part in parts.values() if part.queue is not None]
    requests = [one for queue in queues for one in queue["requests"]]
    return {
        "queue_status": {
            "total_queued": sum(queue["total_queued"] for queue in queues),
            "your_requests": sum(queue["your_requests"] for queue in queues),
            "positions": sorted((place for queue in queues for place in queue["positions"]), key=_best_first),
            "estimated_wait_seconds": max((queue["estimated_wait_seconds"] for queue in queues), default=0.0),
        },
        "rate_limits": _rate_limits(connectors, parts),
        "requests": sorted(requests, key=lambda one: _best_first(one["queue_position"]))[:NAMED],
        "parts": _told_of(parts),
    }


def _connector(facts: ConnectorFacts, part: Part) -> dict[str, Any]:
    told = part.connector(facts.connector_id)
    return {
        "id": facts.connector_id,
        "type": facts.connector_type,
        "account_id": facts.account_id,
        "status": facts.status,
        "health": told["health"],
        "rate_limit": told["rate_limit"],
        "time_zone": facts.time_zone,
        "currency": facts.currency,
    }


def _told_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {name: {"live": part.live, "as_of": part.as_of} for name, part in parts.items()}


def _best_first(place: int | None) -> int:
    return place or 0


def _rate_limits(connectors: Sequence[ConnectorFacts], parts: Mapping[str, Part]) -> dict[str, Any]:
    """For each type the bucket with the least left share; a type without one is left out."""
    least: dict[str, Mapping[str, Any]] = {}
    for facts in connectors:
        limit = parts[facts.connector_type].connector(facts.connector_id)["rate_limit"]
        held = least.get(facts.connector_type)
        if limit is not None and (held is None or _share(limit) < _share(held)):
            least[facts.connector_type] = limit
    return least


def _share(limit: Mapping[str, Any]) -> float:
    return float(limit["remaining"]) / (limit["limit"] or 1)
