"""``ports.RequestViews`` and connectors for REST: what this worker follows, else PostgreSQL, if it answers soon."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from app.deadline import within
from app.domain.messages import RequestView
from app.domain.model import ConnectorFacts
from app.ports import ConnectorStore, PageKey, RequestHistory, ViewUnavailable, Wanted
from app.streams.follower import Follower

LOOK_UP_S = 1.5
"""How long a caller waits for PostgreSQL. A silent server would hold each call for the seconds that the pool allows."""

T = TypeVar("T")


async def _soon(look_up: Coroutine[Any, Any, T]) -> T:
    """Raises ``ViewUnavailable`` when PostgreSQL is away or silent."""
    try:
        return await within(LOOK_UP_S, look_up)
    except (OSError, TimeoutError) as exc:
        raise ViewUnavailable("PostgreSQL is away") from exc


class WorkerViews:
    """Committed views of requests; never a wrong *unknown*."""

    def __init__(self, follower: Follower, history: RequestHistory) -> None:
        self._follower, self._history = follower, history

    async def get(self, request_id: str) -> RequestView | None:
        """From memory; what it no longer holds, or does not hold yet, from PostgreSQL."""
        found = self._follower.view(request_id)
        if found is not None:
            return found
        return await _soon(self._history.find(request_id))

    async def wait_for(self, request_id: str, timeout_s: float) -> RequestView | None:
        return await self._follower.next_view(request_id, timeout_s)

    async def wait_until_ended(self, request_id: str, timeout_s: float) -> RequestView | None:
        return await self._follower.ended_view(request_id, timeout_s)

    def held(self, request_id: str) -> RequestView | None:
        return self._follower.view(request_id)

    def newest(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        return self._follower.newest(wanted, before, limit)

    async def page(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        """From PostgreSQL."""
        return await _soon(self._history.page(wanted, before, limit))


class WorkerConnectors:
    """Facts of connectors, by id and by organisation."""

    def __init__(self, follower: Follower, store: ConnectorStore) -> None:
        self._follower, self._store = follower, store

    async def find(self, connector_id: str) -> ConnectorFacts | None:
        """None: unknown. Raises ``ViewUnavailable`` while nobody can know."""
        return self._follower.connectors.get(connector_id) or await _soon(self._store.find(connector_id))

    async def of(self, org_id: int) -> Sequence[ConnectorFacts]:
        """The organisation's connectors that are not deleted, in order of id. Raises ``ViewUnavailable``."""
        follower = self._follower
        ready = follower.caught_up.is_set()
        found = follower.connectors_of(org_id) if ready else await _soon(self._store.list_for(org_id))
        return sorted((facts for facts in found if not facts.deleted), key=lambda facts: facts.connector_id)
