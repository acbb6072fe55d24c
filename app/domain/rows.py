"""The planner's durable rows of its own; each is replaced, never changed."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain import tables
from app.domain.coverage import Run
from app.domain.messages import Accept
from app.domain.model import ConnectorFacts, Days


@dataclass(frozen=True, slots=True)
class Request:
    """A live request. ``parts`` are the batches it still waits for; ``cost_micros`` its share of the calls so far;
    ``rounds`` how often it was planned again because its fetches lacked something."""

    accept: Accept
    state: str = "queued"
    revision: int = 0
    parts: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    batched_with: tuple[str, ...] = ()
    attempts: int = 0
    calls: int = 0
    cost_micros: int = 0
    started_at: int | None = None
    execution_ms: int | None = None
    rounds: int = 0
    expected_ms: int | None = None
    """The raw estimate of its wait when it was shown first."""
    expected_class: int | None = None
    """The class of its batch then: what was told is what was learned of that class."""
    kept: tuple[Run, ...] = ()
    """What its ended parts brought, without digests, where a later file of another request may replace it: others'
    columns that do not add up, and for who wants fresh figures all that was held before."""
    vain: int = 0
    """Of ``calls`` those whose fetch begins anew: paid for, and no progress."""
    sent: bool = False
    """A permit to write was given: its rows may be in the sheet. Here, for its last view is made without its batch."""

    @property
    def days(self) -> Days:
        return Days(self.accept.start, self.accept.end)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests merged into one fetch.

    ``state``: ``queued`` (waits for its turn), ``leased`` (a step is with a worker), ``remote`` (the provider works on
    it). ``step_no`` counts steps that ended, so an outcome belongs to exactly one step; ``epoch`` counts leases, so
    that a lost worker's asks are told apart. ``run`` counts provider runs: the result object is ``<batch>-<run>``.
    """

    batch_id: str
    connector: ConnectorFacts
    report_type: str
    window: int
    start: int
    end: int
    extras: tuple[str, ...]
    priority_class: int
    accepted_at: int
    members: tuple[str, ...]
    state: str = "queued"
    alone: bool = False
    epoch: int = 0
    step_no: int = 0
    step: int = 0
    run: int = 1
    polls: int = 0
    remote: dict[str, str] | None = None
    percent: int | None = None
    attempts: int = 0
    losses: int = 0
    unheard: int = 0
    """Leases that ran out before any worker was heard of."""
    worker: str | None = None
    """Who was first granted a permit for the step under way, so that an heir knows whose lease it is."""
    not_before: int = 0
    version: int | None = None
    read_at: int | None = None
    seen_results: int = 0
    calls: int = 0
    first_call_at: int | None = None
    traceparent: str | None = None
    refresh: bool = False
    """Somebody was answered from older data meanwhile: it is fetched also with no member left."""
    spared: int = 0
    """Failures that were no attempts, because the circuit was open."""
    paid: int = 0
    """Of ``calls`` those that a member has paid for who was its last and left."""
    turn: tuple[int, int] | None = None
    """(class, virtual finish time) by which it waits."""
    place: tuple[int, int, int] | None = None
    """Of a write: (accepted, partition, offset) of its command, the order of its spreadsheet's. None: a fetch."""

    @property
    def days(self) -> Days:
        return Days(self.start, self.end)

    @property
    def wanted(self) -> bool:
        """Somebody waits for it, or was answered from older data meanwhile."""
        return bool(self.members) or self.refresh

    @property
    def data_set(self) -> str:
        facts = self.connector
        return tables.data_set_key(facts.connector_id, facts.connector_type, self.report_type, self.extras)


@dataclass(frozen=True, slots=True)
class Mark:
    """What is left of a closed request for an hour: enough to know a repeated command."""

    closed_at: int
    body_hash: str


@dataclass(frozen=True, slots=True)
class Others:
    """What a provider has told of others' calls in a bucket: ``Bucket.told``."""

    told: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Closure:
    """A bucket that a provider's throttle closed. ``doublings``: of the first closure's time, where throttles named no
    time; -1 where the last one did."""

    until: int
    doublings: int = 0
