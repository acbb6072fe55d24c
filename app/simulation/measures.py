"""What a run is measured by, taken in as it goes: numbers and small tables, never an object for each event.

Spans are ms. A command is *open* from when it was sent until its one terminal event.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.domain.lifecycle import TERMINAL
from app.domain.messages import Accept, Ask, Offer, RequestView
from app.domain.state import Changes
from app.simulation.setup import Org

SCATTER = 2_000
"""Estimates kept for the plot; all count in the statistics."""
_TERMINAL_EVENTS = {"data_fetched": "completed", "fetch_failed": "failed", "fetch_cancelled": "cancelled"}
_WORST_BASE_MS = 10_000
"""Figure F5 compares an error with the wait, or with 10 s where the wait is shorter."""

Ended = Callable[[int, int, str], None]
"""Told the stream, the organisation and the connector type of a command that ended."""


@dataclass(slots=True)
class Open:
    """A command on its way. ``p50_s`` and ``p90_s``: what was first told of its wait, if it had to wait."""

    sent_at: int
    priority_class: int
    org_id: int
    stream: int
    kind: str
    told: bool = False
    queued: bool = False
    p50_s: float | None = None
    p90_s: float | None = None
    started_at: int | None = None


@dataclass(slots=True)
class Estimates:
    """Estimates against what came, of one priority class."""

    errors: array[float] = field(default_factory=lambda: array("d"))
    """abs(p50 - wait) / max(wait, 10 s), of every command that waited."""
    with_p90: int = 0
    inside_p90: int = 0
    sum_told_s: float = 0.0
    sum_wait_s: float = 0.0

    def add(self, one: Open, wait_ms: int) -> None:
        told_s = one.p50_s or 0.0
        self.errors.append(abs(told_s * 1000 - wait_ms) / max(wait_ms, _WORST_BASE_MS))
        self.sum_told_s += told_s
        self.sum_wait_s += wait_ms / 1000
        if one.p90_s is not None:
            self.with_p90 += 1
            self.inside_p90 += wait_ms <= one.p90_s * 1000


@dataclass(slots=True)
class Shares:
    """Service of one connector type by organisation: calls it got against its fair share of the calls, both while it
    had requests waiting. A call is shared out, by weight, among those who wait when it is made."""

    weights: dict[int, float]
    waiting: Counter[int] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)
    fair: dict[int, float] = field(default_factory=dict)
    _sum: float = 0.0
    _per_weight: float = 0.0
    _since: dict[int, float] = field(default_factory=dict)

    def wait(self, org_id: int, more: int) -> None:
        """One more or one fewer of its requests waits."""
        before = self.waiting[org_id]
        self.waiting[org_id] = after = before + more
        if not before and after:
            self._sum += self.weights[org_id]
            self._since[org_id] = self._per_weight
        elif before and not after:
            self._sum -= self.weights[org_id]
            self._settle(org_id)
            del self._since[org_id]

    def call(self, org_id: int) -> None:
        if self._since:
            self._per_weight += 1 / self._sum
            self.served[org_id] += org_id in self._since

    def settle(self) -> None:
        """Brings ``fair`` up to now."""
        for org_id in list(self._since):
            self._settle(org_id)
            self._since[org_id] = self._per_weight

    def _settle(self, org_id: int) -> None:
        got = (self._per_weight - self._since[org_id]) * self.weights[org_id]
        self.fair[org_id] = self.fair.get(org_id, 0.0) + got


@dataclass(slots=True)
class Traffic:
    """One connector type. ``held_ms``: from permit to return, in sum."""

    shares: Shares
    calls: int = 0
    calls_alone: int = 0
    fetches: int = 0
    days_asked: int = 0
    responses: int = 0
    response_ms: int = 0
    held_ms: int = 0
    needed: dict[str, int] = field(default_factory=dict)
    """Data set -> its days that commands asked for, as bits."""
    times: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    leased: list[int] = field(default_factory=list)
    remote: list[int] = field(default_factory=list)
    counted: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Measures:
    """Everything that is counted in a run."""

    seed: int
    begins_at: int
    orgs: Sequence[Org]
    open: dict[str, Open] = field(default_factory=dict)
    commands: int = 0
    ended: int = 0
    ended_twice: int = 0
    reused: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    started: dict[int, array[int]] = field(default_factory=dict)
    """Priority class -> ms from acceptance to the first start, of every command that had one."""
    started_at: dict[int, array[int]] = field(default_factory=dict)
    """The same in the same order: ms from the run's begin to that start."""
    done: dict[int, array[int]] = field(default_factory=dict)
    started_by_org: dict[int, array[int]] = field(default_factory=dict)
    done_by_org: dict[int, array[int]] = field(default_factory=dict)
    estimates: dict[int, Estimates] = field(default_factory=dict)
    scatter: list[tuple[int, float, float]] = field(default_factory=list)
    """(class, estimated s, real s), a random choice of all."""
    traffic: dict[str, Traffic] = field(default_factory=dict)
    _estimated: int = 0
    _starting: dict[str | None, list[Open]] = field(default_factory=dict)
    """Batch -> its requests that wait for its first call: they are served with it, not before."""
    _after: Ended = lambda _stream, _org, _kind: None
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(f"{self.seed}|scatter")

    def open_type(self, kind: str) -> None:
        """One connector type of the run."""
        self.traffic[kind] = Traffic(Shares({org.org_id: org.weight for org in self.orgs}))

    def on_end(self, after: Ended) -> None:
        """Who is told of ended commands."""
        self._after = after

    def sent(self, accept: Accept, stream: int, calls_alone: int) -> None:
        """A command was sent; ``calls_alone``: what a client without merging and reuse would call for it."""
        self.commands += 1
        facts = accept.connector
        kind = facts.connector_type
        self.open[accept.request_id] = Open(accept.accepted_at, accept.priority_class, facts.org_id, stream, kind)
        traffic = self.traffic[kind]
        traffic.calls_alone += calls_alone
        data_set = f"{facts.connector_id}|{accept.report_type}"
        days = ((1 << (accept.end - accept.start + 1)) - 1) << (accept.start - _FIRST_DAY)
        traffic.needed[data_set] = traffic.needed.get(data_set, 0) | days

    def seen(self, changes: Changes) -> None:
        """What a step told the world."""
        for name, view in changes.views.items():
            if view is not None:
                one = self.open.get(name)
                if one is not None:
                    self._view(one, view)
        for event in changes.events:
            outcome = _TERMINAL_EVENTS.get(event.type)
            if outcome is not None and event.request_id is not None:
                self._ended(event.request_id, outcome, event.occurred_at)

    def _view(self, one: Open, view: RequestView) -> None:
        if not one.told:
            one.told = True
            if view.state == "queued":
                one.queued = True
                one.p50_s = view.estimated_wait_s
                one.p90_s = getattr(view, "estimated_wait_p90_s", None)
                self.traffic[one.kind].shares.wait(one.org_id, 1)
        if view.started_at is not None and one.started_at is None:
            self._start(one, view.started_at)
            if one.queued:
                self._starting.setdefault(view.batch_id, []).append(one)
        if view.state in TERMINAL and view.started_at is None:
            self.reused += view.state == "completed"

    def _start(self, one: Open, at: int) -> None:
        one.started_at = at
        wait_ms = max(0, at - one.sent_at)
        _kept(self.started, one.priority_class).append(wait_ms)
        _kept(self.started_at, one.priority_class).append(max(0, at - self.begins_at))
        _kept(self.started_by_org, one.org_id).append(wait_ms)
        if one.queued:
            self.estimates.setdefault(one.priority_class, Estimates()).add(one, wait_ms)
            self._keep(one, wait_ms)

    def _keep(self, one: Open, wait_ms: int) -> None:
        """Every estimate has the same chance to be in the plot."""
        self._estimated += 1
        entry = (one.priority_class, one.p50_s or 0.0, wait_ms / 1000)
        if len(self.scatter) < SCATTER:
            self.scatter.append(entry)
        elif (at := int(self._draw.random() * self._estimated)) < SCATTER:
            self.scatter[at] = entry

    def _no_longer_waits(self, one: Open) -> None:
        one.queued = False
        self.traffic[one.kind].shares.wait(one.org_id, -1)

    def _ended(self, name: str, outcome: str, at: int) -> None:
        one = self.open.pop(name, None)
        if one is None:
            self.ended_twice += 1
            return
        if one.queued:
            self._no_longer_waits(one)
        self.ended += 1
        self.outcomes[outcome] += 1
        if outcome == "completed":
            took_ms = max(0, at - one.sent_at)
            _kept(self.done, one.priority_class).append(took_ms)
            _kept(self.done_by_org, one.org_id).append(took_ms)
        self._after(one.stream, one.org_id, one.kind)

    # calls

    def called(self, offer: Offer, ask: Ask, *, counted: bool) -> None:
        """A call reached the provider; ``counted``: a quota knows it."""
        traffic = self.traffic[offer.connector.connector_type]
        if ask.data:
            traffic.fetches += 1
            traffic.days_asked += offer.end - offer.start + 1
        if counted:
            traffic.calls += 1
            traffic.shares.call(offer.connector.org_id)
        for one in self._starting.pop(offer.batch_id, ()):
            if one.queued:
                self._no_longer_waits(one)

    def answered(self, kind: str, took_ms: int, held_ms: int) -> None:
        """A counted call's permit came back to the planner: how long the provider took, and how long it was out."""
        traffic = self.traffic[kind]
        traffic.responses += 1
        traffic.response_ms += took_ms
        traffic.held_ms += held_ms

    def sample(self, kind: str, at: int, queued: int, leased: int, remote: int, counted: dict[str, int]) -> None:
        """One point of the plots over time; ``counted``: calls so far, by quota."""
        traffic = self.traffic[kind]
        traffic.times.append(at)
        traffic.queued.append(queued)
        traffic.leased.append(leased)
        traffic.remote.append(remote)
        for name, calls in counted.items():
            traffic.counted.setdefault(name, []).append(calls)


_FIRST_DAY = 700_000
"""Day that bit 0 stands for, in 1917: far before any that can be asked for."""


def _kept(table: dict[int, array[int]], key: int) -> array[int]:
    found = table.get(key)
    if found is None:
        found = table[key] = array("L")
    return found
