"""How fast work starts, and how far estimates were off: what estimates are made of."""

from __future__ import annotations

from dataclasses import dataclass

_BEYOND = 10


@dataclass(slots=True)
class Pace:
    """Memory only, learned anew within some starts. Spans in ms."""

    starts: float = 0.0
    """Fetches that started while others that could start were left, and the time that took; both fade."""
    elapsed_ms: float = 0.0
    since: int | None = None
    """Work has been left waiting since then (ms); None: none is."""
    hold_ms: float = 2_000.0
    """How long a fetch holds a slot, all its steps together; moving mean."""
    slots_ms: float = 0.0
    """Slot time since the last fetch ended."""
    latency_ms: float = 500.0
    """Of a call; moving mean."""

    def step_ended(self, ms: int) -> None:
        """A slot was given back. One that was held beyond all measure (its worker was lost, or time stood still) must
        not be what everybody is told for the next hour."""
        self.slots_ms += max(0, min(ms, round(_BEYOND * self.hold_ms)))

    def fetch_ended(self) -> None:
        """The slot time since the last end is, in the mean, that of one fetch."""
        self.hold_ms, self.slots_ms = 0.9 * self.hold_ms + 0.1 * self.slots_ms, 0.0

    def called(self, ms: int) -> None:
        """A call was answered."""
        self.latency_ms = 0.95 * self.latency_ms + 0.05 * ms


@dataclass(frozen=True, slots=True)
class Ratios:
    """A durable row: logarithms of the 50th and 90th percentile of real wait over raw estimate, and how many starts
    they were learned from."""

    middle: float = 0.0
    high: float = 0.5
    count: int = 0
