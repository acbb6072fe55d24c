"""Where the planners are: the states that this worker owns, and the addresses of the workers that own the others."""

from __future__ import annotations

from typing import Any

from app.domain.model import INBOX_PARTITION
from app.domain.state import State
from app.ports import Clock
from app.streams import faust_touches
from app.streams.ownership import Ownership


class Planners:
    """``rows`` is the topic of the planners' rows, ``worker`` this worker's own name in the group."""

    def __init__(self, app: Any, rows: str, worker: str, ownership: Ownership, clock: Clock) -> None:
        self._app, self._rows, self._worker = app, rows, worker
        self._ownership, self._clock = ownership, clock

    def owned(self, connector_type: str) -> tuple[State, int] | None:
        """The planner's state, and quota time by now (ms): since its last step it is taken to have run on. None where
        it is not owned in the current assignment, or not read back yet."""
        owner = self._ownership.owners.get(INBOX_PARTITION.get(connector_type, -1))
        if owner is None or not owner.ready or owner.generation != faust_touches.generation(self._app):
            return None
        if owner.state.restored:
            return None  # before its first step an heir knows neither the time nor why anybody waits
        return owner.state, owner.state.now + round((self._clock.monotonic() - owner.stepped_at) * 1000)

    def owner(self, connector_type: str) -> str | None:
        """Base URL of another worker that owns it. Names in the group are that URL and what tells a restart apart."""
        name = faust_touches.owner(self._app, self._rows, INBOX_PARTITION.get(connector_type, -1))
        return None if name is None or name == self._worker else name.rpartition("/")[0]
