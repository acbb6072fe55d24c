"""Turning a request into what must still be fetched: reuse, attach, merge.

The rule (spec section 4): same connector, same report type, same tumbling window, overlapping days, not dispatched yet:
one batch (``grouping``). Missing days are first cut where the provider or a backfill wants them cut (``slices``), so
that no batch is ever longer than the provider takes. Nobody waits for a window to close.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.domain import coverage, identity, slices, tables
from app.domain.coverage import Run
from app.domain.grouping import Joining
from app.domain.messages import Accept
from app.domain.model import ConnectorFacts, Days, ReportType
from app.domain.rows import Batch, Request
from app.domain.state import State


def report_of(state: State, accept: Accept) -> ReportType:
    """What the request's report type offers."""
    return state.rules.catalogue[accept.connector.connector_type][accept.report_type]


def extras_of(state: State, accept: Accept) -> tuple[str, ...]:
    """Asked columns beyond the standard ones, which are always fetched: quota is per call, not per column. Of a table
    all its ranges: one may be called like a column."""
    if tables.is_table(accept.connector.connector_type):
        return tuple(sorted(set(accept.fields)))
    standard = set(report_of(state, accept).standard_names)
    return tuple(sorted(f for f in set(accept.fields) if f not in standard))


def held_extras(state: State, connector: ConnectorFacts, report_type: str, days: Days) -> set[str]:
    """Columns beyond the standard ones that are held for these days already, and belong into what is read of them: a
    narrower file would leave a warehouse with old figures in the columns it lacks, and the next request for them would
    fetch all again. Columns that do not add up are left alone."""
    if tables.is_table(connector.connector_type):
        return set()
    report = state.rules.catalogue[connector.connector_type][report_type]
    data = state.data_set(f"{connector.connector_id}|{report_type}")
    known = coverage.held_columns(data, days) - set(report.standard_names)
    return {name for name in known if (field := report.field(name)) is not None and field.additive}


def held(state: State, request: Request, *, now: int) -> list[Run]:
    """Days of the request that need no fetch: only what its own parts brought, if it forces one."""
    accept = request.accept
    if accept.force:
        return list(request.kept)
    report = report_of(state, accept)
    found = coverage.usable(
        state.data_set(data_set_of(accept)),
        request.days,
        extras_of(state, accept),
        now=now,
        zone=accept.connector.time_zone,
        settling_days=report.settling_days,
        fresh=state.rules.freshness,
        max_age_ms=tables.max_age_ms(accept, state.rules.freshness),
        apart=report.apart_names,
    )
    return [*found, *request.kept]


def keeping(state: State, request: Request, runs: Iterable[Run], days: Days) -> Request:
    """The request with what a part over ``days`` brought, where something may replace it before the others end."""
    accept = request.accept
    if not accept.force and report_of(state, accept).apart_names.isdisjoint(accept.fields):
        return request
    new = [replace(part, digests=()) for run in runs if (part := coverage.cut(run, days)) is not None]
    return replace(request, kept=tuple(coverage.filled(new, request.kept)))


def pieces_of(state: State, accept: Accept, gaps: Iterable[Days]) -> list[Days]:
    """Missing days of a request in the pieces in which they may be fetched."""
    longest = report_of(state, accept).longest_range_days
    slice_days = state.rules.backfill_slice_days
    return slices.pieces(gaps, longest=longest, slice_days=slice_days, priority_class=accept.priority_class)


def plan(state: State, request: Request) -> Request:
    """Finds or makes the batches a request needs. With no open part left afterwards it can be closed at once."""
    now = state.now
    missing = coverage.gaps(request.days, held(state, request, now=now))
    missing, taken = _taken(state, request, missing, now)
    for batch in taken:
        state.put_batch(_with_member(batch, request))
    joining = _joined(state, request, missing)
    joining.apply()
    parts = (*(batch.batch_id for batch in taken), *joining.parts)
    return replace(request, parts=parts, batches=tuple(dict.fromkeys([*request.batches, *parts])))


def _joined(state: State, request: Request, missing: list[Days]) -> Joining:
    """What the missing days do to the waiting batches of the request's window."""
    joining = Joining(state, report_of(state, request.accept).apart_names)
    for piece in pieces_of(state, request.accept, missing):
        joining.join(_new_batch(state, request, piece))
    return joining


def _taken(state: State, request: Request, missing: list[Days], now: int) -> tuple[list[Days], list[Batch]]:
    """What running batches leave missing, and which of them serve the request. One that the provider refused as a whole
    once takes nobody: another such refusal would be everybody's."""
    if request.accept.force or not missing:
        return missing, []
    taken: list[Batch] = []
    extras = extras_of(state, request.accept)
    apart = report_of(state, request.accept).apart_names
    hull = missing[0].union(missing[-1])
    for batch in state.running(data_set_of(request.accept), hull):
        wanted = any(gap.overlaps(batch.days) for gap in missing)
        room = len(batch.members) < state.rules.max_members and not batch.alone
        same = set(extras) <= set(batch.extras) and apart.intersection(extras) == apart.intersection(batch.extras)
        if wanted and room and same and not _too_old(state, batch, request.accept, now):
            taken.append(batch)
            missing = [g for gap in missing for g in coverage.gaps(gap, [batch.days])]
    return missing, taken


def _too_old(state: State, batch: Batch, accept: Accept, now: int) -> bool:
    """The running fetch has read its figures already, longer ago than the command allows."""
    if accept.max_age_s is None or batch.read_at is None:
        return False
    return now - batch.read_at > max(accept.max_age_s * 1000, state.rules.freshness.floor_ms)


@dataclass(frozen=True, slots=True)
class Preview:
    """What ``plan`` would do: days held already, batches under way that serve it, and the batches it would make or
    become a part of, by batch id; those in ``new`` are not there yet."""

    held: int
    running: tuple[Batch, ...]
    queued: Mapping[str, Batch]
    new: frozenset[str]
    days: int


def preview(state: State, request: Request, now: int) -> Preview:
    """``plan`` at ``now`` without doing it. ``days``: how many are left to fetch. Changes nothing."""
    missing = coverage.gaps(request.days, held(state, request, now=now))
    kept = len(request.days) - sum(map(len, missing))
    missing, taken = _taken(state, request, missing, now)
    joining = _joined(state, request, missing)
    queued = {name: joining.now(name) for name in joining.parts}
    new = frozenset(name for name in queued if name not in state.batches)
    return Preview(kept, tuple(taken), queued, new, sum(map(len, missing)))


def _new_batch(state: State, request: Request, gap: Days) -> Batch:
    accept = request.accept
    number = len(request.batches) + len(state.open_batches.get(data_set_of(accept), {}))
    asked = extras_of(state, accept)
    name = identity.uuid5("batch", accept.request_id, gap.start, gap.end, request.revision, number)
    return Batch(
        batch_id=f"bat_{name.hex}",
        connector=accept.connector,
        report_type=accept.report_type,
        window=accept.accepted_at // state.rules.window_ms,
        start=gap.start,
        end=gap.end,
        extras=tuple(sorted(held_extras(state, accept.connector, accept.report_type, gap).union(asked))),
        priority_class=accept.priority_class,
        accepted_at=accept.accepted_at,
        members=(accept.request_id,),
        seen_results=state.data_set(data_set_of(accept)).results,
        traceparent=accept.traceparent,
    )


def _with_member(batch: Batch, request: Request) -> Batch:
    best = min(batch.priority_class, request.accept.priority_class)
    members = tuple(dict.fromkeys([*batch.members, request.accept.request_id]))
    return replace(batch, members=members, priority_class=best)


def data_set_of(accept: Accept) -> str:
    """Key of the data set that a request reads."""
    facts = accept.connector
    return tables.data_set_key(facts.connector_id, facts.connector_type, accept.report_type, accept.fields)
