"""Waiting batches made to fit again: a member has left, days have come, or the provider refused the whole.

What a batch must fetch is the closure of its members' missing days, as when it was made. With fewer of either it may be
shorter, of a lower class, or fall apart into several: days that nobody misses any more are not fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain import batching, coverage, grouping, identity
from app.domain.model import Days
from app.domain.rows import Batch, Request
from app.domain.state import State

REFRESH_CLASS = 4
"""Of a batch that nobody waits for any more (``stale``)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What becomes of a batch: ``rows`` take its place, the first that holds its oldest member under its id; ``done``
    are the members that need nothing more from it."""

    rows: tuple[Batch, ...]
    done: tuple[Request, ...]


def fit(state: State, batch: Batch, names: Sequence[str]) -> Fit:
    """The batch for these of its members, as of now. Changes nothing."""
    need: list[tuple[Days, Request | None]] = [(days, None) for days in _to_refresh(state, batch)]
    done: list[Request] = []
    for request in _live(state, names):
        missing = _missing(state, batch, request)
        need += [(piece, request) for piece in missing]
        if not missing:
            done.append(request)
    groups = _closure(need)
    oldest = min((r for _, r in need if r is not None), key=_age, default=None)
    keeps = next((at for at, group in enumerate(groups) if oldest in group.requests), 0)
    rows = [_row(state, batch, group, kept=at == keeps) for at, group in enumerate(groups)]
    return Fit(tuple(rows), tuple(done))


def apply(state: State, batch: Batch, rows: Sequence[Batch]) -> None:
    """Puts the rows in the batch's place and tells its members where they belong now."""
    if all(row.batch_id != batch.batch_id for row in rows):
        state.drop_batch(batch.batch_id)
    for row in rows:
        state.put_batch(row)
    for request in _live(state, batch.members):
        mine = tuple(row.batch_id for row in rows if request.accept.request_id in row.members)
        if mine and mine != (batch.batch_id,) and batch.batch_id in request.parts:
            parts = tuple(dict.fromkeys(n for p in request.parts for n in (mine if p == batch.batch_id else (p,))))
            known = tuple(dict.fromkeys([*request.batches, *mine]))
            state.put_request(replace(request, parts=parts, batches=known, revision=request.revision + 1))


def leave(state: State, batch: Batch, name: str) -> None:
    """Takes a member out. A running batch goes on to its next outcome; a waiting one is made to fit the others, and is
    dropped without any. One of a group of several batches stays as it is: their days are all the group's."""
    left = replace(batch, members=tuple(m for m in batch.members if m != name))
    if batch.state != "queued" or batch.remote is not None:
        state.put_batch(left)
        return
    if not left.members:
        if left.refresh:
            state.put_batch(replace(left, priority_class=REFRESH_CLASS))
        else:
            state.drop_batch(batch.batch_id)
        return
    if _has_twin(state, left, name):
        if len(grouping.waiting_beside(state, batch, batch.days)) == 1:
            oldest = min(request.accept.accepted_at for request in _live(state, left.members))
            left = replace(left, accepted_at=oldest)
        state.put_batch(left)
        return
    found = fit(state, batch, left.members)
    if found.done or len(grouping.waiting_beside(state, batch, batch.days)) > 1:
        state.put_batch(left)
    else:
        apply(state, left, found.rows)


def _has_twin(state: State, left: Batch, name: str) -> bool:
    """Whether somebody who stays asks for the same in every way, so that the others fit as they did. Two hundred of a
    long backfill that are cancelled at once would else be looked at two hundred times each, in each of its slices."""
    gone = state.requests.get(name)
    if gone is None or left.refresh or left.seen_results != state.data_set(left.data_set).results:
        return False
    need = _need(gone)
    return any(_need(request) == need for request in _live(state, left.members))


def _need(request: Request) -> tuple[object, ...]:
    """What decides which days and columns a request misses, and in which pieces and class."""
    asked = request.accept
    how = (asked.priority_class, asked.force, asked.max_age_s, request.kept)
    return (asked.start, asked.end, asked.fields, *how)


def split(state: State, batch: Batch) -> list[Batch]:
    """Batches of one member each: what the provider refused as a whole is tried for each alone, once, as no attempt."""
    alone = []
    for request in _live(state, batch.members):
        member = request.accept.request_id
        whole = request.days.clip(batch.days)
        pieces = _missing(state, batch, request) or ([] if whole is None else [whole])
        for days in pieces:
            name = identity.uuid5("alone", batch.batch_id, member, days.start).hex
            extras = batching.extras_of(state, request.accept)
            row = _derived(batch, f"bat_{name}", days, extras)
            row = replace(
                row, members=(member,), state="queued", alone=True, epoch=batch.epoch + 1, refresh=False, turn=None
            )
            alone.append(row)
    return alone


def _live(state: State, names: Sequence[str]) -> list[Request]:
    return [state.requests[name] for name in names if name in state.requests]


def _missing(state: State, batch: Batch, request: Request) -> list[Days]:
    """The days that a member still needs of the batch, in pieces that may be fetched in one go."""
    mine = request.days.clip(batch.days)
    if mine is None:
        return []
    gaps = coverage.gaps(mine, batching.held(state, request, now=state.now))
    return batching.pieces_of(state, request.accept, gaps)


def _to_refresh(state: State, batch: Batch) -> list[Days]:
    """The days of a refresh that nobody has read anew meanwhile."""
    if not batch.refresh:
        return []
    report = state.rules.catalogue[batch.connector.connector_type][batch.report_type]
    found = coverage.usable(
        state.data_set(batch.data_set),
        batch.days,
        batch.extras,
        now=state.now,
        zone=batch.connector.time_zone,
        settling_days=report.settling_days,
        fresh=state.rules.freshness,
        max_age_ms=None,
        apart=report.apart_names,
    )
    return coverage.gaps(batch.days, found)


@dataclass(frozen=True, slots=True)
class _Group:
    """Pieces that a chain of shared days connects. ``refresh``: some are wanted whoever is left."""

    days: Days
    requests: tuple[Request, ...]
    refresh: bool


def _closure(need: Sequence[tuple[Days, Request | None]]) -> list[_Group]:
    """The groups by first day."""
    groups: list[_Group] = []
    for days, request in sorted(need, key=lambda n: (n[0].start, n[0].end)):
        mine = _Group(days, () if request is None else (request,), request is None)
        last = groups[-1] if groups else None
        if last is not None and last.days.end >= days.start:
            requests = (*last.requests, *mine.requests)
            groups[-1] = _Group(last.days.union(days), requests, last.refresh or mine.refresh)
        else:
            groups.append(mine)
    return groups


def _age(request: Request) -> tuple[int, str]:
    return request.accept.accepted_at, request.accept.request_id


def _row(state: State, batch: Batch, group: _Group, *, kept: bool) -> Batch:
    """The batch over one group. What a retry has become for its failures it stays, whoever leaves."""
    days, requests = group.days, group.requests
    wanted = {name for r in requests for name in batching.extras_of(state, r.accept)}
    if group.refresh:
        wanted |= set(batch.extras)
    if not batch.alone:
        wanted |= batching.held_extras(state, batch.connector, batch.report_type, days)
    oldest = min(map(_age, requests), default=(batch.accepted_at, ""))
    names = {r.accept.request_id for r in requests}
    best = batch.priority_class
    if not batch.attempts:
        best = min((r.accept.priority_class for r in requests), default=REFRESH_CLASS)
    name = batch.batch_id
    if not kept:
        seen = state.data_set(batch.data_set).results
        name = f"bat_{identity.uuid5('part', name, days.start, days.end, oldest[1], seen, batch.step_no).hex}"
    row = batch if kept else _derived(batch, name, days, ())
    return replace(
        row,
        start=days.start,
        end=days.end,
        extras=tuple(sorted(wanted)),
        priority_class=best,
        accepted_at=oldest[0],
        refresh=group.refresh,
        members=tuple(m for m in batch.members if m in names),
        seen_results=state.data_set(batch.data_set).results,
    )


def _derived(batch: Batch, name: str, days: Days, extras: tuple[str, ...]) -> Batch:
    """A batch that goes on for a part of another: with its failures, and nothing of what was begun."""
    return replace(
        batch,
        batch_id=name,
        start=days.start,
        end=days.end,
        extras=extras,
        step=0,
        remote=None,
        version=None,
        read_at=None,
        calls=0,
        paid=0,
    )
