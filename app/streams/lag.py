"""How far this worker's inputs are behind, set at each scrape from what the consumer knows anyway: no call is made.

Ends of logs are those of the consumer's last fetch; a partition whose stream is full is not fetched, so that its lag is
at least what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from app.streams import faust_touches
from app.streams.ownership import Owner
from app.streams.topics import Names
from app.telemetry.metrics import Metrics


class ConsumerLag:
    """Commands that intake has not committed, and inbox records that no step has taken."""

    def __init__(
        self,
        app: Any,
        names: Names,
        owners: Mapping[int, Owner],
        metrics: Metrics,
        *,
        assigned: Callable[[Any, str], set[int]] = faust_touches.assigned,
    ) -> None:
        self._app, self._names, self._owners = app, names, owners
        self._gauge, self._assigned = metrics.consumer_lag, assigned
        metrics.before_exposition(self.refresh)

    def refresh(self) -> None:
        """Sets the gauge anew; partitions that went to another worker disappear."""
        self._gauge.clear()
        for partition in self._assigned(self._app, self._names.commands):
            tp = TP(self._names.commands, partition)
            # None until the group has committed once: before that nobody here knows where the log begins.
            committed = self._app.consumer._committed_offset  # noqa: SLF001 - Faust tells it in no other way
            self._show("commands", tp, committed.get(tp))
        for partition, owner in self._owners.items():
            if owner.ready:
                self._show("planner", TP(self._names.planner, partition), owner.position + 1)

    def _show(self, topic: str, tp: TP, taken: int | None) -> None:
        end = self._end(tp)
        if end is not None and taken is not None:
            self._gauge.labels(topic, str(tp.partition)).set(max(0, end - taken))

    def _end(self, tp: TP) -> int | None:
        """The log's end as last fetched; None while nothing was, or when the partition is just moving."""
        try:
            end: int | None = self._app.consumer.highwater(tp)
        except (ConsumerNotStarted, AssertionError, KeyError):
            return None
        return end
