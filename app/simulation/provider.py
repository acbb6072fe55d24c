"""The provider of the simulation. It counts calls as it sees them, at their arrival, and knows nothing of the planner's
count: what it finds over a quota is over.

A call that would exceed a quota is refused (429) and counts all the same, as providers count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.model import ConnectorFacts, Quota


@dataclass(slots=True)
class Sliding:
    """Calls in any interval of ``period_ms``, both ends included. The fullest one always ends at a call, so it is
    enough to look back from each."""

    period_ms: int
    arrivals: deque[int] = field(default_factory=deque)

    def count(self, at: int) -> int:
        """Counts a call at ``at`` (ms, never going back); how many lie within one period up to it."""
        arrivals = self.arrivals
        arrivals.append(at)
        first = at - self.period_ms
        while arrivals[0] < first:
            arrivals.popleft()
        return len(arrivals)


@dataclass(slots=True)
class Calendar:
    """Calls in one calendar day of a zone. ``days``: every ended day's count, by its first instant."""

    zone: ZoneInfo
    days: list[tuple[int, int]] = field(default_factory=list)
    begins_at: int = 0
    ends_at: int = 0
    calls: int = 0

    def count(self, at: int) -> int:
        """Counts a call at ``at`` (ms, never going back); how many there were that day."""
        self.turn(at)
        self.calls += 1
        return self.calls

    def turn(self, at: int) -> None:
        """Begins the day that ``at`` falls into, if it has not begun yet."""
        if at < self.ends_at:
            return
        if self.ends_at:
            self.days.append((self.begins_at, self.calls))
        day = datetime.fromtimestamp(at / 1000, self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        self.begins_at = int(day.timestamp() * 1000)
        self.ends_at = int((day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=self.zone).timestamp() * 1000)
        self.calls = 0


@dataclass(slots=True)
class Use:
    """What became of one quota. ``most``: the fullest period of any scope value. ``demanded`` calls came while requests
    had been waiting for a whole period (for ``demand_ms`` in all): before that an empty bucket gives more than it can
    give on the whole."""

    quota: Quota
    calls: int = 0
    over: int = 0
    most: int = 0
    demanded: int = 0
    demand_ms: int = 0
    counts: dict[str, Sliding | Calendar] = field(default_factory=dict)


@dataclass(slots=True)
class Provider:
    """One connector type's provider. ``counted`` calls spend from a quota, ``over`` of them exceeded one."""

    quotas: Sequence[Quota]
    uses: dict[str, Use] = field(init=False)
    calls: int = 0
    counted: int = 0
    over: int = 0
    waiting_since: int | None = None
    """Since when requests wait (ms)."""
    _of_charge: dict[str, list[Use]] = field(init=False)

    def __post_init__(self) -> None:
        self.uses = {quota.name: Use(quota) for quota in self.quotas}
        self._of_charge = {}
        for use in self.uses.values():
            self._of_charge.setdefault(use.quota.charge, []).append(use)

    def demand(self, at: int, *, waits: bool) -> None:
        """From now on requests wait, or none does."""
        if self.waiting_since is not None:
            for use in self.uses.values():
                use.demand_ms += max(0, at - self.waiting_since - use.quota.period_ms)
        self.waiting_since = at if waits else None

    def arrive(self, charge: str, connector: ConnectorFacts, at: int) -> str | None:
        """Counts a call; the name of the quota that it exceeds, or None."""
        self.calls += 1
        exceeded = None
        uses = self._of_charge.get(charge)
        if not uses:
            return None
        self.counted += 1
        waited_ms = 0 if self.waiting_since is None else at - self.waiting_since
        for use in uses:
            quota = use.quota
            counter = _counter(use, connector)
            found = counter.count(at)
            use.calls += 1
            use.demanded += waited_ms > quota.period_ms
            use.most = max(use.most, found)
            if found > quota.limit:
                use.over += 1
                exceeded = quota.name
        self.over += exceeded is not None
        return exceeded

    def close(self, now: int) -> None:
        """The run is over. Days that are over by now have ended, whether or not a call has come since."""
        self.demand(now, waits=False)
        for use in self.uses.values():
            for counter in use.counts.values():
                if isinstance(counter, Calendar):
                    counter.turn(now)


def _counter(use: Use, connector: ConnectorFacts) -> Sliding | Calendar:
    scope = use.quota.scope
    value = "" if scope == "application" else connector.account_id if scope == "account" else connector.subject
    found = use.counts.get(value)
    if found is None:
        zone = use.quota.calendar_zone
        found = use.counts[value] = Sliding(use.quota.period_ms) if zone is None else Calendar(ZoneInfo(zone))
    return found
