"""Who pays for a call, and how full each bucket was: values and counts (spec sections 5 and 11).

A call belongs to the requests that its batch served *when its permit was granted*: for them it was made. One that is
cancelled while the call is out has had it made all the same, and one that joins meanwhile did not cause it. A call of a
batch whose members have all left is the organisation's alone. So a call's entry is whole whatever becomes of its
requests and of its batch before it returns.

What many permits have in common, the batch and its members with their labels, is one durable row (``Payers``) that
permits name. It lives while the batch does or a permit names it, and is replaced when members or class change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from app.domain.messages import Returned
from app.domain.model import Quota
from app.domain.rate_limit import Bucket, PermitRow
from app.domain.zones import day_bounds

SHORTEST_WINDOW_MS = 60_000
"""A bucket of seconds is told by the minute: 86,400 rows a day would say nothing more."""

WHOLE = 1_000_000
"""One call in millionths."""


@dataclass(frozen=True, slots=True)
class Member:
    """A request that a call is made for, with the labels of its command."""

    request_id: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payers:
    """Row ``a/<ask id of the first permit that names it>``: whom a batch's calls are for, and as what class."""

    batch_id: str
    org_id: int
    connector_id: str
    connector_type: str
    priority_class: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A member's part of one call, in millionths; those of a call add up to ``WHOLE``."""

    request_id: str
    labels: dict[str, str]
    millionths: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One call that left or may have. ``outcome``: ``answered``; ``failed``, the provider did not do its part;
    ``unknown``, its permit never came back or its end is not known (cancelled under way), so that the provider may not
    have counted it. ``ended_at`` is the return's LogAppendTime, None for a permit that never came back. Without members
    the call is the organisation's alone. ``priority_class`` is the batch's, which its best member gives it."""

    ask_id: str
    granted_at: int
    ended_at: int | None
    org_id: int
    connector_id: str
    connector_type: str
    batch_id: str
    charge: str
    buckets: tuple[str, ...]
    priority_class: int
    outcome: str
    members: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class WindowCount:
    """A closed window of one bucket, in which at least one call was granted. ``start`` belongs to it, ``end`` does not.

    ``org_id`` is None for an application's bucket, for one that several organisations spent from (it is nobody's own),
    and for a calendar bucket, of whose day only the number is durable.
    """

    connector_type: str
    bucket: str
    org_id: int | None
    limit: int
    start: int
    end: int
    calls: int


LedgerRecord = Entry | WindowCount
Reminders = list[tuple[int, str]]
"""(ms, bucket key) of windows that close then."""


@dataclass(slots=True)
class OpenWindow:
    """A window that still counts: in a calendar day until the clock guard is over. ``end`` as in ``WindowCount``."""

    end: int
    closes_at: int
    calls: int = 0
    orgs: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Books:
    """What the planner keeps for the ledger. ``payers`` is durable; the rest is rebuilt from it and from permits."""

    payers: dict[str, Payers] = field(default_factory=dict)
    of_batch: dict[str, set[str]] = field(default_factory=dict)
    """Live batch -> names of its payers' rows."""
    out: Counter[str] = field(default_factory=Counter)
    """Payers' row -> permits that name it."""
    windows: dict[str, dict[int, OpenWindow]] = field(default_factory=dict)
    """Bucket key -> first ms of each of its open windows."""

    def forget_batch(self, batch_id: str) -> list[str]:
        """A batch has ended: names of its rows that no permit needs any longer, in order."""
        return sorted(name for name in self.of_batch.pop(batch_id, ()) if not self.out[name])

    def count(self, row: PermitRow, buckets: Iterable[Bucket], now: int) -> Reminders:
        """Counts a permit in the open window of each of its buckets; when those that this opens are to be closed."""
        new: Reminders = []
        for bucket in buckets:
            if bucket.calendar:
                new += self._count_days(bucket, now)
            else:
                new += self._count_sliding(row, bucket, now)
        return new

    def close(self, key: str, now: int) -> list[tuple[int, OpenWindow]]:
        """Takes out a bucket's windows that are over: (first ms, window), in order."""
        windows = self.windows.get(key, {})
        over = [(start, windows.pop(start)) for start in sorted(windows) if windows[start].closes_at <= now]
        if not windows:
            self.windows.pop(key, None)
        return over

    def restore(
        self, permits: Iterable[PermitRow], batches: Container[str], buckets: Mapping[str, Bucket], now: int
    ) -> Reminders:
        """Rebuilds what is not durable; when open windows are to be closed. ``now`` is that of the last durable step,
        which told what had closed by then."""
        for name, payers in self.payers.items():
            if payers.batch_id in batches:
                self.of_batch.setdefault(payers.batch_id, set()).add(name)
        new: Reminders = []
        for bucket in buckets.values():
            if bucket.calendar:
                new += self._count_days(bucket, now)
        for row in permits:
            if row.payers:
                self.out[row.payers] += 1
            for key in row.keys:
                if key in buckets and not buckets[key].calendar:
                    new += self._count_sliding(row, buckets[key], now)
        return new

    def _count_days(self, bucket: Bucket, now: int) -> Reminders:
        """A day's number is the bucket's own: a call near midnight counts in both days, as it does against the
        limit. The day is over when the clock guard is."""
        new: Reminders = []
        for day, calls in bucket.days.items():
            start, end = day_bounds(bucket.quota.calendar_zone or "UTC", day)
            if end + bucket.guard_ms > now:
                window, opened = self._open(bucket.key, start, end, end + bucket.guard_ms)
                window.calls = calls
                new += opened
        return new

    def _count_sliding(self, row: PermitRow, bucket: Bucket, now: int) -> Reminders:
        start, end = window_of(bucket.quota, row.granted_at)
        if end <= now:
            return []
        window, opened = self._open(bucket.key, start, end, end)
        window.calls += 1
        window.orgs.add(row.org_id)
        return opened

    def _open(self, key: str, start: int, end: int, closes_at: int) -> tuple[OpenWindow, Reminders]:
        windows = self.windows.setdefault(key, {})
        if start in windows:
            return windows[start], []
        windows[start] = OpenWindow(end, closes_at)
        return windows[start], [(closes_at, key)]


def outcome_of(message: Returned, ask_id: str) -> str | None:
    """The outcome of a returned permit's call; None for one that never left."""
    told = {name: ok for name, _, ok in message.ends}
    left = told if message.left is None else message.left
    if ask_id not in left:
        return None
    return {None: "unknown", 0: "failed"}.get(told.get(ask_id), "answered")


def entry(row: PermitRow, payers: Payers, shares: Mapping[str, int], outcome: str, ended_at: int | None) -> Entry:
    """What a permit's call is written down as; ``shares`` has the millionths of each member."""
    return Entry(
        ask_id=row.ask_id,
        granted_at=row.granted_at,
        ended_at=ended_at,
        org_id=payers.org_id,
        connector_id=payers.connector_id,
        connector_type=payers.connector_type,
        batch_id=payers.batch_id,
        charge=row.charge,
        buckets=row.keys,
        priority_class=payers.priority_class,
        outcome=outcome,
        members=tuple(Share(m.request_id, m.labels, shares[m.request_id]) for m in payers.members),
    )


def window_of(quota: Quota, at: int) -> tuple[int, int]:
    """First ms of the window that an instant falls into, and of the next one (sliding quotas)."""
    span = max(quota.period_ms, SHORTEST_WINDOW_MS)
    start = at // span * span
    return start, start + span


def counted_until(row: PermitRow, buckets: Iterable[Bucket]) -> int:
    """When the last window of sliding buckets that counts a permit is over: its row must stay until then, for open
    windows are counted anew from rows. (Longer than the buckets need it only if all are shorter than a window.)"""
    return max((window_of(b.quota, row.granted_at)[1] for b in buckets if not b.calendar), default=0)


def told(bucket: Bucket, start: int, window: OpenWindow) -> WindowCount:
    """What a window that is over is written down as."""
    quota = bucket.quota
    own = quota.scope != "application" and len(window.orgs) == 1
    org_id = next(iter(window.orgs)) if own else None
    return WindowCount(quota.connector_type, bucket.key, org_id, quota.limit, start, window.end, window.calls)
