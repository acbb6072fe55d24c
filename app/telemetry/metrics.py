"""Every metric of the service, named once, with its meaning.

Prefix ``connector_``, base units in the name (``_seconds``, ``_bytes``), counters end in ``_total``. Labels are
closed lists only (connector type, report type, outcome, priority, reason slugs): never an organisation, a request or
a connector, whose number nobody bounds. ``Metrics`` has its own registry, so that tests and several workers in one
process do not collide. docs/reference/metrics.md tells what each is good for.

Gauges of what a worker holds (a queue, an inbox) are set when somebody scrapes, from the state itself: they cost
nothing between scrapes and never show what has moved to another worker.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

PREFIX = "connector_"
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
WAIT_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0)
FETCH_BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
RECOVERY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HTTP_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: attribute of ``Metrics`` and, prefixed, the exported name; meaning; labels; histogram buckets."""

    name: str
    kind: type[Counter | Gauge | Histogram]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()


TYPE = ("connector_type",)
DEFINITIONS: tuple[Definition, ...] = (
    Definition("commands_total", Counter, "Commands read from connector.commands, by kind.", ("kind",)),
    Definition("commands_refused_total", Counter, "Commands refused before any quota was spent, by reason.", ("code",)),
    Definition("dlq_total", Counter, "Records written to connector.dlq, by reason.", ("code",)),
    Definition(
        "fetch_requests_total",
        Counter,
        "Requests that reached a terminal state, by the priority they asked for.",
        ("connector_type", "report_type", "outcome", "priority"),
    ),
    Definition(
        "fetch_duration_seconds",
        Histogram,
        "From a fetch's first provider call to its file being durable.",
        ("connector_type", "report_type"),
        FETCH_BUCKETS,
    ),
    Definition("queue_depth", Gauge, "Requests that are queued now.", ("connector_type", "priority")),
    Definition(
        "queue_wait_seconds",
        Histogram,
        "From a request's acceptance to its first dispatch.",
        ("connector_type", "priority"),
        WAIT_BUCKETS,
    ),
    Definition("live_requests", Gauge, "Requests that are queued or running now.", TYPE),
    Definition("runnable_fetches", Gauge, "Steps offered to this worker that wait for one of its slots.", TYPE),
    Definition(
        "merged_requests_total", Counter, "Requests completed by a fetch that served other requests as well.", TYPE
    ),
    Definition(
        "reused_days_total", Counter, "Days of completed requests that were read before the request's dispatch.", TYPE
    ),
    Definition(
        "provider_requests_total",
        Counter,
        "HTTP calls that left for a provider, by its status or by what came instead of one.",
        ("connector_type", "status"),
    ),
    Definition(
        "ledger_calls_total",
        Counter,
        "Calls that the planner has attributed, by how their permits ended.",
        ("connector_type", "outcome"),
    ),
    Definition("permits_total", Counter, "Answers to permit asks.", ("connector_type", "answer")),
    Definition(
        "rate_limit_remaining_ratio",
        Gauge,
        "Unspent share of a quota's fullest bucket; 0 while a throttle keeps one closed.",
        ("connector_type", "quota"),
    ),
    Definition(
        "rate_limit_hits_total",
        Counter,
        "Times that demand met a full bucket (local) or a throttle closed one (provider).",
        ("connector_type", "source"),
    ),
    Definition(
        "circuit_state",
        Gauge,
        "Accounts whose circuit is not closed, by its state.",
        ("connector_type", "state"),
    ),
    Definition(
        "token_refresh_total", Counter, "Refreshes of access tokens, by how they ended.", ("provider", "outcome")
    ),
    Definition("events_published_total", Counter, "Events committed to connector.events.", ("type",)),
    Definition("result_bytes_total", Counter, "Bytes of result files that entered a data set.", TYPE),
    Definition("fetch_steps_running", Gauge, "Steps that this worker runs now.", TYPE),
    Definition("planner_step_seconds", Histogram, "Deciding one planner step.", TYPE, STEP_BUCKETS),
    Definition(
        "planner_step_records",
        Histogram,
        "Inbox records decided in one step.",
        TYPE,
        (1, 2, 5, 10, 25, 50, 100, 250, 500),
    ),
    Definition("planner_transaction_seconds", Histogram, "Committing one planner step.", TYPE, STEP_BUCKETS),
    Definition(
        "table_recovery_seconds", Histogram, "From assignment of a partition to ready.", ("table",), RECOVERY_BUCKETS
    ),
    Definition("old_rows_total", Counter, "Planners taken over with rows older than what had been done."),
    Definition(
        "consumer_lag", Gauge, "Records of this worker's partitions that wait to be handled.", ("topic", "partition")
    ),
    Definition(
        "projection_lag",
        Gauge,
        "Records of this worker's partitions of the views and the ledger that PostgreSQL has not yet.",
    ),
    Definition(
        "unreadable_records_total", Counter, "Internal records that could not be read and were passed over.", ("topic",)
    ),
    Definition("http_requests_total", Counter, "Answers of REST, by route pattern.", ("route", "status")),
    Definition("http_request_seconds", Histogram, "Time to answer a REST request.", ("route",), HTTP_BUCKETS),
    Definition("build_info", Gauge, "Always 1; the labels say what runs.", ("version", "python")),
)


@dataclass(frozen=True)
class Metrics:
    """The metrics as attributes, in their own registry. Build one per process and hand it on."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _refreshers: list[Callable[[], None]] = field(default_factory=list)
    commands_total: Counter = field(init=False)
    commands_refused_total: Counter = field(init=False)
    dlq_total: Counter = field(init=False)
    fetch_requests_total: Counter = field(init=False)
    fetch_duration_seconds: Histogram = field(init=False)
    queue_depth: Gauge = field(init=False)
    queue_wait_seconds: Histogram = field(init=False)
    live_requests: Gauge = field(init=False)
    runnable_fetches: Gauge = field(init=False)
    merged_requests_total: Counter = field(init=False)
    reused_days_total: Counter = field(init=False)
    provider_requests_total: Counter = field(init=False)
    ledger_calls_total: Counter = field(init=False)
    permits_total: Counter = field(init=False)
    rate_limit_remaining_ratio: Gauge = field(init=False)
    rate_limit_hits_total: Counter = field(init=False)
    circuit_state: Gauge = field(init=False)
    token_refresh_total: Counter = field(init=False)
    events_published_total: Counter = field(init=False)
    result_bytes_total: Counter = field(init=False)
    fetch_steps_running: Gauge = field(init=False)
    planner_step_seconds: Histogram = field(init=False)
    planner_step_records: Histogram = field(init=False)
    planner_transaction_seconds: Histogram = field(init=False)
    table_recovery_seconds: Histogram = field(init=False)
    old_rows_total: Counter = field(init=False)
    consumer_lag: Gauge = field(init=False)
    projection_lag: Gauge = field(init=False)
    unreadable_records_total: Counter = field(init=False)
    http_requests_total: Counter = field(init=False)
    http_request_seconds: Histogram = field(init=False)
    build_info: Gauge = field(init=False)

    def __post_init__(self) -> None:
        for definition in DEFINITIONS:
            object.__setattr__(self, definition.name, _made(definition, self.registry))

    def describe_build(self, version: str) -> None:
        """Sets ``build_info`` to what runs."""
        self.build_info.labels(version=version, python=platform.python_version()).set(1)

    def before_exposition(self, refresh: Callable[[], None]) -> None:
        """Calls ``refresh`` in the event loop before each exposition: it sets gauges from what they tell of."""
        self._refreshers.append(refresh)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics as text for a scraper's ``Accept`` header, and the content type."""
        for refresh in self._refreshers:
            refresh()
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _made(definition: Definition, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name, meaning, labels = PREFIX + definition.name, definition.meaning, definition.labels
    if definition.kind is Histogram:
        return Histogram(name, meaning, labels, registry=registry, buckets=tuple(definition.buckets))
    return definition.kind(name, meaning, labels, registry=registry)
