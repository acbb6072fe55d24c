"""Merging by definition, slow and obvious: pieces day by day, then union-find over pairs that belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from app.domain.messages import Accept
from app.domain.model import Catalogue, ReportType
from app.domain.rules import Rules
from app.domain.state import State
from app.testing.planning import CATALOGUE, NOW, REPORT, TODAY, accept, facts, quota, rules

APART = frozenset({"reach", "frequency"})
STANDARD = frozenset(CATALOGUE["DV360"][REPORT].standard_names)


WINDOW_MS = 300_000
WINDOW = NOW - NOW % WINDOW_MS

Drawn = list[tuple[int, int, tuple[str, ...], int, int, int, bool]]
"""Requests: days ago of the last day, days before it, columns, class, ms in the windows, connector, force."""


def accepts_of(rows: Drawn) -> list[Accept]:
    """The requests, numbered from 1."""
    return [
        accept(
            n, TODAY - ago - length, TODAY - ago, fields=fields, priority_class=priority, accepted_at=WINDOW + at,
            connector=facts(number), force=force,
        )
        for n, (ago, length, fields, priority, at, number, force) in enumerate(rows, 1)
    ]  # fmt: skip


def report(longest: int = 0) -> ReportType:
    """The builders' report type, in which reach and frequency do not add up."""
    known = CATALOGUE["DV360"][REPORT]
    reach = next(f for f in known.fields if f.name == "reach")
    fields = (*known.fields, replace(reach, name="frequency"))
    fields = tuple(replace(f, additive=f.name not in APART) for f in fields)
    return replace(known, fields=fields, longest_range_days=longest)


def rules_with(longest: int = 0, slice_days: int = 31, **changes: Any) -> Rules:
    """Rules whose one report type has a longest range, and a slice for backfills."""
    catalogue: Catalogue = {"DV360": {REPORT: report(longest)}}
    return replace(rules([quota()], backfill_slice_days=slice_days, **changes), catalogue=catalogue)


def closed(using: Rules) -> State:
    """A planner whose provider said *not now*: nothing is dispatched, so that every batch can be looked at."""
    state = State(using, now=NOW)
    state.limits_of_type("DV360").close("per_second|", NOW + 86_400_000)
    return state


@dataclass(frozen=True)
class Piece:
    """Days of one request that are fetched in one go."""

    accept: Accept
    days: frozenset[int]

    @property
    def apart(self) -> frozenset[str]:
        return APART.intersection(self.accept.fields)


def pieces(accept: Accept, missing: Iterable[int], using: Rules) -> list[Piece]:
    """The missing days, cut where one is not missing and where the provider's grid has an edge; a backfill's, where
    that leaves more than a slice, where the slices' grid has one."""
    longest, slice_days = using.catalogue["DV360"][REPORT].longest_range_days, using.backfill_slice_days
    sliced = accept.priority_class == 5 and not 0 < longest <= slice_days
    found = _runs(missing, longest)
    if sliced and slice_days:
        found = [part for run in found for part in (_runs(run, slice_days) if len(run) > slice_days else [run])]
    return [Piece(accept, frozenset(days)) for days in found]


def _runs(days: Iterable[int], edge: int) -> list[list[int]]:
    """Neighbouring days together, up to the next multiple of ``edge`` (0: none)."""
    found: list[list[int]] = []
    for day in sorted(days):
        if found and found[-1][-1] == day - 1 and not (edge and day % edge == 0):
            found[-1].append(day)
        else:
            found.append([day])
    return found


def together(one: Piece, other: Piece, window_ms: int) -> bool:
    """Whether two pieces share a batch for their own sake."""
    a, b = one.accept, other.accept
    same = a.connector == b.connector and a.accepted_at // window_ms == b.accepted_at // window_ms
    return same and one.apart == other.apart and bool(one.days & other.days)


def groups_of(parts: list[Piece], window_ms: int) -> list[list[Piece]]:
    """The closure, by union-find."""
    parent = list(range(len(parts)))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    for a, one in enumerate(parts):
        for b, other in enumerate(parts[:a]):
            if together(one, other, window_ms):
                parent[root(a)] = root(b)
    found: dict[int, list[Piece]] = {}
    for at, part in enumerate(parts):
        found.setdefault(root(at), []).append(part)
    return list(found.values())


@dataclass(frozen=True, order=True)
class Group:
    """What is fetched in one go. ``members`` are those of all its batches."""

    data_set: str
    window: int
    start: int
    end: int
    columns: tuple[str, ...]
    priority_class: int
    accepted_at: int
    members: tuple[str, ...] = ()


def expected(needs: Iterable[tuple[Accept, Iterable[int]]], using: Rules) -> list[Group]:
    """Every group of these requests with their missing days."""
    parts = [piece for accept, missing in needs for piece in pieces(accept, missing, using)]
    return sorted(_group(g, using.window_ms) for g in groups_of(parts, using.window_ms))


def _group(parts: list[Piece], window_ms: int) -> Group:
    accepts = [p.accept for p in parts]
    days = {day for p in parts for day in p.days}
    assert len(days) == max(days) - min(days) + 1, "a chain of shared days has no hole"
    return Group(
        f"{accepts[0].connector.connector_id}|{REPORT}",
        accepts[0].accepted_at // window_ms,
        min(days),
        max(days),
        tuple(sorted({f for a in accepts for f in a.fields} - STANDARD)),
        min(a.priority_class for a in accepts),
        min(a.accepted_at for a in accepts),
        tuple(sorted({a.request_id for a in accepts})),
    )


def found_in(state: State) -> list[Group]:
    """The same of a planner, the batches of a group too large for one taken together. Every request waits for exactly
    the batches that it is a member of, and no batch is too large."""
    for row in state.requests.values():
        name = row.accept.request_id
        assert set(row.parts) == {b.batch_id for b in state.batches.values() if name in b.members}
    members: dict[Group, set[str]] = {}
    for b in state.batches.values():
        assert 0 < len(set(b.members)) == len(b.members) <= state.rules.max_members
        key = Group(b.data_set, b.window, b.start, b.end, b.extras, b.priority_class, b.accepted_at)
        members.setdefault(key, set()).update(b.members)
    return sorted(replace(key, members=tuple(sorted(names))) for key, names in members.items())
