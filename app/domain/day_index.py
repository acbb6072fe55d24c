"""Which open batches overlap given days of a data set, without looking at all of its batches."""

from __future__ import annotations

from collections.abc import Iterator

from app.domain.model import Days

CELL = 32
"""Days of one cell: most ranges touch one or two."""


class DayIndex:
    """Batch ids by (data set, cell of days)."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int], dict[str, Days]] = {}
        self._of: dict[str, tuple[str, Days]] = {}

    def put(self, data_set: str, batch_id: str, days: Days) -> None:
        """Adds a batch, or moves it to its new days."""
        if self._of.get(batch_id) == (data_set, days):
            return
        self.drop(batch_id)
        self._of[batch_id] = (data_set, days)
        for cell in _cells(days):
            self._cells.setdefault((data_set, cell), {})[batch_id] = days

    def drop(self, batch_id: str) -> None:
        """Takes a batch out; one that is not there is no error."""
        data_set, days = self._of.pop(batch_id, ("", None))
        for cell in () if days is None else _cells(days):
            found = self._cells[data_set, cell]
            del found[batch_id]
            if not found:
                del self._cells[data_set, cell]

    def overlapping(self, data_set: str, days: Days) -> Iterator[str]:
        """Ids of the batches that share a day with ``days``, each once. The index may change meanwhile."""
        seen: set[str] = set()
        for cell in _cells(days):
            for batch_id, mine in list(self._cells.get((data_set, cell), {}).items()):
                if batch_id not in seen and mine.overlaps(days):
                    seen.add(batch_id)
                    yield batch_id

    def __len__(self) -> int:
        return len(self._of)


def _cells(days: Days) -> range:
    return range(days.start // CELL, days.end // CELL + 1)
