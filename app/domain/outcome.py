"""What a step's outcome means. The first in the inbox wins; an outcome belongs to exactly one step (``step_no``)."""

from __future__ import annotations

from dataclasses import replace

from app.domain import (
    batching,
    bygone,
    circuits,
    closing,
    coverage,
    dispatch,
    events,
    jobs,
    lifecycle,
    refit,
    relook,
    retry,
    tables,
    writes,
)
from app.domain.coverage import day_state
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import StepOutcome, StoredFile
from app.domain.model import Days, DayState, ReportType
from app.domain.rate_limit import Bucket
from app.domain.rows import Batch, Closure, Request
from app.domain.state import State, members_of
from app.domain.zones import day_of

MAX_LOSSES = 5
"""A batch whose holder was lost this often is failed: it may be what kills them."""
MAX_UNHEARD = 60
"""The same for offers that nobody was heard to take, in a quarter of an hour: no worker is there, or each dies at
once."""
_PAST_RETENTION_DAYS = 31
_FIRST_CLOSURE_MS = 60_000
_LONGEST_CLOSURE_MS = 3_600_000
_LEAST_TOLD_MS, _MOST_TOLD_MS = 1_000, 26 * 3_600_000
"""Bounds of a provider's own time: *at once* would be tried for ever, and no quota is longer than a day (of 25 hours,
and the guard)."""


def apply(state: State, outcome: StepOutcome) -> None:
    """Moves the batch on. Outcomes of steps that already ended, and failures of an epoch that lost its lease, change
    nothing: somebody else is at it (ADR 0004)."""
    batch = state.batches.get(outcome.batch_id)
    if batch is None or batch.step_no != outcome.step_no or batch.state == "remote":
        return
    held = state.leases.get(batch.batch_id)
    mine = held is not None and held.worker in (None, outcome.worker)
    current = mine and batch.epoch == outcome.epoch and batch.state == "leased"
    if outcome.first_call_at is not None and batch.first_call_at is None:
        batch = replace(batch, first_call_at=outcome.first_call_at)
    if outcome.file is not None:
        done(state, batch, outcome, outcome.file)
    elif outcome.rows_written is not None:
        written(state, batch, outcome, outcome.rows_written)
    elif outcome.remote is not None:
        running(state, batch, outcome)
    elif current and outcome.failure is not None:
        failed(state, batch, outcome.failure)
    elif current and outcome.released:
        released(state, batch, outcome)


def running(state: State, batch: Batch, outcome: StepOutcome) -> None:
    """The provider works on it: its ids are durable with this step, and nobody holds the batch until the next poll."""
    rules = state.rules_of(batch.connector)
    schedule = rules.poll_schedule_s
    delay = outcome.poll_after_s if outcome.poll_after_s is not None else schedule[min(batch.polls, len(schedule) - 1)]
    row = replace(
        batch,
        state="remote",
        step_no=batch.step_no + 1,
        step=min(batch.step + 1, len(rules.steps) - 1),
        polls=batch.polls + 1,
        losses=0,
        unheard=0,
        remote=dict(outcome.remote or {}),
        percent=outcome.percent,
        not_before=state.now + jobs.poll_delay_ms(state, batch, int(delay * 1000)),
    )
    state.put_batch(row)
    state.remind(row.not_before, "batch", row.batch_id)
    state.touched.update(dict.fromkeys(m for m in row.members if m in state.requests))


def released(state: State, batch: Batch, outcome: StepOutcome) -> None:
    """Handed back unharmed, for want of quota. Where the bucket or the circuit keeps it back all the same, that says
    so; a time of its own would hide the reason."""
    at = state.now + int((outcome.not_before_s or 1.0) * 1000)
    kept = circuits.denies(state, batch.connector)[0]
    if kept or (batch.remote is None and dispatch.room(state, batch) is not None):
        at = state.now
    back(state, replace(batch, not_before=at))


def back(state: State, batch: Batch) -> None:
    """A leased batch returns to its place: to the provider's side if it has a report there, else to the queue, its
    calls so far charged and the whole minimum needed anew. One whose members have all left is dropped."""
    if not batch.wanted:
        state.drop_batch(batch.batch_id)
        return
    remote = batch.remote is not None
    row = replace(batch, state="remote" if remote else "queued", step_no=batch.step_no + 1)
    if not remote:
        closing.charge_members(state, row, attempts=0)
        row = replace(row, calls=0, paid=0, priority_class=row.priority_class if row.members else refit.REFRESH_CLASS)
    state.put_batch(row)
    if not remote:
        state.release(row)
        for request in members_of(state, row):
            if request.state == "running" and closing.rests(state, request, row.batch_id):
                to = lifecycle.move(request.state, "retry")
                state.put_request(replace(request, state=str(to), revision=request.revision + 1))
        if circuits.is_open(state, row.connector):
            state.stale[row.batch_id] = None
    state.remind(row.not_before, "batch", row.batch_id)


def failed(state: State, batch: Batch, failure: Failure) -> None:
    """Again later, split, or the end: the error class decides."""
    if failure.throttle is not None:
        throttled(state, batch, failure.throttle)
        return
    if failure.remote_lost:
        batch = replace(batch, remote=None, step=0, run=batch.run + 1, polls=0, version=None, read_at=None)
    if failure.error_class is ErrorClass.INVALID_REQUEST and not batch.alone and _merged(state, batch):
        _try_alone(state, batch)
        return
    spared = circuits.spares(state, batch, failure)
    counts = int(spared is None)
    attempts = batch.attempts + counts
    verdict = retry.decide(failure, attempts=attempts, now=state.now, key=batch.batch_id, policy=state.rules.retry)
    if isinstance(verdict, retry.Retry):
        for request in members_of(state, batch):
            state.put_request(replace(request, attempts=request.attempts + counts))
        at = max(verdict.not_before, spared or 0)
        row = replace(batch, attempts=attempts, spared=batch.spared + 1 - counts, priority_class=4, not_before=at)
        back(state, row)
        return
    end(state, batch, failure)


def end(state: State, batch: Batch, failure: Failure) -> None:
    """Every member fails with the one failure."""
    closing.charge_members(state, batch, attempts=1)
    members = members_of(state, batch)
    state.drop_batch(batch.batch_id)
    for request in members:
        closing.fail(state, _without(state.requests[request.accept.request_id], batch), failure)


def _merged(state: State, batch: Batch) -> bool:
    """Several members, or one that is left of several: the batch asks for more than it does."""
    return len(batch.members) > 1 or any(
        batch.extras != batching.extras_of(state, r.accept) or not r.days.covers(batch.days)
        for r in members_of(state, batch)
    )


def _try_alone(state: State, batch: Batch) -> None:
    closing.charge_members(state, batch, attempts=0)
    parts = refit.split(state, batch)
    for request in members_of(state, batch):
        rests = closing.rests(state, request, batch.batch_id)
        to = lifecycle.move(request.state, "retry") if request.state == "running" and rests else request.state
        state.put_request(replace(request, state=str(to)))
    refit.apply(state, batch, parts)


def _without(request: Request, batch: Batch) -> Request:
    return replace(request, parts=tuple(p for p in request.parts if p != batch.batch_id))


def throttled(state: State, batch: Batch, throttle: Throttle) -> None:
    """Closes the bucket for everybody until the provider's own time; neither an attempt nor the breaker's business."""
    bucket = _named(state, batch, throttle)
    if bucket is not None:
        # The closed bucket keeps it back, and says so; a time of its own would hide the reason.
        _close(state, batch, bucket, throttle)
        back(state, replace(batch, not_before=state.now))
        return
    until = state.now + (_FIRST_CLOSURE_MS if throttle.until_s is None else _told_ms(throttle.until_s))
    back(state, replace(batch, not_before=until))


def _told_ms(until_s: float) -> int:
    return int(min(max(until_s * 1000, _LEAST_TOLD_MS), _MOST_TOLD_MS))


def _named(state: State, batch: Batch, throttle: Throttle) -> Bucket | None:
    """The bucket a throttle means: the one it names, else the broadest of 60 s or less that the call has spent, else
    the broadest that slides."""
    limits = state.limits_of(batch.connector)
    named = next((q for q in limits.quotas if q.name == throttle.quota), None)
    if named is not None:
        return limits.bucket(named, batch.connector)
    mine = [row for row in state.permits.values() if row.batch_id == batch.batch_id]
    last = max(mine, key=lambda row: row.granted_at, default=None)
    charges = state.calls_of(batch) if last is None else (last.charge,)
    spent = [b for charge in charges for b in limits.of(charge, batch.connector)]
    width = {"application": 2, "account": 1, "user": 0}
    sliding = [b for b in spent if not b.calendar]
    short = [b for b in sliding if b.quota.period_ms <= 60_000]
    return max(short or sliding, key=lambda b: (width[b.quota.scope], b.quota.period_ms), default=None)


def _close(state: State, batch: Batch, bucket: Bucket, throttle: Throttle) -> int:
    old = state.closures.get(bucket.key)
    was_closed = bucket.closed_until > state.now
    doublings = -1
    if throttle.until_s is not None:
        until = state.now + _told_ms(throttle.until_s)
    elif bucket.calendar:
        until = bucket.next_day(state.now)
    else:
        recent = old is not None and state.now - old.until < 2 * _LONGEST_CLOSURE_MS
        doublings = max(0, old.doublings + (not was_closed)) if old is not None and recent else 0
        until = state.now + min(_LONGEST_CLOSURE_MS, _FIRST_CLOSURE_MS * 2**doublings)
    until = max(until, bucket.closed_until)
    others = bucket.used(state.now) < bucket.quota.limit or bucket.others(state.now) > 0
    state.put(f"x/{bucket.key}", Closure(until, doublings))
    state.limits_of(batch.connector).close(bucket.key, until)
    if not was_closed:
        state.changes.events.append(
            dispatch.limit_event(state, batch.connector, bucket, until, "provider", others=others)
        )
    return until


def done(state: State, batch: Batch, outcome: StepOutcome, file: StoredFile) -> None:
    """The result is durable: new coverage, one ``dataset_updated``, and every member gets its slice."""
    data = state.data_set(batch.data_set)
    if batch.version is None:
        data = replace(data, last_version=data.last_version + 1)
        batch = replace(batch, version=data.last_version, read_at=state.now)
    version, read_at = batch.version or 0, batch.read_at or state.now
    report = state.rules.catalogue[batch.connector.connector_type][batch.report_type]
    columns = coverage.columns_read(report, batch.extras, file.columns_absent)
    before = coverage.held_digests(data, batch.days)
    lacking = _lacking(report, file, coverage.held_columns(data, batch.days))
    new = coverage.add(data, file, version=version, read_at=read_at, columns=columns)
    if report.retention_days > 0:
        oldest = day_of(state.now, batch.connector.time_zone) - report.retention_days - _PAST_RETENTION_DAYS
        new = coverage.forget(new, oldest)
    bygone.begin(state, batch)
    state.put(f"c/{new.key}", new)
    relook.moved(state, new.key, Days(file.start, file.end))
    if not tables.is_table(batch.connector.connector_type):
        # Nothing in that event tells one set of ranges from another: a loader would delete the rows of all others.
        _announce(state, batch, replace(file, columns_absent=lacking), before, version)
    _measure(state, batch)
    closing.charge_members(state, batch, attempts=1)
    ms = _execution_ms(batch, outcome)
    members = members_of(state, batch)
    names = tuple(r.accept.request_id for r in members)
    state.drop_batch(batch.batch_id)
    for request in members:
        row = state.requests[request.accept.request_id]
        with_ = tuple(dict.fromkeys([*row.batched_with, *(n for n in names if n != row.accept.request_id)]))
        row = replace(row, batched_with=with_, execution_ms=max(ms, row.execution_ms or 0))
        closing.complete_part(state, row, batch)


def written(state: State, batch: Batch, outcome: StepOutcome, rows: int) -> None:
    """The rows are in the sheet."""
    closing.charge_members(state, batch, attempts=1)
    members, ms = members_of(state, batch), _execution_ms(batch, outcome)
    writes.done(state, batch, members)
    state.drop_batch(batch.batch_id)
    for request in members:
        row = state.requests[request.accept.request_id]
        closing.written(state, replace(_without(row, batch), execution_ms=ms), rows)


def _lacking(report: ReportType, file: StoredFile, held: set[str]) -> tuple[str, ...]:
    """Columns that a warehouse has or may expect, and this file has not: all standard ones, and others that an earlier
    file of these days brought. With none of them its keys are complete, so that a loader may delete what it lacks."""
    expected = held.union(report.standard_names)
    return tuple(name for name in file.columns_absent if name in expected)


def _execution_ms(batch: Batch, outcome: StepOutcome) -> int:
    if batch.first_call_at is None or outcome.ended_at is None:
        return 0
    return max(0, outcome.ended_at - batch.first_call_at)


def _measure(state: State, batch: Batch) -> None:
    took = state.now - (batch.read_at or state.now)
    state.mean_ms = took if not state.mean_ms else 0.8 * state.mean_ms + 0.2 * took


def _announce(state: State, batch: Batch, file: StoredFile, before: dict[int, str], version: int) -> None:
    report = state.rules.catalogue[batch.connector.connector_type][batch.report_type]
    today = day_of(state.now, batch.connector.time_zone)
    states = {day: day_state(day, today, report.settling_days) for day, _, _ in file.days}
    state.changes.events.append(
        events.dataset_updated(
            now=state.now,
            connector=batch.connector,
            report_type=batch.report_type,
            version=version,
            files=[file],
            days=[events.DayNews(day, rows, str(states[day]), before.get(day) != key) for day, rows, key in file.days],
            complete_through=max((d for d, s in states.items() if s is not DayState.OPEN), default=None),
            reason=_reason(batch, before, file),
            columns_absent=file.columns_absent,
            totals=file.totals,
            expires_at=state.now + state.rules.retention_ms,
            traceparent=batch.traceparent,
        )
    )


def _reason(batch: Batch, before: dict[int, str], file: StoredFile) -> str:
    if any(day in before and before[day] != digest for day, _, digest in file.days):
        return "restated"
    if before:
        return "refreshed"
    return "backfill" if batch.priority_class == 5 else "first"
