"""The sandbox's two clocks, read together once per call and passed on as one value."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Instant(NamedTuple):
    """``unix`` seconds since the epoch; ``monotonic`` seconds of a clock that never steps (for quotas)."""

    unix: float
    monotonic: float


Clock = Callable[[], Instant]


def system_clock() -> Instant:
    """Both clocks of this machine, now."""
    return Instant(time.time(), time.monotonic())
