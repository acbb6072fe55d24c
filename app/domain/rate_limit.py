"""Exact counts against providers' quotas.

A call spends from every bucket of its charge, or from none. In a sliding bucket a slot is taken from the permit's grant
until *period* after its call's end, as the permit's return says; a permit that never returns is taken until the latest
moment at which its call could have ended, plus the period. So at most ``limit`` calls fall into any interval of the
period's length, measured where the provider measures it, whatever the delays between. A calendar bucket counts per day
of its zone; a permit that may touch a boundary, or lies within the clock guard of it, counts in both days.

Names follow the field: ``test`` asks, ``hit`` spends. Time is the broker's (ms), passed in, and never runs backwards.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from app.domain import reserve
from app.domain.model import ConnectorFacts, Quota
from app.domain.reserve import Melting
from app.domain.zones import day_bounds, day_of

LONG_PERIOD_MS = 3_600_000
"""Reservations are kept in quotas at least this long: a shorter one refills before a report is ready (ADR 0003)."""

RESERVED_RETRY_MS = 5_000
"""Room that only others' reservations keep is looked at again after this: nothing says when they will go."""

EVERY_SCOPE = "*"
"""In the key of a closure: all buckets of the quota, whoever spends from them."""

MS_GUARD = 1
"""LogAppendTime is cut to whole milliseconds, so a return may be stamped up to 1 ms before it happened."""


@dataclass(frozen=True, slots=True)
class PermitRow:
    """One permit that still counts somewhere. ``keys`` are the buckets it was spent from."""

    ask_id: str
    batch_id: str
    charge: str
    keys: tuple[str, ...]
    granted_at: int
    returned_at: int | None = None
    connector_id: str = ""
    connector_type: str = ""
    account_id: str = ""
    probe: bool = False
    """The one call that an open circuit lets through (R9)."""
    payers: str = ""
    """The ledger's row that says whom the call is for; empty once its entry is written (``ledger.Payers``)."""
    org_id: int = 0
    landed: bool = False
    """Its call can change nothing any more: what it was to append is in the sheet."""


@dataclass(frozen=True, slots=True)
class Full:
    """Why no permit: the bucket, and when it is worth asking again. ``kept``: it has room, for classes 1 and 2 only."""

    key: str
    until: int
    closed: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A bucket as a caller sees it. ``reset_at``: the calendar boundary, else when all permits counted now are free."""

    key: str
    quota: Quota
    used: int
    remaining: int
    reset_at: int


@dataclass(slots=True)
class Bucket:
    """Our exact count against one quota for one scope value."""

    key: str
    quota: Quota
    lifetime_ms: int
    """How long after its grant a permit's call may still end: validity + the call's deadline."""
    guard_ms: int
    taken: dict[str, int] = field(default_factory=dict)
    """ask id -> ms at which its slot is free (sliding)."""
    order: list[tuple[int, str]] = field(default_factory=list)
    days: dict[int, int] = field(default_factory=dict)
    """Day ordinal -> permits counted (calendar)."""
    closed_until: int = 0
    reserved: dict[str, int] = field(default_factory=dict)
    """Batch id -> calls it must still be able to make."""
    hinted: bool = False
    """A local rate_limit_hit was announced and the bucket has not been free for a period since."""
    full_at: int = 0
    told: tuple[tuple[int, int], ...] = ()
    """Others' calls, as the provider told (``domain.usage``): sliding (ms at which they no longer count, calls), the
    first ones to go first; calendar (day ordinal, calls)."""
    freed: deque[int] = field(default_factory=deque)
    """When the slots that were freed within the last lifetime became free (sliding)."""
    melting: dict[int, Melting] = field(default_factory=dict)
    """Day -> its reserve, of the day last looked at (calendar)."""
    seen: tuple[tuple[int, int], tuple[int, int]] = field(default=((0, -1), (0, 0)), compare=False)
    """((now, ``moves``), what ``_counted`` found then)."""
    response_ms: float = 0.0
    """Moving mean of the time from a permit's grant to its return (sliding): a slot is taken so much longer."""
    moves: int = 0
    """How often ``taken`` has changed."""
    frees: tuple[tuple[int, int, int], list[int]] = field(default=((0, 0, -1), []), compare=False)
    """What ``rhythm`` worked out last, and for when: a step asks for hundreds of requests."""

    @property
    def calendar(self) -> bool:
        return self.quota.calendar_zone is not None

    def used(self, now: int) -> int:
        if self.calendar:
            return max((self.days.get(d, 0) for d in self._days_touched(now)), default=0)
        self._expire(now)
        return len(self.taken)

    def others(self, now: int) -> int:
        """Calls that somebody else has spent."""
        if not self.told:
            return 0
        if self.calendar:
            return max((self._others_of(d) for d in self._days_touched(now)), default=0)
        return max((calls for until, calls in self.told if until > now), default=0)

    def _others_of(self, day: int) -> int:
        return max((calls for d, calls in self.told if d == day), default=0) if self.told else 0

    def left(self, now: int, *, whole: bool = True) -> int:
        """Calls that nobody has spent. ``whole`` False: without what is kept for classes 1 and 2."""
        if self.calendar:
            return min(self._left_of(d, now, whole=whole) for d in self._days_touched(now))
        return self.quota.limit - self.used(now) - self.others(now) - (0 if whole else reserve.standing(self.quota))

    def _left_of(self, day: int, now: int, *, whole: bool) -> int:
        kept = 0 if whole else self._melting(day).at(now)
        return self.quota.limit - self.days.get(day, 0) - self._others_of(day) - kept

    def _melting(self, day: int) -> Melting:
        """The reserve of a day, over the time whose calls count in that day alone."""
        if day not in self.melting:
            opens, ends = day_bounds(self.quota.calendar_zone or "UTC", day)
            span = (opens + self.guard_ms, ends - self.guard_ms - self.lifetime_ms)
            self.melting = {day: Melting(reserve.calls_of(self.quota), *span)}
        return self.melting[day]

    def room(self, now: int, batch_id: str = "", *, whole: bool = True) -> int:
        """Free slots for this batch: others' reservations are not free."""
        others = sum(n for b, n in self.reserved.items() if b != batch_id)
        return self.left(now, whole=whole) - others

    def most(self, need: int, *, whole: bool = True) -> int:
        """``need``, or as many as a bucket that nobody spends from will ever have at once."""
        standing = 0 if whole or self.calendar else reserve.standing(self.quota)
        return min(need, self.quota.limit - standing)

    def free_at(self, now: int, need: int = 1, *, whole: bool = True) -> int:
        """When it is worth asking again for ``need`` slots (at most the limit): in the future, and never later than
        they are free. What only others' reservations keep is looked at again soon: they go as their fetches go on."""
        if self.closed_until > now:
            return self.closed_until
        if self.left(now, whole=whole) >= need:
            return now + RESERVED_RETRY_MS
        if self.calendar:
            return self._day_free_at(now, need)
        spare = self.quota.limit - need - (0 if whole else reserve.standing(self.quota))
        # A permit that is still out counts to its latest end, yet will most likely be back within moments.
        return min(self._slots_free_at(now, spare), now + self.quota.period_ms + MS_GUARD)

    def _day_free_at(self, now: int, need: int) -> int:
        if self.left(now) < need:
            return self.next_day(now)
        lefts = [(day, self._left_of(day, now, whole=True)) for day in self._days_touched(now)]
        return max(now + 1, *(self._melting(day).free_at(left - need) for day, left in lefts))

    def _slots_free_at(self, now: int, spare: int) -> int:
        """When no more than ``spare`` (>= 0) calls of ours and others' count, if nobody calls."""
        since = (now, *(until for until, _ in self.told if until > now))
        found = []
        for at in since:
            freed = len(self.taken) + self.others(at) - spare
            if freed <= 0:
                found.append(at)
            elif freed == 1:
                found.append(max(at, self.order[0][0]))
            elif freed <= len(self.taken):
                found.append(max(at, heapq.nsmallest(freed, self.taken.values())[-1]))
        return min(found)

    def remaining(self, now: int) -> int:
        """Calls that could be made at once. Looks only, as ``window``."""
        if self.closed_until > now:
            return 0
        ours = self.used(now) if self.calendar else self._counted(now)[0]
        return max(0, self.quota.limit - ours - self.others(now))

    def window(self, now: int) -> Window:
        """Looks only: ``now`` may be an estimate, and must not set a permit free."""
        remaining = self.remaining(now)
        # As in ``free_at``: a permit that is still out counts to its latest end, yet will be back within moments.
        last = now if self.calendar else self._counted(now)[1]
        latest = min(last, now + self.quota.period_ms + MS_GUARD)
        if not self.calendar:
            latest = max((latest, *(until for until, _ in self.told)))
        reset = self.next_day(now) if self.calendar else max(now, latest)
        return Window(self.key, self.quota, self.quota.limit - remaining, remaining, max(reset, self.closed_until))

    def _counted(self, now: int) -> tuple[int, int]:
        """Permits that count at ``now``, and when the last one is free. Counted once for all who are shown one step's
        views: of 15,000 calls a day each would be a millisecond."""
        if self.seen[0] != (now, self.moves):
            ours = sum(free > now for free in self.taken.values())
            self.seen = (now, self.moves), (ours, max(self.taken.values(), default=now))
        return self.seen[1]

    def spend(self, row: PermitRow) -> None:
        """Counts a permit, new or read back from its row."""
        if self.calendar:
            return
        if row.returned_at is not None:
            took = min(row.returned_at - row.granted_at, self.lifetime_ms)
            self.response_ms += (took - self.response_ms) / 10
        free = self._slot_free_at(row)
        self.taken[row.ask_id] = free
        self.moves += 1
        heapq.heappush(self.order, (free, row.ask_id))

    def give_back(self, row: PermitRow) -> None:
        """Its call has ended: the slot is free a period from then. One that is free already stays so."""
        if row.ask_id in self.taken:
            self.spend(row)

    def spend_day(self, now: int) -> dict[int, int]:
        """Counts one call in every day it may touch; the new counts by day, to be made durable."""
        for day in self._days_touched(now):
            self.days[day] = self.days.get(day, 0) + 1
        keep = day_of(now - self.guard_ms, self.quota.calendar_zone or "UTC")
        self.days = {d: n for d, n in self.days.items() if d >= keep}
        return dict(self.days)

    def _slot_free_at(self, row: PermitRow) -> int:
        latest = row.granted_at + self.lifetime_ms
        ended = latest if row.returned_at is None else min(row.returned_at, latest)
        return ended + self.quota.period_ms + MS_GUARD

    def _expire(self, now: int) -> None:
        while self.order and self.order[0][0] <= now:
            free, ask_id = heapq.heappop(self.order)
            if self.taken.get(ask_id) == free:
                del self.taken[ask_id]
                self.moves += 1
                self.freed.append(free)
        while self.order and self.taken.get(self.order[0][1]) != self.order[0][0]:
            heapq.heappop(self.order)
        while self.freed and self.freed[0] <= now - self.lifetime_ms:
            self.freed.popleft()

    def used_since(self, granted_at: int, now: int) -> int:
        """Our calls that counted at any moment since a grant, which lies no longer ago than a lifetime."""
        if self.calendar:
            return self.days.get(self.first_day(granted_at), 0)
        return self.used(now) + sum(free > granted_at for free in self.freed)

    def first_day(self, now: int) -> int:
        """The first day that a call of this moment may count in (calendar)."""
        return day_of(now - self.guard_ms, self.quota.calendar_zone or "UTC")

    def _days_touched(self, now: int) -> range:
        zone = self.quota.calendar_zone or "UTC"
        return range(day_of(now - self.guard_ms, zone), day_of(now + self.lifetime_ms + self.guard_ms, zone) + 1)

    def spent_until(self, now: int) -> int:
        """When a bucket is free of any calls that may have been permitted up to ``now`` and do not come back."""
        if not self.calendar:
            return now + self.lifetime_ms + self.quota.period_ms + MS_GUARD
        zone = self.quota.calendar_zone or "UTC"
        return day_bounds(zone, self._days_touched(now)[-1])[1] + self.guard_ms

    def next_day(self, now: int) -> int:
        """When the day that ``now`` counts in is over, guard included (calendar)."""
        zone = self.quota.calendar_zone or "UTC"
        end = day_bounds(zone, day_of(now - self.guard_ms, zone))[1]
        return end + self.guard_ms


@dataclass(slots=True)
class Limits:
    """All buckets of one connector type."""

    quotas: Sequence[Quota]
    lifetime_ms: int
    guard_ms: int
    buckets: dict[str, Bucket] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    """Bucket key -> ms until which a provider's throttle closed it."""

    def of(self, charge: str, connector: ConnectorFacts) -> list[Bucket]:
        """The buckets one call spends from."""
        return [self.bucket(q, connector) for q in self.quotas if q.charge == charge]

    def bucket(self, quota: Quota, connector: ConnectorFacts) -> Bucket:
        scope = {"application": "", "account": connector.account_id, "user": connector.subject}[quota.scope]
        return self._named(f"{quota.name}|{scope}", quota)

    def _named(self, key: str, quota: Quota) -> Bucket:
        found = self.buckets.get(key)
        if found is None:
            found = self.buckets[key] = Bucket(key, quota, self.lifetime_ms, self.guard_ms)
            found.closed_until = max(self.closed.get(k, 0) for k in (key, f"{quota.name}|{EVERY_SCOPE}"))
        return found

    def close(self, key: str, until: int) -> None:
        """No permit from this bucket before ``until``: a provider said *not now*, or its rows are in doubt. Never
        shortens a closure."""
        self.closed[key] = max(until, self.closed.get(key, 0))
        name, _, scope = key.partition("|")
        for bucket in self.buckets.values():
            if bucket.key == key or (scope == EVERY_SCOPE and bucket.quota.name == name):
                bucket.closed_until = max(bucket.closed_until, until)

    def restore(
        self,
        rows: Iterable[PermitRow],
        days: Mapping[str, Mapping[int, int]],
        told: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType({}),
    ) -> None:
        """Rebuilds the counts from their durable rows."""
        by_name = {q.name: q for q in self.quotas}
        for row in rows:
            for key in row.keys:
                quota = by_name.get(key.partition("|")[0])
                if quota is not None:
                    self._named(key, quota).spend(row)
        for key, counts in days.items():
            quota = by_name.get(key.partition("|")[0])
            if quota is not None:
                self._named(key, quota).days = dict(counts)
        for key, counted in told.items():
            quota = by_name.get(key.partition("|")[0])
            if quota is not None:
                self._named(key, quota).told = counted


def test(
    buckets: Sequence[Bucket],
    now: int,
    batch_id: str,
    need: int,
    *,
    whole: bool = True,  # noqa: PT028 - asks a bucket, no test of ours
) -> Full | None:
    """None if all buckets have room for ``need`` calls of this batch; else the one that keeps it waiting longest.
    ``whole`` False: the batch is of a class that leaves the reserve alone."""
    full = [found for b in buckets if (found := _full(b, now, batch_id, b.most(need, whole=whole), whole=whole))]
    return max(full, key=lambda f: f.until, default=None)


def _full(bucket: Bucket, now: int, batch_id: str, need: int, *, whole: bool) -> Full | None:
    if bucket.closed_until > now:
        return Full(bucket.key, bucket.closed_until, closed=True)
    if not bucket.quota.enforced or bucket.room(now, batch_id, whole=whole) >= need:
        return None
    kept = not whole and bucket.room(now, batch_id) >= need
    return Full(bucket.key, bucket.free_at(now, need, whole=whole), kept=kept)


def look(buckets: Sequence[Bucket], now: int, batch_id: str, need: int, *, whole: bool = True) -> Full | None:
    """``test`` at an estimated ``now``, over copies: looking must set no permit free."""
    copies = [replace(b, taken=dict(b.taken), order=list(b.order), freed=deque(b.freed)) for b in buckets]
    return test(copies, now, batch_id, need, whole=whole)


def hit(buckets: Sequence[Bucket], row: PermitRow) -> dict[str, dict[int, int]]:
    """Spends one permit from all buckets; returns the calendar counts that changed, by bucket key, for the rows."""
    changed: dict[str, dict[int, int]] = {}
    for bucket in buckets:
        if bucket.calendar:
            changed[bucket.key] = bucket.spend_day(row.granted_at)
        else:
            bucket.spend(row)
        left = bucket.reserved.get(row.batch_id, 0)
        if left:
            bucket.reserved[row.batch_id] = left - 1
    return changed


def expires_at(row: PermitRow, buckets: Iterable[Bucket]) -> int:
    """When no sliding bucket counts this permit any longer, so that its row may go."""
    return max((b.taken.get(row.ask_id, 0) for b in buckets), default=0)
