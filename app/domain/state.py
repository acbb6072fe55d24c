"""The planner's state for one connector type: durable rows, and the indexes built from them.

Every change goes through ``put`` and ``drop``, which also note it in ``changes``: the shell writes exactly these rows
in one transaction. Leases' heartbeats, waiting asks and all indexes are memory only: rebuilt, or asked for again.
The state is changed in place: if its transaction fails the process ends, so memory never runs ahead of what is durable.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.breaker import Circuit
from app.domain.coverage import DataSet
from app.domain.health import Health
from app.domain.ledger import Books, LedgerRecord, Payers
from app.domain.line import Line, with_turn
from app.domain.messages import Answer, Ask, Event, Milestone, Offer, RequestView, Write
from app.domain.model import ConnectorFacts, Days
from app.domain.nearby import Nearby
from app.domain.pace import Pace, Ratios
from app.domain.rate_limit import LONG_PERIOD_MS, Limits, PermitRow
from app.domain.rows import Batch, Closure, Mark, Others, Request
from app.domain.rules import ConnectorRules, Rules
from app.domain.sheets import Sheets


@dataclass(slots=True)
class Lease:
    """Memory only: who holds a leased batch, and when it was last heard of."""

    seen_at: int
    worker: str | None = None
    since: int = 0


@dataclass(slots=True)
class Changes:
    """What one step changes. ``rows``: key -> new row or None (deleted); ``views`` likewise by request id."""

    rows: dict[str, Any] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    milestones: list[Milestone] = field(default_factory=list)
    views: dict[str, RequestView | None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    ledger: list[LedgerRecord] = field(default_factory=list)
    dead: list[tuple[tuple[str, int, int], str, str]] = field(default_factory=list)
    """Accepted-looking records that must go to the dead-letter topic: (source, code, detail)."""

    def __bool__(self) -> bool:
        told = self.offers or self.answers or self.milestones or self.views or self.events or self.dead
        return bool(self.rows or told or self.ledger)


KINDS: Mapping[str, type] = {
    "r": Request,
    "b": Batch,
    "c": DataSet,
    "p": PermitRow,
    "m": Mark,
    "x": Closure,
    "u": Others,
    "h": Health,
    "e": Ratios,
    "k": Circuit,
    "a": Payers,
    "w": Write,
}
"""Row key prefix -> row class. ``d/<bucket>`` rows (calendar counts) and ``o`` (inbox position) are plain JSON."""


@dataclass(slots=True)
class State:
    """All of one inbox partition. ``now`` is quota time: the newest LogAppendTime seen, never running backwards."""

    rules: Rules
    now: int = 0
    requests: dict[str, Request] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    data_sets: dict[str, DataSet] = field(default_factory=dict)
    permits: dict[str, PermitRow] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    closures: dict[str, Closure] = field(default_factory=dict)
    days: dict[str, dict[int, int]] = field(default_factory=dict)
    others: dict[str, Others] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    """By connector id."""
    circuits: dict[str, Circuit] = field(default_factory=dict)
    """By account."""
    probing: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Account with an open circuit -> the (batch, epoch) that was offered to probe it (memory only)."""
    stale: dict[str, None] = field(default_factory=dict)
    """Batches whose members may be answered from older data (memory only)."""
    books: Books = field(default_factory=Books)
    by_org: dict[int, dict[str, None]] = field(default_factory=dict)
    """Organisation -> its live requests, in order of their arrival."""
    queued: int = 0
    """Live requests in state queued."""
    limits: dict[str, Limits] = field(default_factory=dict)
    queue: Line = field(init=False)
    open_batches: dict[str, dict[str, None]] = field(default_factory=dict)
    """Data set -> its open batches, in order of creation."""
    near: Nearby = field(default_factory=Nearby)
    writes: dict[str, Write] = field(default_factory=dict)
    """By request id: what live writes write."""
    write_chars: int = 0
    """Length of all their rows."""
    sheets: Sheets = field(default_factory=Sheets)
    in_flight: dict[str, dict[str, None]] = field(default_factory=dict)
    """Connector type -> batches that a worker or the provider works on."""
    leases: dict[str, Lease] = field(default_factory=dict)
    asks: dict[str, tuple[Ask, int]] = field(default_factory=dict)
    due: list[tuple[int, str, str]] = field(default_factory=list)
    """Heap of (ms, kind, id): polls, not-before times, deadlines, marks and permit rows to forget."""
    polls: dict[str, None] = field(default_factory=dict)
    """Batches whose poll is due but found no slot, longest waiting first; theirs is the next free one."""
    told: dict[str, str] = field(default_factory=dict)
    """Batch id -> the kind of reason that its members' views were last told."""
    others_wait: dict[str, Any] | None = None
    """Why all those wait that are ready, and that the last look at the queue did not come to."""
    touched: dict[str, None] = field(default_factory=dict)
    moved: dict[str, Days | None] = field(default_factory=dict)
    """Data sets with new results since their waiting batches were last looked at -> the days these have; None: any."""
    mean_ms: float = 0.0
    """Moving mean of a fetch's duration, from its data call's permit to its end."""
    pace: Pace = field(default_factory=Pace)
    ratios: dict[str, Ratios] = field(default_factory=dict)
    """Class and size of an estimate -> how real waits compared."""
    blocked_until: int | None = None
    asks_wait_until: int | None = None
    """When the first of the waiting asks may find room."""
    restored: bool = False
    """Rows were read back and no step was taken yet."""
    doubted: tuple[int, tuple[str, ...]] | None = None
    """Rows of these types were older than what had been done at that instant (``domain.restoring``)."""
    changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        costs = {name: sum(one.minimum_calls.values()) for name, one in self.rules.connectors.items()}
        self.queue = Line(costs, self.rules.fairness)

    def put(self, key: str, row: Any) -> None:
        """Stores a row and notes the change. The key's prefix tells the kind."""
        self.store(key, row)
        self.changes.rows[key] = row

    def drop(self, key: str) -> None:
        """Deletes a row and notes the change."""
        kind, _, name = key.partition("/")
        self._count(kind, self._table(kind).pop(name, None), None)
        self.changes.rows[key] = None

    def put_request(self, row: Request) -> None:
        self.put(f"r/{row.accept.request_id}", row)
        self.touched[row.accept.request_id] = None

    def put_batch(self, row: Batch) -> None:
        """Stores a batch and keeps queue and data set index in step with it."""
        if row.state == "queued":
            row = with_turn(self.queue, row)
        self.put(f"b/{row.batch_id}", row)
        self.index_batch(row)

    def drop_batch(self, batch_id: str) -> None:
        """Forgets a batch, with its lease, place and reservations."""
        row = self.batches.get(batch_id)
        if row is None:
            return
        self.drop(f"b/{batch_id}")
        self.queue.remove(batch_id)
        if row.state != "queued":
            self._end_lease(batch_id)
        self.pace.job_ended(batch_id, self.now)
        self.pace.fetch_ended(batch_id)
        self.polls.pop(batch_id, None)
        self.told.pop(batch_id, None)
        mine = self.open_batches.get(row.data_set, {})
        mine.pop(batch_id, None)
        if not mine:
            self.open_batches.pop(row.data_set, None)
        self.near.drop(batch_id)
        self.sheets.drop(batch_id)
        if row.place is not None:
            self.wake_write(row.connector.account_id)
        self.queue.wake(("data", row.data_set))
        self.in_flight.get(row.connector.connector_type, {}).pop(batch_id, None)
        self.release(row)
        for name in self.books.forget_batch(batch_id):
            self.drop(f"a/{name}")

    def release(self, row: Batch) -> None:
        """Gives back what the batch still had reserved."""
        limits = self.limits_of(row.connector)
        for charge in self.calls_of(row):
            for bucket in limits.of(charge, row.connector):
                if bucket.reserved.pop(row.batch_id, None):
                    self.queue.wake(("bucket", bucket.key))

    def data_set(self, key: str) -> DataSet:
        return self.data_sets.get(key) or DataSet(key)

    def rules_of(self, connector: ConnectorFacts) -> ConnectorRules:
        return self.rules.connectors.get(connector.connector_type) or ConnectorRules()

    def calls_of(self, row: Batch) -> Mapping[str, int]:
        """Charge -> the fewest calls that a batch takes."""
        return self.rules_of(row.connector).calls(write=row.place is not None)

    def wake_write(self, account_id: str) -> None:
        """The first write of a spreadsheet is looked at again."""
        if (first := self.sheets.first(account_id)) is not None:
            self.queue.wake_one(first)

    def limits_of(self, connector: ConnectorFacts) -> Limits:
        return self.limits_of_type(connector.connector_type)

    def limits_of_type(self, connector_type: str) -> Limits:
        """The buckets of one connector type."""
        found = self.limits.get(connector_type)
        if found is None:
            rules = self.rules.connectors.get(connector_type) or ConnectorRules()
            lifetime = self.rules.permit_valid_ms + self.rules.call_timeout_ms
            found = self.limits[connector_type] = Limits(rules.quotas, lifetime, self.rules.clock_guard_ms)
        return found

    def latest_end(self, row: PermitRow) -> int:
        """When a permit's call has ended at the latest (ms). What no quota counts may take as long as a file takes."""
        rules = self.rules
        longest = rules.call_timeout_ms if row.keys else max(rules.call_timeout_ms, rules.stream_timeout_ms)
        return row.granted_at + rules.permit_valid_ms + longest

    def remind(self, at: int, kind: str, name: str) -> None:
        """Comes back to something at a time (``planner`` pops it)."""
        heapq.heappush(self.due, (at, kind, name))

    def running(self, data_set: str, days: Days) -> Iterable[Batch]:
        """Batches of a data set that a worker or the provider works on and that share one of the days."""
        return [self.batches[name] for name in self.near.running(data_set, days)]

    def store(self, key: str, row: Any) -> None:
        """Takes a row in without noting a change, as at a restart."""
        kind, _, name = key.partition("/")
        table = self._table(kind)
        self._count(kind, table.get(name), row)
        table[name] = row

    def _count(self, kind: str, old: Any, new: Any) -> None:
        """Keeps the indexes of requests and writes in step with their rows."""
        if kind == "w":
            self.write_chars += (0 if new is None else len(new.rows)) - (0 if old is None else len(old.rows))
        if kind != "r":
            return
        self.queued += (new is not None and new.state == "queued") - (old is not None and old.state == "queued")
        if old is None and new is not None:
            self.by_org.setdefault(new.accept.connector.org_id, {})[new.accept.request_id] = None
        elif new is None and old is not None:
            mine = self.by_org.get(old.accept.connector.org_id, {})
            mine.pop(old.accept.request_id, None)
            if not mine:
                self.by_org.pop(old.accept.connector.org_id, None)

    def _table(self, kind: str) -> dict[str, Any]:
        tables: dict[str, dict[str, Any]] = {
            "r": self.requests, "b": self.batches, "c": self.data_sets, "p": self.permits, "m": self.marks,
            "x": self.closures, "d": self.days, "h": self.health, "e": self.ratios, "u": self.others,
            "k": self.circuits, "a": self.books.payers, "w": self.writes,
        }  # fmt: skip
        return tables[kind]

    def index_batch(self, row: Batch) -> None:
        """Brings queue, leases and the data set's index in step with a batch's row."""
        self.open_batches.setdefault(row.data_set, {})[row.batch_id] = None
        self.near.put(row, full=len(row.members) >= self.rules.max_members)
        self.sheets.put(row)
        in_flight = self.in_flight.setdefault(row.connector.connector_type, {})
        if row.state == "queued":
            in_flight.pop(row.batch_id, None)
            self.pace.job_ended(row.batch_id, self.now)
            self.queue.put(row)
            self._end_lease(row.batch_id)
            # It may have been under way, with others of its data set waiting for it.
            self.queue.wake(("data", row.data_set))
        else:
            in_flight[row.batch_id] = None
            self.queue.remove(row.batch_id)
            self.told.pop(row.batch_id, None)
        if row.state == "remote":
            self._end_lease(row.batch_id)

    def _end_lease(self, batch_id: str) -> None:
        held = self.leases.pop(batch_id, None)
        if held is not None and held.since:
            self.pace.step_ended(batch_id, self.now - held.since)


def restore(rules: Rules, rows: Mapping[str, Any], now: int) -> State:
    """State from durable rows (key -> row object). All leases count as renewed at ``now`` (R5)."""
    state = State(rules, now=now, restored=True)
    for key, row in rows.items():
        state.store(key, row)
    for row in sorted(state.batches.values(), key=lambda b: (b.accepted_at, b.batch_id)):
        # A row of an older release has no turn yet.
        batch = state.batches[row.batch_id] = with_turn(state.queue, row) if row.state == "queued" else row
        state.index_batch(batch)
        if batch.state == "leased":
            state.leases[batch.batch_id] = Lease(now, batch.worker)
        if batch.not_before:
            state.remind(batch.not_before, "batch", batch.batch_id)
        if batch.state == "queued" and batch.seen_results != state.data_set(batch.data_set).results:
            state.moved[batch.data_set] = None
    state.queue.rewind(row for row in state.batches.values() if row.state != "queued")
    _restore_limits(state)
    for batch in state.batches.values():
        if batch.state != "queued":
            reserve(state, batch)
    _restore_reminders(state)
    return state


def _restore_limits(state: State) -> None:
    for connector_type in state.rules.connectors:
        limits = state.limits_of_type(connector_type)
        for key, closure in state.closures.items():
            limits.close(key, closure.until)
        limits.restore(state.permits.values(), state.days, {key: row.told for key, row in state.others.items()})


def _restore_reminders(state: State) -> None:
    for request in state.requests.values():
        if request.accept.deadline_at is not None:
            state.remind(request.accept.deadline_at, "deadline", request.accept.request_id)
    for name, mark in state.marks.items():
        state.remind(mark.closed_at + state.rules.closed_mark_ms, "mark", name)
    for name, row in state.permits.items():
        state.remind(state.latest_end(row), "permit", name)
        state.sheets.left(row, state.latest_end(row))
    buckets = {key: bucket for limits in state.limits.values() for key, bucket in limits.buckets.items()}
    for at, key in state.books.restore(state.permits.values(), state.batches, buckets, state.now):
        state.remind(at, "window", key)


def reserve(state: State, batch: Batch) -> None:
    """Keeps room in long quotas for the calls this fetch must still be able to make (R3)."""
    limits = state.limits_of(batch.connector)
    for charge, calls in state.calls_of(batch).items():
        for bucket in limits.of(charge, batch.connector):
            if bucket.calendar or bucket.quota.period_ms >= LONG_PERIOD_MS:
                left = max(0, calls - batch.calls)
                if left:
                    bucket.reserved[batch.batch_id] = left


def members_of(state: State, batch: Batch) -> Sequence[Request]:
    """The live requests of a batch."""
    return [state.requests[m] for m in batch.members if m in state.requests]
