"""Every organisation's floor: a share of its fair share that no better class of another's takes (docs/planner.md
section 1).

Each start guarantees every organisation with ready work its part of the floors, by weight. Whoever is served uses what
it was guaranteed so far; whoever is not is due a turn when a whole fetch is guaranteed. Being served more than that is
no debt, and at most one turn is saved. Memory only: after a restart all begin level.
"""

from __future__ import annotations

from app.domain.ranked import Ranked


class Floors:
    """``percent`` of its fair share is what every organisation with ready work gets. Sizes are a fetch's calls over the
    organisation's weight, in any unit."""

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._level = 0
        """What everybody who had work all the time was guaranteed."""
        self._used: dict[int, int] = {}
        """Up to which level an organisation has used its guarantee."""
        self._left: dict[int, int] = {}
        """The level when an organisation without ready work had some last."""
        self._turns: Ranked[tuple[int, int]] = Ranked()
        """(level at which a whole fetch is guaranteed, organisation) of those with ready work."""
        self._ready: dict[int, tuple[int, int]] = {}
        """Their (weight, size of a fetch)."""
        self._weight = 0

    def ready(self, org_id: int, weight: int, size: int) -> None:
        """An organisation has ready work now. While it had nothing to do, or could do nothing, it was guaranteed
        nothing; what it had not used before is still there."""
        self._ready[org_id] = (weight, size)
        self._weight += weight
        away = self._level - self._left.pop(org_id, self._level)
        used = self._used[org_id] = self._used.get(org_id, self._level) + away
        self._turns.add((used + size, org_id))

    def idle(self, org_id: int) -> None:
        """It has none any longer."""
        weight, size = self._ready.pop(org_id)
        self._weight -= weight
        self._left[org_id] = self._level
        self._turns.remove((self._used[org_id] + size, org_id))

    def due(self) -> int | None:
        """Who has waited longest for a turn that is guaranteed by now; None: nobody."""
        first = self._turns.first
        return None if first is None or first[0] > self._level else first[1]

    def took(self, org_id: int) -> None:
        """An organisation with ready work got a turn, whether it was due or not."""
        weight, size = self._ready[org_id]
        self._level += self._percent * size * weight // (100 * self._weight)
        used = self._used[org_id]
        self._turns.remove((used + size, org_id))
        used = self._used[org_id] = max(min(used + size, self._level), self._level - size)
        self._turns.add((used + size, org_id))
