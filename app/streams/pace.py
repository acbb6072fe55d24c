"""Keeps intake from running far ahead of the planner.

The inbox is one queue: a permit ask appended behind tens of thousands of commands would be answered when its permit is
long stale, and no fetch would run until the backlog is planned. So intake lets a milestone follow its records and
goes on when the planner has sent it back; the backlog waits on ``connector.commands``, where it hurts nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from app.domain.messages import Milestone
from app.streams import internal
from app.streams.kafka import Record

EVERY = 200
"""Records on one inbox partition after which a milestone follows; fewer need none."""
HEAVY = 20_000
"""So many bytes of a record count as one more: rows to write are fifty times as large as what is fetched, and a step of
the planner has to fit its time limit with them, too."""
AHEAD = 1
"""Milestones that may be under way while intake goes on."""
PATIENCE_S = 5.0
"""Longest wait. The planner may be moving, or the answer was sent while this worker could not read: neither may stop
intake for good, the inbox only grows by one batch more."""

log = structlog.get_logger(__name__)


class Pace:
    """Of one worker's intake; ``worker`` is its name in the group."""

    def __init__(self, worker: str, inbox: str, *, patience_s: float = PATIENCE_S) -> None:
        self._worker, self._inbox, self._patience_s = worker, inbox, patience_s
        self._since: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._moved = asyncio.Event()

    def milestones(self, records: Iterable[Record]) -> list[Record]:
        """Milestones to append behind these records, one per inbox partition where enough came together."""
        for record in records:
            if record.topic == self._inbox and record.partition is not None:
                weight = 1 + len(record.value or b"") // HEAVY
                self._since[record.partition] = self._since.get(record.partition, 0) + weight
        found = []
        for partition in [p for p, count in self._since.items() if count >= EVERY]:
            del self._since[partition]
            number = self._sent[partition] = self._sent.get(partition, 0) + 1
            message = Milestone(self._worker, partition, number)
            found.append(Record(self._inbox, internal.dump(message), None, partition))
        return found

    def on_reached(self, milestone: Milestone) -> None:
        """Called for every milestone that a planner sent back, whoever's it is."""
        if milestone.worker == self._worker:
            held = self._reached.get(milestone.partition, 0)
            self._reached[milestone.partition] = max(held, milestone.number)
            self._moved.set()

    async def room(self) -> None:
        """Returns when no planner is more than ``AHEAD`` milestones behind, or when waiting has become pointless."""
        try:
            async with asyncio.timeout(self._patience_s):
                while self._behind():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            log.warning("intake_goes_on_without_the_planner", partitions=self._behind())
            self._reached |= self._sent

    def _behind(self) -> list[int]:
        return [p for p, number in self._sent.items() if number - self._reached.get(p, 0) > AHEAD]
