"""How a request ends, and what others are told of it: exactly one terminal event, the view, a mark for an hour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from app.domain import batching, circuits, coverage, estimate, events, lifecycle, refit, tables, writes
from app.domain.coverage import Run
from app.domain.errors import ErrorClass, Failure
from app.domain.estimate import Expected
from app.domain.messages import Accept, Event, RequestView
from app.domain.model import ConnectorFacts, RequestState
from app.domain.rate_limit import Bucket, Window
from app.domain.rows import Batch, Mark, Request
from app.domain.state import State, members_of

MAX_ROUNDS = 3
"""A request is planned again at most this often after its fetches ended without all that it asked for."""
_UNDELIVERED = Failure(
    ErrorClass.PROVIDER_RESPONSE,
    "incomplete_result",
    "The provider's answers did not hold every day and column asked for.",
    retryable=True,
)


NAMED_OTHERS = 20


def complete_part(state: State, request: Request, batch: Batch) -> None:
    """One part of a request has its days. With none open left the request completes, or is planned again if a day is
    still missing (its reading was replaced by one without an asked column while others were fetched)."""
    request = replace(request, parts=tuple(p for p in request.parts if p != batch.batch_id))
    runs = covering(state, request)
    if not request.parts and not coverage.gaps(request.days, runs):
        complete(state, request, runs)
        return
    request = batching.keeping(state, request, runs, batch.days)
    if request.parts:
        state.put_request(request)
    elif request.rounds < MAX_ROUNDS:
        settle(state, batching.plan(state, replace(request, rounds=request.rounds + 1)))
    else:
        fail(state, request, _UNDELIVERED)


def settle(state: State, request: Request) -> None:
    """Stores a planned request, running if it takes days from a running batch; one that needs nothing fetched completes
    by reuse at once."""
    if request.parts:
        taken = any(state.batches[p].state != "queued" for p in request.parts)
        if taken and request.state == "queued":
            to = lifecycle.move(request.state, "dispatch")
            request = replace(request, state=str(to), started_at=request.started_at or state.now)
        elif not taken and request.state == "running":
            request = replace(request, state=str(lifecycle.move(request.state, "retry")))
        state.put_request(request)
    else:
        complete(state, request, covering(state, request))


def covering(state: State, request: Request) -> list[Run]:
    """The newest held runs inside the request's days; where they lack its columns, what its own parts brought."""
    accept = request.accept
    runs = coverage.within(state.data_set(batching.data_set_of(accept)), request.days)
    apart = batching.report_of(state, accept).apart_names
    useful = coverage.having(runs, batching.extras_of(state, accept), apart)
    found = [part for run in useful if (part := coverage.cut(run, request.days)) is not None]
    return coverage.filled(found, request.kept)


def complete(state: State, request: Request, runs: list[Run], *, stale_until: int | None = None) -> None:
    """Publishes ``data_fetched`` with the request's exact slice. ``stale_until``: it is older than was asked for,
    because the account's circuit is open until then."""
    accept = request.accept
    report = state.rules.catalogue[accept.connector.connector_type][accept.report_type]
    table = tables.is_table(accept.connector.connector_type)
    extras = () if table else batching.extras_of(state, accept)
    files = list({run.file.uri: run.file for run in runs}.values())
    event = events.data_fetched(
        now=state.now,
        asked=asked(request),
        fields=accept.fields or (() if table else report.standard_names),
        columns=[*report.standard_names, *extras],
        batch_id=request.batches[-1] if request.batches else None,
        batched_with=request.batched_with,
        files=files,
        records_fetched=sum(sum(run.rows) for run in runs),
        dataset_version=max((run.version for run in runs), default=None),
        stale=stale_until is not None,
        as_of=min((run.read_at for run in runs), default=None),
        attempts=request.attempts,
        provider_calls=request.calls,
        execution_time_ms=request.execution_ms or 0,
        cost=money(request.cost_micros),
        cost_unit=state.rules.cost_unit,
    )
    told = ("records_fetched", "size_bytes", "storage_location", "files", "dataset_version", "as_of", "stale")
    result = {name: event.data[name] for name in told}
    by = "complete" if request.batches else "reuse"
    if stale_until is not None:
        result["retry_at"], by = stale_until, "stale"
    _close(state, request, lifecycle.move(request.state, by), event, result=result)


def written(state: State, request: Request, rows: int) -> None:
    """Publishes ``data_written``."""
    write = request.accept.write
    target = "" if write is None else write.target
    event = events.data_written(now=state.now, asked=asked(request), target=target, rows_written=rows)
    _close(state, request, lifecycle.move(request.state, "complete"), event, result=dict(event.data))


def fail(state: State, request: Request, failure: Failure, *, by: str = "fail") -> None:
    """Publishes ``fetch_failed`` or, of a write, ``write_failed``."""
    batch_id = request.batches[-1] if request.batches else None
    told = events.fetch_failed if request.accept.write is None else events.write_failed
    event = told(now=state.now, asked=asked(request), failure=failure, attempts=request.attempts, batch_id=batch_id)
    _close(state, request, lifecycle.move(request.state, by), event, error=event.data["error"])


def cancel(state: State, request: Request, reason: str) -> None:
    """Publishes ``fetch_cancelled``."""
    request = _paid(state, request)
    event = events.fetch_cancelled(now=state.now, asked=asked(request), reason=reason)
    _close(state, request, lifecycle.move(request.state, "cancel"), event)


def asked(request: Request) -> events.Asked:
    """What the request's terminal event answers."""
    accept = request.accept
    report, days = (accept.report_type, request.days) if accept.write is None else (None, None)
    if tables.is_table(accept.connector.connector_type):
        days = None
    return events.Asked(accept.connector, accept.request_id, accept.labels, report, days, accept.traceparent)


def expire(state: State, request: Request) -> None:
    """The deadline passed before the data was there."""
    failure = Failure(
        ErrorClass.DEADLINE, "deadline_passed", "The deadline passed before the data was there.", retryable=False
    )
    fail(state, _paid(state, request), failure, by="expire")


def _paid(state: State, request: Request) -> Request:
    """The last one that leaves a fetch under way pays for its calls so far: nobody else will."""
    for batch_id in request.parts:
        batch = state.batches.get(batch_id)
        if batch is None or batch.state == "queued":
            continue
        if [one.accept.request_id for one in members_of(state, batch)] == [request.accept.request_id]:
            charge_members(state, batch, attempts=0)
            state.put_batch(replace(batch, paid=batch.calls))
            request = state.requests[request.accept.request_id]
    return request


def _close(
    state: State,
    request: Request,
    to: RequestState,
    event: Event,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    accept = request.accept
    _leave_batches(state, request)
    state.changes.events.append(event)
    state.drop(f"r/{accept.request_id}")
    if accept.request_id in state.writes:
        state.drop(f"w/{accept.request_id}")
    state.put(f"m/{accept.request_id}", Mark(state.now, accept.body_hash))
    state.remind(state.now + state.rules.closed_mark_ms, "mark", accept.request_id)
    state.touched.pop(accept.request_id, None)
    closed = replace(request, state=str(to), revision=request.revision + 1)
    state.changes.views[accept.request_id] = view(state, closed, result=result, error=error)


def _leave_batches(state: State, request: Request) -> None:
    """Takes a closing request out of batches it still waits for."""
    for batch_id in request.parts:
        batch = state.batches.get(batch_id)
        if batch is not None:
            refit.leave(state, batch, request.accept.request_id)


def view(
    state: State, request: Request, *, result: dict[str, Any] | None = None, error: dict[str, Any] | None = None
) -> RequestView:
    """What GET answers: the request's row, its place and why it waits."""
    accept = request.accept
    batch = first_open(state, request)
    closed = request.state in lifecycle.TERMINAL
    wait = expected(state, request, batch)
    return RequestView(
        request_id=accept.request_id,
        org_id=accept.connector.org_id,
        connector_id=accept.connector.connector_id,
        connector_type=accept.connector.connector_type,
        report_type=accept.report_type,
        start=accept.start,
        end=accept.end,
        fields=accept.fields,
        priority_class=accept.priority_class,
        state=request.state,
        accepted_at=accept.accepted_at,
        revision=request.revision,
        body_hash=accept.body_hash,
        labels=accept.labels,
        waiting=None if closed else waiting(state, batch),
        progress=100 if request.state == "completed" else progress(state, request),
        batch_id=request.batches[-1] if request.batches else None,
        batched_with=request.batched_with if closed or batch is None else others(batch, accept),
        queue_position=None if closed or batch is None else state.queue.position(batch.batch_id),
        estimated_wait_s=None if closed else wait.p50_s,
        estimated_wait_p90_s=None if closed else wait.p90_s,
        rate_limit=rate_limit(state, accept),
        attempts=request.attempts,
        started_at=request.started_at,
        completed_at=state.now if closed else None,
        execution_time_ms=request.execution_ms,
        cost=money(request.cost_micros) if closed else None,
        result=result,
        error=error,
        deadline_at=accept.deadline_at,
        force=accept.force,
        max_age_s=accept.max_age_s,
        write=writes.told(request),
    )


def others(batch: Batch, accept: Accept) -> tuple[str, ...]:
    """The requests a batch serves besides this one: the first few of up to 199, all of which the terminal event names.
    (Naming all in every view of every member grows with the square of the batch.)"""
    return tuple(m for m in batch.members[: NAMED_OTHERS + 1] if m != accept.request_id)[:NAMED_OTHERS]


def waiting(state: State, batch: Batch | None) -> dict[str, Any] | None:
    """The typed reason: nothing, ``provider_running``, or what the last look at the queue found."""
    if batch is None or batch.state == "leased":
        return None
    if batch.state == "remote":
        kept = circuits.reason(state, batch.connector) if batch.not_before <= state.now else None
        return kept or {"reason": "provider_running", "percent": batch.percent, "until": batch.not_before or None}
    known = state.queue.reason(batch.batch_id)
    return state.others_wait if known is None else dict(known)


def rests(state: State, request: Request, but: str) -> bool:
    """Of all parts of a request, one apart, none is with a worker or the provider."""
    rows = (state.batches.get(part) for part in request.parts if part != but)
    return all(row is None or row.state == "queued" for row in rows)


def progress(state: State, request: Request) -> int:
    """Calls done of calls planned over all parts of a request, in percent; 100 only when completed. What was done in
    vain is to be done again."""
    done, left = request.calls - request.vain, 0
    for batch in (state.batches[p] for p in request.parts if p in state.batches):
        planned = sum(state.calls_of(batch).values())
        done += batch.calls
        left += max(1, planned - batch.calls)
    return min(99, 100 * done // max(1, done + left))


def expected(state: State, request: Request, batch: Batch | None, now: int | None = None) -> Expected:
    """When the request will probably start; one that has started, or takes part in a fetch under way, waits no more."""
    if batch is None or request.state != "queued" or batch.state != "queued":
        return estimate.NOW
    return estimate.expected(state, batch, now=now)


def rate_limit(state: State, accept: Accept) -> dict[str, Any] | None:
    """The bucket with the least remaining share among those the data calls spend from."""
    least = least_window(state, accept.connector, state.now, write=accept.write is not None)
    if least is None:
        return None
    return {"current": least.used, "limit": least.quota.limit, "reset_at": least.reset_at, "bucket": least.quota.name}


def least_window(state: State, connector: ConnectorFacts, now: int, *, write: bool = False) -> Window | None:
    """The window with the least remaining share among the buckets that a connector's data calls (``write``: those that
    write) spend from."""
    windows = [b.window(now) for b in spent_by(state, connector, write=write)]
    return min(windows, key=lambda w: w.remaining / w.quota.limit, default=None)


def spent_by(state: State, connector: ConnectorFacts, *, write: bool = False) -> list[Bucket]:
    """The buckets that a connector's data calls (``write``: those that write) spend from."""
    limits = state.limits_of(connector)
    return [b for charge in state.rules_of(connector).calls(write=write) for b in limits.of(charge, connector)]


def money(micros: int) -> str:
    """Millionths as decimal text with four places, rounded half up (the column is DECIMAL(10,4))."""
    tenths = (micros + 50) // 100
    return f"{tenths // 10_000}.{tenths % 10_000:04d}"


def share(total_micros: int, members: Iterable[str]) -> dict[str, int]:
    """Splits a cost over members so that the parts sum exactly, in the four decimals that are told as well."""
    names = list(members)
    told, small = divmod(total_micros, 100)
    base, rest = divmod(told, max(1, len(names)))
    return {name: (base + (i < rest)) * 100 + (small if i == 0 else 0) for i, name in enumerate(names)}


def charge_members(state: State, batch: Batch, *, attempts: int) -> None:
    """Splits the batch's calls over its members, the parts summing exactly; each has made ``attempts`` more. With none
    the fetch has not ended, and begins anew."""
    whole, _, part = state.rules_of(batch.connector).cost_per_call.partition(".")
    calls = batch.calls - batch.paid
    micros = calls * (int(whole or 0) * 1_000_000 + int((part + "000000")[:6]))
    live = [m for m in batch.members if m in state.requests]
    for name, cost in share(micros, live).items():
        row = state.requests[name]
        state.put_request(
            replace(
                row,
                calls=row.calls + calls,
                cost_micros=row.cost_micros + cost,
                attempts=row.attempts + attempts,
                vain=row.vain + (0 if attempts else batch.calls),
            )
        )


def first_open(state: State, request: Request) -> Batch | None:
    """The batch that a request waits for first: its best place in the queue, else one that is under way."""
    found = [b for p in request.parts if (b := state.batches.get(p)) is not None]
    return min(found, key=lambda b: (b.state != "queued", state.queue.position(b.batch_id) or 0), default=None)
