"""Feeds the planner's metrics: counters from what a step has made durable, gauges from the owned states at a scrape.

The domain knows nothing of this. All that is counted is read off a step's ``Changes`` after its transaction, so nothing
is counted that others cannot see.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.breaker import Phase, phase
from app.domain.ledger import Entry
from app.domain.lifecycle import TERMINAL
from app.domain.messages import Event, RequestView, StepOutcome
from app.domain.model import INBOX_PARTITION, PRIORITY_CLASS, Days, Priority
from app.domain.rate_limit import Bucket, Limits
from app.domain.state import Changes, State
from app.domain.tables import data_set_key
from app.streams.ownership import Owner
from app.telemetry.metrics import Metrics

PRIORITY_NAME: Mapping[int, str] = {number: name for name, number in PRIORITY_CLASS.items()}
"""Priority class -> its name, the label."""
_TYPE_OF = {partition: str(kind) for kind, partition in INBOX_PARTITION.items()}
_EVERY_S = 1.0
"""The queue is counted at most this often, however often somebody scrapes: the count walks all live requests."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What must be known of a state before its step. ``took_s``: uri of a reported file -> seconds since the first
    call of its fetch."""

    now: int
    started: float
    took_s: Mapping[str, float]


class PlannerMetrics:
    """``owners``: the inbox partitions that this worker owns, as they are now."""

    def __init__(
        self, metrics: Metrics, owners: Mapping[int, Owner], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics, self._owners, self._monotonic = metrics, owners, monotonic
        self._counted_at = float("-inf")
        self._started: dict[int, set[str]] = {}
        """Inbox partition -> requests dispatched at its newest instant, each of which is counted once."""
        metrics.before_exposition(self.refresh)

    # after each step

    def begin(self, state: State, messages: Sequence[tuple[Any, int]]) -> Begun:
        """Notes what the step is about to forget."""
        took: dict[str, float] = {}
        for message, _ in messages:
            if isinstance(message, StepOutcome) and message.file is not None and message.ended_at is not None:
                batch = state.batches.get(message.batch_id)
                first = None if batch is None else batch.first_call_at
                first = message.first_call_at if first is None else first
                if first is not None:
                    took.setdefault(message.file.uri, (message.ended_at - first) / 1000)
        return Begun(state.now, self._monotonic(), took)

    def committed(self, partition: int, seconds: float) -> None:
        """A step's transaction took this long."""
        self._metrics.planner_transaction_seconds.labels(type_of(partition)).observe(seconds)

    def stepped(self, partition: int, state: State, begun: Begun, records: int, changes: Changes) -> None:
        """Counts a step of ``records`` inbox records whose changes are durable."""
        metrics, kind = self._metrics, type_of(partition)
        metrics.planner_step_seconds.labels(kind).observe(self._monotonic() - begun.started)
        metrics.planner_step_records.labels(kind).observe(records)
        for answer in changes.answers:
            metrics.permits_total.labels(kind, answer.denied or "granted").inc()
        for one in changes.ledger:
            if isinstance(one, Entry):
                metrics.ledger_calls_total.labels(one.connector_type, one.outcome).inc()
        for event in changes.events:
            metrics.events_published_total.labels(event.type).inc()
            self._event(event, begun)
        views = [view for view in changes.views.values() if view is not None]
        self._dispatched(partition, state, begun, views)
        for view in views:
            if view.state in TERMINAL:
                self._ended(state, view)

    def unreadable(self) -> None:
        """An inbox record was passed over."""
        self._metrics.unreadable_records_total.labels("planner").inc()

    def dead(self, code: str) -> None:
        """A record goes to the dead-letter topic."""
        self._metrics.dlq_total.labels(code).inc()

    def _event(self, event: Event, begun: Begun) -> None:
        kind = event.connector_type or "none"
        if event.type == "rate_limit_hit":
            self._metrics.rate_limit_hits_total.labels(kind, event.data["source"]).inc()
        elif event.type == "dataset_updated":
            for file in event.data["files"]:
                self._metrics.result_bytes_total.labels(kind).inc(file["size_bytes"])
                took_s = begun.took_s.get(file["uri"])
                if took_s is not None:
                    names = (kind, event.data["report_type"])
                    self._metrics.fetch_duration_seconds.labels(*names).observe(max(0.0, took_s))

    def _dispatched(self, partition: int, state: State, begun: Begun, views: Sequence[RequestView]) -> None:
        """Steps may share an instant, and a view comes back: what was counted at the newest instant is remembered."""
        known = self._started.get(partition, set())
        fresh = {v.request_id: v for v in views if v.started_at is not None and v.started_at >= begun.now}
        for name, view in fresh.items():
            if name not in known and view.started_at is not None:
                names = (view.connector_type, PRIORITY_NAME[view.priority_class])
                waited_s = max(0, view.started_at - view.accepted_at) / 1000
                self._metrics.queue_wait_seconds.labels(*names).observe(waited_s)
        self._started[partition] = set(fresh) | (known if state.now == begun.now else set())

    def _ended(self, state: State, view: RequestView) -> None:
        kind = view.connector_type
        names = (kind, view.report_type or "write", view.state, PRIORITY_NAME[view.priority_class])
        self._metrics.fetch_requests_total.labels(*names).inc()
        if view.state == "completed" and view.write is None:
            if view.batched_with:
                self._metrics.merged_requests_total.labels(kind).inc()
            self._metrics.reused_days_total.labels(kind).inc(_reused_days(state, view))

    # at a scrape

    def refresh(self) -> None:
        """Sets the gauges of the owned queues and quotas anew; what this worker no longer owns disappears."""
        now = self._monotonic()
        if now - self._counted_at < _EVERY_S:
            return
        self._counted_at = now
        metrics = self._metrics
        gauges = (metrics.live_requests, metrics.queue_depth, metrics.rate_limit_remaining_ratio, metrics.circuit_state)
        for gauge in gauges:
            gauge.clear()
        for partition, owner in self._owners.items():
            if owner.ready and partition in _TYPE_OF:
                self._show(_TYPE_OF[partition], owner, now)

    def _show(self, kind: str, owner: Owner, now: float) -> None:
        state = owner.state
        self._metrics.live_requests.labels(kind).set(len(state.requests))
        queued = Counter(r.accept.priority_class for r in state.requests.values() if r.state == "queued")
        for priority in Priority:
            depth = queued[PRIORITY_CLASS[priority]]
            self._metrics.queue_depth.labels(kind, str(priority)).set(depth)
        # Quota time stands still between steps; a gauge that stood with it would show a full bucket for ever.
        at = state.now + round((now - owner.stepped_at) * 1000)
        phases = Counter(phase(circuit, at) for circuit in state.circuits.values())
        for each in (Phase.OPEN, Phase.HALF_OPEN):
            self._metrics.circuit_state.labels(kind, str(each)).set(phases[each])
        if kind in state.limits:
            for quota, share in _unspent(state.limits[kind], at):
                self._metrics.rate_limit_remaining_ratio.labels(kind, quota).set(share)


def type_of(partition: int) -> str:
    """The connector type of an inbox partition; ``none`` for that of commands whose connector is unknown."""
    return _TYPE_OF.get(partition, "none")


def _reused_days(state: State, view: RequestView) -> int:
    """Days whose figures were read before the request was dispatched; all of them where it never was."""
    days = Days(view.start, view.end)
    if view.started_at is None:
        return len(days)
    data = state.data_set(data_set_key(view.connector_id, view.connector_type, view.report_type, view.fields))
    parts = (run.days.clip(days) for run in data.runs if run.read_at < view.started_at)
    return sum(len(part) for part in parts if part is not None)


def _unspent(limits: Limits, now: int) -> Iterator[tuple[str, float]]:
    """(quota, unspent share of its fullest bucket). Looks only: an estimated ``now`` must not expire a permit."""
    least = {quota.name: 1.0 for quota in limits.quotas}
    for bucket in limits.buckets.values():
        name = bucket.quota.name
        least[name] = min(least.get(name, 1.0), _share(bucket, now))
    yield from least.items()


def _share(bucket: Bucket, now: int) -> float:
    if bucket.closed_until > now:
        return 0.0
    ours = bucket.used(now) if bucket.calendar else sum(free > now for free in bucket.taken.values())
    return max(0, bucket.quota.limit - ours - bucket.others(now)) / max(1, bucket.quota.limit)
