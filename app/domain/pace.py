"""What a fetch takes, and how far estimates were off: what estimates are made of."""

from __future__ import annotations

from dataclasses import dataclass

_BEYOND = 10
_SLOWEST = 0.02
"""Share of the newest in a mean that follows what changes; the first ones count more."""


@dataclass(slots=True)
class Mean:
    """A moving mean. ``value`` is what is assumed before anything was measured, and counts as one measurement."""

    value: float
    count: int = 1

    def add(self, found: float) -> None:
        self.count += 1
        self.value += max(_SLOWEST, 1 / self.count) * (found - self.value)


class Pace:
    """Memory only, learned anew within some fetches. Spans in ms."""

    def __init__(self) -> None:
        self.hold_ms = Mean(2_000.0)
        """How long a fetch holds a slot, all its steps together."""
        self.calls = Mean(1.0)
        """Of a fetch, polls included."""
        self.latency_ms = Mean(500.0)
        """Of a call."""
        self._slots_ms = 0.0

    def step_ended(self, ms: int) -> None:
        """A slot was given back. One that was held beyond all measure (its worker was lost, or time stood still) must
        not be what everybody is told for the next hour."""
        self._slots_ms += max(0, min(ms, round(_BEYOND * self.hold_ms.value)))

    def fetch_ended(self, calls: int) -> None:
        """The slot time since the last end is, in the mean, that of one fetch."""
        self.hold_ms.add(self._slots_ms)
        self._slots_ms = 0.0
        if calls:
            self.calls.add(calls)


@dataclass(frozen=True, slots=True)
class Ratios:
    """A durable row: logarithms of the 50th and 90th percentile of real wait over raw estimate, and how many starts
    they were learned from."""

    middle: float = 0.0
    high: float = 0.5
    count: int = 0
