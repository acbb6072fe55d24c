"""Who is fetched together: the closure of overlap.

Pieces of requests belong together where a chain of shared days connects them: same data set, same window, the same
columns that do not add up, not dispatched. Such a *group* is one batch over the union of its days and columns, in the
best class of its members. Closure does not ask who came first, and the union has no day that nobody asked for.

A batch has at most ``max_members``. A larger group is several batches, all of the same days, columns and class: the
first one fetched has what all of them need, and the others, which may not run beside it, are then served by reuse. So
what is fetched is the same in every order of arrival; who is in which batch of such a group goes by arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from app.domain.model import Days
from app.domain.rows import Batch
from app.domain.state import State


@dataclass(slots=True)
class Joining:
    """What one request's pieces do to the waiting batches; nothing is changed before ``apply``."""

    state: State
    apart: frozenset[str]
    """The report type's columns that do not add up."""
    batches: dict[str, Batch] = field(default_factory=dict)
    """Those that are made or changed, as they will be. All have the same columns that do not add up."""
    gone: dict[str, str] = field(default_factory=dict)
    """Id of a batch that another one takes in -> that one's id."""
    _mine: dict[str, None] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The batches that serve the request, in order of its pieces."""
        return tuple(dict.fromkeys(self._stays(name) for name in self._mine))

    def join(self, mine: Batch) -> None:
        """Takes in one piece, as the batch it would be on its own: one member, days that no other piece has."""
        if self._has_place(mine):
            return
        parts = set(self.parts)
        group = sorted(self._group(mine), key=lambda b: (b.accepted_at, b.batch_id))
        here = next((b for b in group if b.batch_id in parts), None)
        whole = [*group, mine]
        shape = _shape(whole)
        packs = _packed(group if here else whole, self.state.rules.max_members)
        for pack in packs:
            if len(pack) == 1 and pack[0] is not mine and _has_shape(pack[0], shape):
                continue
            row = _merge(pack, shape)
            self.batches[row.batch_id] = row
            for other in pack[1:]:
                self.gone[other.batch_id] = row.batch_id
                self.batches.pop(other.batch_id, None)
            if here is None and pack[-1] is mine:
                self._mine[row.batch_id] = None

    def now(self, name: str) -> Batch:
        """A batch as it will be."""
        return self.batches.get(name) or self.state.batches[name]

    def apply(self) -> None:
        """Makes it so. Members of a batch that another one took in are given that one's id."""
        for name in self.gone:
            old = self.state.batches.get(name)
            if old is not None:
                self._rename(old, self._stays(name))
                self.state.drop_batch(name)
        for row in self.batches.values():
            self.state.put_batch(row)

    def _has_place(self, mine: Batch) -> bool:
        """Takes the piece in where that changes nothing but the members of one batch, without a look at its group:
        five hundred full batches of one day would be five hundred looks for each further request."""
        if any(row.days.overlaps(mine.days) for row in self.batches.values()):
            return False
        near = self.state.near.with_room(mine.data_set, mine.window, mine.days)
        for row in (self.state.batches[name] for name in near if name not in self.gone):
            if _holds(row, mine) and self.apart.isdisjoint(set(row.extras).difference(mine.extras)):
                members = (*row.members, *mine.members)
                self.batches[row.batch_id] = replace(row, members=members, not_before=_not_before([row, mine]))
                self._mine[row.batch_id] = None
                return True
        return False

    def _stays(self, name: str) -> str:
        while name in self.gone:
            name = self.gone[name]
        return name

    def _group(self, mine: Batch) -> list[Batch]:
        """All that a chain of shared days connects with the piece."""
        group: dict[str, Batch] = {}
        days = mine.days
        while new := {b.batch_id: b for b in self._near(mine, days) if b.batch_id not in group}:
            group |= new
            for row in new.values():
                days = days.union(row.days)
        return list(group.values())

    def _near(self, mine: Batch, days: Days) -> Iterator[Batch]:
        known = waiting_beside(self.state, mine, days)
        yield from (b for b in known if b.batch_id not in self.gone and b.batch_id not in self.batches)
        yield from (b for b in self.batches.values() if b.days.overlaps(days))

    def _rename(self, old: Batch, name: str) -> None:
        for member in old.members:
            row = self.state.requests.get(member)
            if row is None or old.batch_id not in row.parts:
                continue
            parts = tuple(dict.fromkeys(name if p == old.batch_id else p for p in row.parts))
            known = tuple(dict.fromkeys(name if p == old.batch_id else p for p in row.batches))
            self.state.put_request(replace(row, parts=parts, batches=known, revision=row.revision + 1))


def waiting_beside(state: State, mine: Batch, days: Days) -> list[Batch]:
    """The waiting batches that a batch over ``days`` belongs together with; itself, if it is one of them."""
    apart = state.rules.catalogue[mine.connector.connector_type][mine.report_type].apart_names
    same = apart.intersection(mine.extras)
    rows = [state.batches[name] for name in state.near.joinable(mine.data_set, mine.window, days)]
    return [row for row in rows if apart.intersection(row.extras) == same]


def _shape(group: Sequence[Batch]) -> Batch:
    """A batch with what all batches of a group have in common, whoever is in which of them."""
    return replace(
        group[0],
        start=min(b.start for b in group),
        end=max(b.end for b in group),
        extras=tuple(sorted({name for b in group for name in b.extras})),
        priority_class=min(b.priority_class for b in group),
        accepted_at=min(b.accepted_at for b in group),
    )


def _holds(row: Batch, mine: Batch) -> bool:
    """All that the piece asks for is in the batch already, and in time."""
    wider = row.days.covers(mine.days) and set(mine.extras) <= set(row.extras)
    return wider and row.priority_class <= mine.priority_class and row.accepted_at <= mine.accepted_at


def _has_shape(row: Batch, shape: Batch) -> bool:
    same = row.start == shape.start and row.end == shape.end and row.extras == shape.extras
    return same and row.priority_class == shape.priority_class and row.accepted_at == shape.accepted_at


def _packed(rows: Sequence[Batch], most: int) -> list[list[Batch]]:
    """Which of them become one batch, the first of each pack keeping its id: a full one stays as it is."""
    packs: list[tuple[list[Batch], set[str]]] = []
    full: list[list[Batch]] = []
    for row in rows:
        if len(row.members) >= most:
            full.append([row])
            continue
        into = next((p for p in packs if len(p[1].union(row.members)) <= most), None)
        if into is None:
            packs.append(([row], set(row.members)))
        else:
            into[0].append(row)
            into[1].update(row.members)
    return [*full, *(pack for pack, _ in packs)]


def _merge(pack: Sequence[Batch], shape: Batch) -> Batch:
    return replace(
        pack[0],
        start=shape.start,
        end=shape.end,
        extras=shape.extras,
        priority_class=shape.priority_class,
        accepted_at=shape.accepted_at,
        members=tuple(dict.fromkeys(m for b in pack for m in b.members)),
        not_before=_not_before(pack),
        turn=min((b.turn for b in pack if b.turn is not None), default=None),
        refresh=any(b.refresh for b in pack),
    )


def _not_before(rows: Sequence[Batch]) -> int:
    """A retry's delay holds for whoever joins it: it is the provider's. Other delays end with one who need not wait."""
    retries = [b.not_before for b in rows if b.attempts]
    return max(retries) if retries else min(b.not_before for b in rows)
