"""Values that travel between planner and workers on internal topics, and the public event. JSON on the wire
(``app.streams.internal``); nobody else's business, except ``Event``, which ``app.streams.codecs`` writes as spec
section 13 says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import Failure
from app.domain.model import ConnectorFacts


@dataclass(frozen=True, slots=True)
class Write:
    """What is to be written: ``count`` rows at ``target`` (``Sheet!A1``); ``mode`` is ``append`` or ``update``.

    ``rows`` is a JSON list of lists of cells, empty where only the facts are carried (``domain.writes``).
    """

    request_id: str
    target: str
    mode: str
    count: int
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Accept:
    """Intake -> planner: a command that passed validation. ``accepted_at`` is the command record's LogAppendTime;
    ``source`` (topic, partition, offset) names the record, in case it must go to the dead-letter topic after all.
    ``write``: it asks for a write, and has neither report type nor days (0)."""

    request_id: str
    connector: ConnectorFacts
    report_type: str
    start: int
    end: int
    fields: tuple[str, ...]
    priority_class: int
    accepted_at: int
    body_hash: str
    deadline_at: int | None = None
    max_age_s: int | None = None
    force: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    source: tuple[str, int, int] | None = None
    write: Write | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Intake -> planner: a command that must be answered by one refused event, if its request_id is unknown here."""

    request_id: str
    kind: str
    event: Event


@dataclass(frozen=True, slots=True)
class Cancel:
    """Intake -> planner: a request is withdrawn. ``source`` as in ``Accept``."""

    request_id: str
    org_id: int
    connector_id: str
    source: tuple[str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Worker -> planner: may step ``step_no`` of (batch, epoch) make one call with this charge? ``data`` marks the call
    whose answer is the data: the data set's version is drawn with its permit (R7). A call that belongs to no fetch, as
    a list of accounts, has no batch, and ``connector`` says whose grant and account it is made with."""

    ask_id: str
    worker: str
    batch_id: str | None
    epoch: int
    step_no: int
    charge: str
    data: bool = False
    connector: ConnectorFacts | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Planner -> worker, on ``connector.permits``. ``denied`` is None (granted), ``stale``, ``quota`` or ``circuit``:
    then ``retry_in_ms`` from now, which is at ``retry_at`` of the broker's clock, it is worth asking again."""

    ask_id: str
    worker: str
    denied: str | None = None
    retry_at: int | None = None
    retry_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a quota is spent, as the headers of an answer say: calls ``used``, calls ``remaining``, or the
    ``percent`` that is used. ``scope`` names another account or user than the call's own."""

    quota: str
    used: int | None = None
    remaining: int | None = None
    percent: float | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A usage and the permit whose call was told it."""

    ask_id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Returned:
    """Worker -> planner: these permits' calls have ended (answered, failed or never sent). ``ends``: of each that says
    something of the provider, (ask id, ms until its answer began, 0 for a system failure, 1 for an answer, 2 for one
    that counts neither way, as a refusal). ``left``: those whose requests were sent; None from a worker of a version
    that did not tell: those in ``ends``. ``errors``: (ask id, code) of the failures."""

    ask_ids: tuple[str, ...]
    ends: tuple[tuple[str, int, int], ...] = ()
    left: tuple[str, ...] | None = None
    usage: tuple[Told, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Worker -> planner every 3 s while it holds steps of this type: the (batch, epoch) it works on."""

    worker: str
    held: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Members:
    """Planner's shell -> itself after a rebalance: the workers that are in the group now."""

    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Moves quota time on; the record's LogAppendTime is all it carries."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """How far a worker's intake has appended to an inbox partition. The planner sends it back when all that came before
    it is durable, so that intake never runs far ahead: an ask behind a long backlog would be answered too late."""

    worker: str
    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A finished result object. ``uri`` full location; ``checksum`` ``sha256:<hex>``; ``days`` every day of the range
    in order as (day ordinal, rows, 16-hex digest of the day's rows); totals as decimal text."""

    uri: str
    start: int
    end: int
    rows: int
    size_bytes: int
    checksum: str
    days: tuple[tuple[int, int, str], ...]
    totals: dict[str, str]
    columns_absent: tuple[str, ...] = ()
    currency: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """Worker -> planner: how a step ended. Exactly one of: ``remote`` alone (the provider is working on it), ``file``
    (done), ``rows_written`` (a write is done), ``failure``, ``released`` (no quota now: handed back unharmed, due again
    at ``not_before_s`` from now)."""

    batch_id: str
    epoch: int
    step_no: int
    worker: str
    calls: int
    remote: dict[str, str] | None = None
    percent: int | None = None
    poll_after_s: float | None = None
    file: StoredFile | None = None
    failure: Failure | None = None
    released: bool = False
    not_before_s: float | None = None
    first_call_at: int | None = None
    ended_at: int | None = None
    rows_written: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """Planner -> any worker, on ``connector.fetches``: one step of a fetch, leased as (batch, epoch, step_no).

    ``step`` is ``start`` or ``poll``, or ``write`` where there is something to ``write``; ``remote`` the provider's ids
    from earlier steps; ``run`` numbers the provider runs of this batch, so that the result object of one run has one
    name: ``<batch>-<run>``.
    """

    batch_id: str
    epoch: int
    step_no: int
    step: str
    run: int
    connector: ConnectorFacts
    report_type: str
    start: int
    end: int
    fields: tuple[str, ...]
    priority_class: int
    remote: dict[str, str] | None = None
    traceparent: str | None = None
    write: Write | None = None


@dataclass(frozen=True, slots=True)
class RequestView:
    """A row of ``connector.requests``: what GET answers and PostgreSQL records. Instants in ms; ``progress`` 0-100.

    ``write``: of a write its ``target``, ``mode``, number of ``rows``, and whether its call may have left (``sent``).
    """

    request_id: str
    org_id: int
    connector_id: str
    connector_type: str
    report_type: str
    start: int
    end: int
    fields: tuple[str, ...]
    priority_class: int
    state: str
    accepted_at: int
    revision: int
    body_hash: str
    labels: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Any] | None = None
    progress: int = 0
    batch_id: str | None = None
    batched_with: tuple[str, ...] = ()
    queue_position: int | None = None
    estimated_wait_s: float | None = None
    estimated_wait_p90_s: float | None = None
    rate_limit: dict[str, Any] | None = None
    attempts: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    execution_time_ms: int | None = None
    cost: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    deadline_at: int | None = None
    force: bool = False
    max_age_s: int | None = None
    write: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A public fact (spec section 13): ``type`` picks the record, ``data`` holds exactly its fields as plain values
    (dates as text, instants as ms integers where the schema has a timestamp)."""

    event_id: str
    type: str
    occurred_at: int
    data: dict[str, Any]
    org_id: int | None = None
    connector_id: str | None = None
    connector_type: str | None = None
    request_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None
