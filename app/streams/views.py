"""``ports.RequestViews``: what this worker follows, else PostgreSQL."""

from __future__ import annotations

from app.domain.messages import RequestView
from app.ports import RequestHistory, ViewUnavailable
from app.streams.follower import Follower


class WorkerViews:
    """Committed views of requests; never a wrong *unknown*."""

    def __init__(self, follower: Follower, history: RequestHistory) -> None:
        self._follower, self._history = follower, history

    async def get(self, request_id: str) -> RequestView | None:
        """From memory; what it no longer holds, or does not hold yet, from PostgreSQL."""
        found = self._follower.view(request_id)
        if found is not None:
            return found
        try:
            return await self._history.find(request_id)
        except (OSError, TimeoutError) as exc:
            raise ViewUnavailable("request history is away") from exc

    async def wait_for(self, request_id: str, timeout_s: float) -> RequestView | None:
        return await self._follower.next_view(request_id, timeout_s)
