"""Whether this worker can serve, and whether it still moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.domain import restoring
from app.services.status import Check, CheckState
from app.streams.follower import Follower
from app.streams.kafka import Publisher
from app.streams.ownership import Ownership

STUCK_S = 120.0
_BROKER_S = 4.0
_PROBE_S = 1.5


class Readiness:
    """Checks for ``/readyz`` and ``/livez``. Without PostgreSQL or Redis a worker is degraded and still serves."""

    def __init__(
        self, app: Any, publisher: Publisher, ownership: Ownership, follower: Follower, database: Any, cache: Any
    ) -> None:
        self._app, self._publisher, self._ownership, self._follower = app, publisher, ownership, follower
        self._database, self._cache = database, cache
        self._broker_at = 0.0
        self._busy: dict[int, tuple[float, float]] = {}

    async def checks(self) -> Sequence[Check]:
        """One line per thing."""
        probes = await asyncio.gather(
            self._probe("postgres", self._database.check), self._probe("redis", self._cache.check)
        )
        return [self._broker(), self._tables(), self._quotas(), *probes]

    def alive(self) -> bool:
        """False only while an owned planner has been in one step for two minutes though the broker answers: its
        lock is held at every look, and no step has ended."""
        if self._broker().state is CheckState.FAILED:
            self._busy = {}
            return True
        now, seen = time.monotonic(), self._busy
        busy = {p: o.stepped_at for p, o in self._ownership.owners.items() if o.lock.locked()}
        # From the first look that found this step, not from the end of the one before: an owner that is being taken
        # over has none, and after an outage of the broker the last one is old though nothing is stuck.
        self._busy = {p: seen[p] if p in seen and seen[p][0] == at else (at, now) for p, at in busy.items()}
        return all(now - since < STUCK_S for _, since in self._busy.values())

    async def watch_broker(self) -> None:
        """Asks the broker for metadata every few seconds. Runs until cancelled."""
        while True:
            if await self._publisher.answers(_PROBE_S):
                self._broker_at = time.monotonic()
            await asyncio.sleep(_BROKER_S)

    def _broker(self) -> Check:
        age = time.monotonic() - self._broker_at
        if self._broker_at and age < 3 * _BROKER_S:
            return Check("broker", CheckState.OK)
        return Check("broker", CheckState.FAILED, "the broker does not answer")

    def _tables(self) -> Check:
        if not self._follower.caught_up.is_set():
            return Check("tables", CheckState.FAILED, "reading connectors and requests")
        if self._app.rebalancing or not self._app.assignor.assigned_actives():
            return Check("tables", CheckState.FAILED, "partitions are moving")
        if not all(owner.ready for owner in self._ownership.owners.values()):
            return Check("tables", CheckState.FAILED, "reading planner rows")
        return Check("tables", CheckState.OK)

    def _quotas(self) -> Check:
        owners = [o for o in self._ownership.owners.values() if o.ready]
        if any(restoring.distrusted_until(o.state) > time.time() * 1000 for o in owners):
            return Check("quotas", CheckState.DEGRADED, "planner rows were older than what was done: quotas are closed")
        return Check("quotas", CheckState.OK)

    @staticmethod
    async def _probe(name: str, check: Callable[[], Awaitable[Any]]) -> Check:
        try:
            async with asyncio.timeout(_PROBE_S):
                await check()
            return Check(name, CheckState.OK)
        except Exception as exc:  # noqa: BLE001 - whatever is wrong with it, it is away
            return Check(name, CheckState.DEGRADED, type(exc).__name__)
