"""The newest records of several partitions: which they are is known only when all have been read."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from app.cli.output import say

Key = tuple[int, int, int]


class Newest:
    """Keeps ``limit`` records by (timestamp, partition, offset) and hands them to ``put`` in that order."""

    def __init__(self, limit: int, put: Callable[[Any], None]) -> None:
        self._limit, self.put = limit, put
        self._kept: list[tuple[Key, Any]] = []
        self.left_out = self.shown = 0

    def take(self, record: Any, value: Any) -> None:
        """Keeps ``value`` as long as its record is one of the newest."""
        entry = ((record.timestamp, record.partition, record.offset), value)
        if len(self._kept) < self._limit:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)
            self.left_out += 1

    def show(self) -> None:
        """Hands out what was kept, oldest first."""
        for _, value in sorted(self._kept, key=lambda entry: entry[0]):
            self.put(value)
        self.shown, self._kept = len(self._kept), []


def tell_rest(newest: Newest, what: str, from_ms: int) -> None:
    """Says on standard error what is not in the output: older records, or that there is none at all."""
    from app.cli.following import now_ms
    from app.services.wording import clock

    since = clock(from_ms, now_ms())
    if newest.left_out:
        say(f"{newest.left_out} older ones since {since} are left out; --limit shows more")
    elif not newest.shown:
        say(f"no {what} since {since}")
