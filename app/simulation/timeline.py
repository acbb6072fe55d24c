"""Simulated time: a heap of what will happen."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.simulation.scenario import Between, Lognormal

MS = 1000
"""Milliseconds of a second: scenarios are written in seconds, time runs in milliseconds."""


@dataclass(slots=True)
class Timeline:
    """What will happen, in order of time (ms). Things due at one instant happen in the order they were noted in."""

    now: int
    draw: random.Random
    entries: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = field(default_factory=list)
    _noted: int = 0

    def at(self, when: int, do: Callable[..., object], *what: Any) -> None:
        self._noted += 1
        heapq.heappush(self.entries, (when, self._noted, do, what))

    def after(self, span: Between, do: Callable[..., object], *what: Any) -> None:
        self.at(self.now + self.between(span), do, *what)

    def between(self, span: Between) -> int:
        """A drawn span in ms."""
        return int((span.least + self.draw.random() * (span.most - span.least)) * MS)

    def lasting(self, span: Lognormal) -> int:
        """A drawn span in ms."""
        return lasting_ms(span, self.draw)


def lasting_ms(span: Lognormal, draw: random.Random) -> int:
    """A span in ms drawn from a distribution."""
    factor = draw.lognormvariate(0.0, span.sigma) if span.sigma else 1.0
    return int((span.median * factor + draw.random() * span.jitter) * MS)
