"""Turning a request into what must still be fetched: reuse, attach, merge.

The rule (spec section 4): same connector, same report type, same tumbling window, overlapping days, not dispatched yet:
one batch. Overlap joins transitively, so the result does not depend on the order of arrival; the range is the union of
ranges that overlap, so no gap is fetched in vain. Nobody waits for a window to close.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain import coverage, identity
from app.domain.coverage import Run
from app.domain.messages import Accept
from app.domain.model import ConnectorFacts, Days
from app.domain.rows import Batch, Request
from app.domain.state import State


def extras_of(state: State, accept: Accept) -> tuple[str, ...]:
    """Asked columns beyond the standard ones, which are always fetched: quota is per call, not per column."""
    report = state.rules.catalogue[accept.connector.connector_type][accept.report_type]
    standard = set(report.standard_names)
    return tuple(sorted(f for f in set(accept.fields) if f not in standard))


def _held_extras(state: State, connector: ConnectorFacts, report_type: str, days: Days) -> set[str]:
    """Columns beyond the standard ones that are held for these days already, and belong into what is read of them: a
    narrower file would leave a warehouse with old figures in the columns it lacks, and the next request for them would
    fetch all again. Columns that do not add up are left alone."""
    report = state.rules.catalogue[connector.connector_type][report_type]
    data = state.data_set(f"{connector.connector_id}|{report_type}")
    known = coverage.held_columns(data, days) - set(report.standard_names)
    return {name for name in known if (field := report.field(name)) is not None and field.additive}


def held(state: State, request: Request, *, now: int) -> list[Run]:
    """Days of the request that need no fetch; none if it forces one."""
    accept = request.accept
    if accept.force:
        return []
    report = state.rules.catalogue[accept.connector.connector_type][accept.report_type]
    return coverage.usable(
        state.data_set(_data_set(accept)),
        request.days,
        extras_of(state, accept),
        now=now,
        zone=accept.connector.time_zone,
        settling_days=report.settling_days,
        fresh=state.rules.freshness,
        max_age_ms=None if accept.max_age_s is None else accept.max_age_s * 1000,
    )


def plan(state: State, request: Request) -> Request:
    """Finds or makes the batches a request needs. With no open part left afterwards it can be closed at once."""
    missing = coverage.gaps(request.days, held(state, request, now=state.now))
    parts: list[str] = []
    if not request.accept.force:
        missing, parts = _attach(state, request, missing)
    for gap in missing:
        parts.append(_join(state, request, gap))
    open_ = dict.fromkeys(p for p in parts if p in state.batches)  # a later gap may have joined an earlier one's batch
    return replace(request, parts=tuple(open_), batches=tuple(dict.fromkeys([*request.batches, *open_])))


def _attach(state: State, request: Request, missing: list[Days]) -> tuple[list[Days], list[str]]:
    """Days that a running batch is fetching already are taken from it."""
    missing, taken = _taken(state, request, missing, state.now)
    for batch in taken:
        state.put_batch(_with_member(batch, request))
    return missing, [batch.batch_id for batch in taken]


def _taken(state: State, request: Request, missing: list[Days], now: int) -> tuple[list[Days], list[Batch]]:
    """What running batches leave missing, and which of them serve the request. One that the provider refused as a whole
    once takes nobody: another such refusal would be everybody's."""
    taken: list[Batch] = []
    extras = set(extras_of(state, request.accept))
    for batch in list(state.running(_data_set(request.accept))):
        wanted = any(gap.overlaps(batch.days) for gap in missing)
        room = len(batch.members) < state.rules.max_members and not batch.alone
        if wanted and room and extras <= set(batch.extras) and not _too_old(state, batch, request.accept, now):
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
    taken: list[Batch] = []
    if not request.accept.force:
        missing, taken = _taken(state, request, missing, now)
    queued: dict[str, Batch] = {}
    for gap in missing:
        whole, _ = _merged(state, _new_batch(state, request, gap))
        known = queued.get(whole.batch_id)  # an earlier gap may have joined the same batch
        both = [whole] if known is None else [known, whole]
        queued[whole.batch_id] = _merge(whole, both, whole.days.union(both[0].days))
    new = frozenset(name for name in queued if name not in state.batches)
    return Preview(kept, tuple(taken), queued, new, sum(map(len, missing)))


def _join(state: State, request: Request, gap: Days) -> str:
    """Merges the gap into the waiting batches of its window that it overlaps, else makes a batch of its own."""
    whole, others = _merged(state, _new_batch(state, request, gap))
    for other in others:
        _rename(state, other, whole.batch_id, but=request.accept.request_id)
        state.drop_batch(other.batch_id)
    state.put_batch(whole)
    return whole.batch_id


def _merged(state: State, mine: Batch) -> tuple[Batch, list[Batch]]:
    """The batch that a new one becomes a part of, or is, under the oldest id; and the joined ones that lose theirs."""
    merged, days = [mine], mine.days
    candidates = _candidates(state, mine)
    while hit := next((b for b in candidates if b.days.overlaps(days) and _fits(state, merged, b)), None):
        candidates.remove(hit)
        merged.append(hit)
        days = days.union(hit.days)
    older = sorted(merged[1:], key=lambda b: (b.accepted_at, b.batch_id))
    return _merge(older[0] if older else mine, merged, days), older[1:]


def _new_batch(state: State, request: Request, gap: Days) -> Batch:
    accept = request.accept
    number = len(request.batches) + len(state.open_batches.get(_data_set(accept), {}))
    asked = extras_of(state, accept)
    name = identity.uuid5("batch", accept.request_id, gap.start, gap.end, request.revision, number)
    return Batch(
        batch_id=f"bat_{name.hex}",
        connector=accept.connector,
        report_type=accept.report_type,
        window=accept.accepted_at // state.rules.window_ms,
        start=gap.start,
        end=gap.end,
        extras=tuple(sorted(_held_extras(state, accept.connector, accept.report_type, gap).union(asked))),
        priority_class=accept.priority_class,
        accepted_at=accept.accepted_at,
        members=(accept.request_id,),
        seen_results=state.data_set(_data_set(accept)).results,
        traceparent=accept.traceparent,
    )


def _candidates(state: State, mine: Batch) -> list[Batch]:
    """Waiting batches of the window that have room for one more."""
    rows = (state.batches[b] for b in state.open_batches.get(mine.data_set, {}))
    most = state.rules.max_members
    return [b for b in rows if len(b.members) < most and b.window == mine.window and _joinable(b)]


def _joinable(batch: Batch) -> bool:
    return batch.state == "queued" and batch.remote is None and not batch.alone


def _fits(state: State, merged: Sequence[Batch], other: Batch) -> bool:
    members = {m for b in [*merged, other] for m in b.members}
    return len(members) <= state.rules.max_members


def _merge(keep: Batch, merged: Iterable[Batch], days: Days) -> Batch:
    rows = list(merged)
    return replace(
        keep,
        start=days.start,
        end=days.end,
        extras=tuple(sorted({e for b in rows for e in b.extras})),
        priority_class=min(b.priority_class for b in rows),
        turn=min((b.turn for b in rows if b.turn is not None), default=None),
        accepted_at=min(b.accepted_at for b in rows),
        members=tuple(dict.fromkeys(m for b in [keep, *rows] for m in b.members)),
        not_before=_not_before(rows),
        refresh=any(b.refresh for b in rows),
    )


def _not_before(rows: Sequence[Batch]) -> int:
    """A retry's delay holds for whoever joins it: it is the provider's. Other delays end with one who need not wait."""
    retries = [b.not_before for b in rows if b.attempts]
    return max(retries) if retries else min(b.not_before for b in rows)


def _with_member(batch: Batch, request: Request) -> Batch:
    best = min(batch.priority_class, request.accept.priority_class)
    members = tuple(dict.fromkeys([*batch.members, request.accept.request_id]))
    return replace(batch, members=members, priority_class=best)


def _rename(state: State, batch: Batch, batch_id: str, *, but: str) -> None:
    """The joined batch's members now belong to the one that keeps its id."""
    for member in batch.members:
        row = state.requests.get(member)
        if row is None or member == but:
            continue
        swap = {batch.batch_id: batch_id}
        parts = tuple(dict.fromkeys(swap.get(p, p) for p in row.parts))
        known = tuple(dict.fromkeys(swap.get(p, p) for p in row.batches))
        state.put_request(replace(row, parts=parts, batches=known, revision=row.revision + 1))


def shrink(state: State, batch: Batch) -> tuple[Batch, list[Request]]:
    """Looks again at what a waiting batch must fetch, after its data set has moved on: the batch over the days that are
    still missing, and the members that need nothing more from it. If they all need nothing, the batch has none left."""
    need: list[Days] = _to_refresh(state, batch)
    done: list[Request] = []
    for member in batch.members:
        request = state.requests.get(member)
        if request is None:
            continue
        mine = request.days.clip(batch.days)
        missing = [] if mine is None else coverage.gaps(mine, held(state, request, now=state.now))
        if missing:
            need += missing
        else:
            done.append(request)
    gone = {r.accept.request_id for r in done}
    rest = tuple(m for m in batch.members if m not in gone and m in state.requests)
    seen = state.data_set(batch.data_set).results
    if not need:
        return replace(batch, members=rest, refresh=False, seen_results=seen), done
    days = Days(min(d.start for d in need), max(d.end for d in need))
    extras = set(batch.extras)
    if not batch.alone:
        extras |= _held_extras(state, batch.connector, batch.report_type, days)
    row = replace(batch, start=days.start, end=days.end, extras=tuple(sorted(extras)), members=rest, seen_results=seen)
    return row, done


def _to_refresh(state: State, batch: Batch) -> list[Days]:
    """The days of a refresh that nobody has read anew meanwhile."""
    if not batch.refresh:
        return []
    found = coverage.usable(
        state.data_set(batch.data_set),
        batch.days,
        batch.extras,
        now=state.now,
        zone=batch.connector.time_zone,
        settling_days=state.rules.catalogue[batch.connector.connector_type][batch.report_type].settling_days,
        fresh=state.rules.freshness,
        max_age_ms=None,
    )
    return coverage.gaps(batch.days, found)


def split(state: State, batch: Batch) -> list[Batch]:
    """One batch per member: what the provider refused as a whole is tried for each alone, once, as no attempt."""
    alone = []
    for member in batch.members:
        request = state.requests.get(member)
        days = request and request.days.clip(batch.days)
        if request is None or not days:
            continue
        name = identity.uuid5("alone", batch.batch_id, member).hex
        alone.append(
            replace(
                batch,
                batch_id=f"bat_{name}",
                start=days.start,
                end=days.end,
                extras=extras_of(state, request.accept),
                members=(member,),
                state="queued",
                alone=True,
                refresh=False,
                step=0,
                remote=None,
                epoch=batch.epoch + 1,
                version=None,
                read_at=None,
                calls=0,
            )
        )
    return alone


def _data_set(accept: Accept) -> str:
    return f"{accept.connector.connector_id}|{accept.report_type}"
