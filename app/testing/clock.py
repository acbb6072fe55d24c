"""A clock that stands still until it is told to move."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FakeClock:
    """``ports.Clock``: wall time in ms since the epoch and a monotonic clock in seconds, moved together."""

    now_ms: int = 1_767_225_600_000
    elapsed_s: float = 1000.0

    def now(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        """Moves both clocks on."""
        self.now_ms += round(seconds * 1000)
        self.elapsed_s += seconds
