"""Which open batches are near some days: an index, so that a decision does not walk all batches of a data set.

Days are binned by cells of a month. A batch stands in every cell it touches, a look-up reads the cells it touches: with
ten thousand batches of one data set it compares a month's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from app.domain.model import Days
from app.domain.rows import Batch

_CELL_DAYS = 32

Room = tuple[Hashable, ...]


def joinable(batch: Batch) -> bool:
    """Waits for its turn, has nothing at the provider, and is not tried for one member alone."""
    return batch.state == "queued" and batch.remote is None and not batch.alone


def _rooms(batch: Batch, *, full: bool) -> tuple[Room, ...]:
    if batch.state != "queued":
        return (("running", batch.data_set),)
    waits: Room = ("waiting", batch.data_set)
    if not joinable(batch):
        return (waits,)
    joins: Room = ("joinable", batch.data_set, batch.window)
    return (waits, joins) if full else (waits, joins, ("room", batch.data_set, batch.window))


@dataclass(slots=True)
class Nearby:
    """Open batches by what may become of them, and by their days."""

    _cells: dict[tuple[Room, int], dict[str, Days]] = field(default_factory=dict)
    _placed: dict[str, tuple[tuple[Room, ...], Days]] = field(default_factory=dict)

    def put(self, batch: Batch, *, full: bool) -> None:
        """Takes a batch in, or moves it to where it belongs now. ``full``: it has all the members it may have."""
        place = (_rooms(batch, full=full), batch.days)
        if self._placed.get(batch.batch_id) == place:
            return
        self.drop(batch.batch_id)
        self._placed[batch.batch_id] = place
        for key in _keys(*place):
            self._cells.setdefault(key, {})[batch.batch_id] = batch.days

    def drop(self, batch_id: str) -> None:
        """Forgets a batch; one that is not here is no error."""
        place = self._placed.pop(batch_id, None)
        if place is None:
            return
        for key in _keys(*place):
            cell = self._cells[key]
            del cell[batch_id]
            if not cell:
                del self._cells[key]

    def running(self, data_set: str, days: Days) -> list[str]:
        """Ids of batches that a worker or the provider works on and that share a day with these."""
        return self._find(("running", data_set), days)

    def waiting(self, data_set: str, days: Days) -> list[str]:
        """Ids of batches that wait for their turn and share a day with these."""
        return self._find(("waiting", data_set), days)

    def joinable(self, data_set: str, window: int, days: Days) -> list[str]:
        """The same of one window, without those that nobody may join."""
        return self._find(("joinable", data_set, window), days)

    def with_room(self, data_set: str, window: int, days: Days) -> list[str]:
        """Of those the ones that are not full."""
        return self._find(("room", data_set, window), days)

    def _find(self, room: Room, days: Days) -> list[str]:
        found: dict[str, None] = {}
        for cell in _cells_of(days):
            near = self._cells.get((room, cell))
            if near:
                found.update(dict.fromkeys(name for name, own in near.items() if own.overlaps(days)))
        return list(found)


def _cells_of(days: Days) -> range:
    return range(days.start // _CELL_DAYS, days.end // _CELL_DAYS + 1)


def _keys(rooms: tuple[Room, ...], days: Days) -> Iterator[tuple[Room, int]]:
    return ((room, cell) for room in rooms for cell in _cells_of(days))
