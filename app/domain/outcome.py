"""What a step's outcome means. The first in the inbox wins; an outcome belongs to exactly one step (``step_no``)."""

from __future__ import annotations

from dataclasses import replace

from app.domain import batching, closing, coverage, dispatch, events, lifecycle, retry
from app.domain.coverage import day_state
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import StepOutcome, StoredFile
from app.domain.model import DayState, ReportType
from app.domain.rate_limit import Bucket, day_of
from app.domain.rows import Batch, Closure, Request
from app.domain.state import State, members_of

MAX_LOSSES = 5
"""A batch whose holder was lost this often is failed: it may be what kills them."""
MAX_UNHEARD = 60
"""The same for offers that nobody was heard to take, in a quarter of an hour: no worker is there, or each dies at
once."""
_PAST_RETENTION_DAYS = 31
_FIRST_CLOSURE_MS = 60_000
_LONGEST_CLOSURE_MS = 3_600_000


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
        not_before=state.now + int(delay * 1000),
    )
    state.put_batch(row)
    state.remind(row.not_before, "batch", row.batch_id)
    state.touched.update(dict.fromkeys(m for m in row.members if m in state.requests))


def released(state: State, batch: Batch, outcome: StepOutcome) -> None:
    """Handed back unharmed, for want of quota. Where the bucket keeps it back all the same, the bucket says so; a time
    of its own would hide the reason."""
    at = state.now + int((outcome.not_before_s or 1.0) * 1000)
    if batch.remote is None and dispatch.room(state, batch) is not None:
        at = state.now
    back(state, replace(batch, not_before=at))


def back(state: State, batch: Batch) -> None:
    """A leased batch returns to its place: to the provider's side if it has a report there, else to the queue, its
    calls so far charged and the whole minimum needed anew. One whose members have all left is dropped."""
    if not batch.members:
        state.drop_batch(batch.batch_id)
        return
    remote = batch.remote is not None
    row = replace(batch, state="remote" if remote else "queued", step_no=batch.step_no + 1)
    if not remote:
        closing.charge_members(state, row, attempts=0)
        row = replace(row, calls=0)
    state.put_batch(row)
    if not remote:
        state.release(row)
        for request in members_of(state, row):
            if request.state == "running" and not _under_way(state, request):
                to = lifecycle.move(request.state, "retry")
                state.put_request(replace(request, state=str(to), revision=request.revision + 1))
    state.remind(row.not_before, "batch", row.batch_id)


def _under_way(state: State, request: Request) -> bool:
    """Another of its fetches is still running: then so is the request."""
    return any(p in state.batches and state.batches[p].state != "queued" for p in request.parts)


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
    attempts = batch.attempts + 1
    verdict = retry.decide(failure, attempts=attempts, now=state.now, key=batch.batch_id, policy=state.rules.retry)
    if isinstance(verdict, retry.Retry):
        for request in members_of(state, batch):
            state.put_request(replace(request, attempts=request.attempts + 1))
        back(state, replace(batch, attempts=attempts, priority_class=4, not_before=verdict.not_before))
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
    parts = batching.split(state, batch)
    state.drop_batch(batch.batch_id)
    for part in parts:
        request = state.requests[part.members[0]]
        names = tuple(part.batch_id if p == batch.batch_id else p for p in request.parts)
        again = request.state == "running" and not _under_way(state, request)
        to = lifecycle.move(request.state, "retry") if again else request.state
        state.put_request(
            replace(
                request,
                parts=names,
                batches=(*request.batches, part.batch_id),
                state=str(to),
                revision=request.revision + 1,
            )
        )
        state.put_batch(part)


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
    until = state.now + (_FIRST_CLOSURE_MS if throttle.until_s is None else int(throttle.until_s * 1000))
    back(state, replace(batch, not_before=until))


def _named(state: State, batch: Batch, throttle: Throttle) -> Bucket | None:
    """The bucket a throttle means: the one it names, else the broadest of 60 s or less that the calls spend, else the
    broadest that slides."""
    limits = state.limits_of(batch.connector)
    spent = [b for c in state.rules_of(batch.connector).minimum_calls for b in limits.of(c, batch.connector)]
    named = next((b for b in spent if b.quota.name == throttle.quota), None)
    if named is not None:
        return named
    width = {"application": 2, "account": 1, "user": 0}
    sliding = [b for b in spent if not b.calendar]
    short = [b for b in sliding if b.quota.period_ms <= 60_000]
    return max(short or sliding, key=lambda b: (width[b.quota.scope], b.quota.period_ms), default=None)


def _close(state: State, batch: Batch, bucket: Bucket, throttle: Throttle) -> int:
    old = state.closures.get(bucket.key)
    was_closed = bucket.closed_until > state.now
    doublings = 0
    if throttle.until_s is not None:
        until = state.now + int(throttle.until_s * 1000)
    elif bucket.calendar:
        until = bucket.next_day(state.now)
    else:
        recent = old is not None and state.now - old.until < 2 * _LONGEST_CLOSURE_MS
        doublings = old.doublings + (not was_closed) if old is not None and recent else 0
        until = state.now + min(_LONGEST_CLOSURE_MS, _FIRST_CLOSURE_MS * 2**doublings)
    until = max(until, bucket.closed_until)
    others = bucket.used(state.now) < bucket.quota.limit
    state.put(f"x/{bucket.key}", Closure(until, doublings))
    state.limits_of(batch.connector).close(bucket.key, until)
    if not was_closed:
        state.changes.events.append(dispatch.limit_event(state, batch, bucket, until, "provider", others=others))
    return until


def done(state: State, batch: Batch, outcome: StepOutcome, file: StoredFile) -> None:
    """The result is durable: new coverage, one ``dataset_updated``, and every member gets its slice."""
    data = state.data_set(batch.data_set)
    if batch.version is None:
        data = replace(data, last_version=data.last_version + 1)
        batch = replace(batch, version=data.last_version, read_at=state.now)
    version, read_at = batch.version or 0, batch.read_at or state.now
    report = state.rules.catalogue[batch.connector.connector_type][batch.report_type]
    columns = tuple(n for n in (*report.standard_names, *batch.extras) if n not in file.columns_absent)
    before = coverage.held_digests(data, batch.days)
    lacking = _lacking(report, file, coverage.held_columns(data, batch.days))
    new = coverage.add(data, file, version=version, read_at=read_at, columns=columns)
    oldest = day_of(state.now, batch.connector.time_zone) - report.retention_days - _PAST_RETENTION_DAYS
    new = coverage.forget(new, oldest)
    state.put(f"c/{new.key}", new)
    state.moved[new.key] = None
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
        closing.complete_part(state, row, batch.batch_id)


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
