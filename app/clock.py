"""The only place that reads the time."""

from __future__ import annotations

import time


class SystemClock:
    """``ports.Clock`` on this machine's clocks."""

    def now(self) -> int:
        """Milliseconds since the epoch, UTC; may step when the machine's clock is set."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of a clock that never steps; only differences mean anything."""
        return time.monotonic()
