"""Every organisation's floor: a share of its fair share that no better class of another's takes (docs/planner.md
section 1).

Memory only. After a restart all begin with nothing served and nothing saved.
"""

from __future__ import annotations

from app.domain.ranked import Ranked

_WHOLE_TURN = 10_000


class Floors:
    """``percent`` of its fair share is what every organisation with ready work gets."""

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._served: dict[int, int] = {}
        self._hungry: Ranked[tuple[int, int]] = Ranked()
        """(served, organisation) of those with ready work."""
        self._weights: dict[int, int] = {}
        """Of the same."""
        self._weight = 0
        self._level = 0
        """What the least served had been served at the last start."""
        self._credit = 0

    def ready(self, org_id: int, weight: int) -> None:
        """An organisation has ready work now. Who had nothing to do, or could do nothing, has saved nothing."""
        self._weights[org_id] = weight
        self._weight += weight
        served = self._served[org_id] = max(self._served.get(org_id, 0), self._level)
        self._hungry.add((served, org_id))

    def idle(self, org_id: int) -> None:
        """It has none any longer."""
        self._weight -= self._weights.pop(org_id)
        self._hungry.remove((self._served[org_id], org_id))

    def due(self) -> int | None:
        """Whose the next turn is, if a turn of the floors is due: theirs who was served least."""
        first = self._hungry.first
        return None if first is None or self._credit < _WHOLE_TURN else first[1]

    def took(self, org_id: int, size: int, *, floor: bool) -> None:
        """An organisation with ready work got a turn of this size. ``floor``: one of the floors', which is spent by it;
        each other turn earns them so much that of all turns they have their percentage of what is due to the others."""
        if (first := self._hungry.first) is not None:
            self._level = max(self._level, first[0])
        if floor:
            self._credit = max(0, self._credit - _WHOLE_TURN)
        else:
            due = self._percent * (self._weight - self._weights[org_id])
            # Rounded up. More than a turn is saved only by who could not take it, and nobody saves that for later.
            earned = -(-_WHOLE_TURN * due // (100 * self._weight - due))
            self._credit = min(self._credit, _WHOLE_TURN) + earned
        self._hungry.remove((self._served[org_id], org_id))
        self._served[org_id] += size
        self._hungry.add((self._served[org_id], org_id))
