"""What a fetch takes, and how far estimates were off: what estimates are made of."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_BEYOND = 10
_TURNS_OVER_MS = 900_000
_FEWEST_TURNS = 5.0
_NARROWEST = 0.01
"""Between the median and the 90th percentile of a ratio, as a logarithm."""
_SLOWEST = 0.02
"""Share of the newest in a mean that follows what changes; the first ones count more."""


@dataclass(slots=True)
class Mean:
    """A moving mean. ``value`` is what is assumed before anything was measured; it counts as ``count`` measurements."""

    value: float
    count: int = 1

    def add(self, found: float) -> None:
        self.count += 1
        self.value += max(_SLOWEST, 1 / self.count) * (found - self.value)


@dataclass(slots=True)
class Turns:
    """Starts of one organisation in one class, over the time in which it had work waiting: the last quarter of an hour
    counts most. Who else comes and is served meanwhile is in it; a place in the line tells only who is there now."""

    starts: float = 0.0
    over_ms: float = 0.0
    last_at: int | None = None

    def taken(self, now: int, waited_from: int) -> None:
        """A start. It says something only if its batch waited when the last one started."""
        if self.last_at is not None:
            passed, kept = now - self.last_at, self._kept(now)
            self.starts, self.over_ms = self.starts * kept, self.over_ms * kept
            if waited_from <= self.last_at:
                self.starts, self.over_ms = self.starts + 1.0, self.over_ms + passed
        self.last_at = now

    def each_ms(self, now: int) -> float | None:
        """Time between two of them; None as long as it would say little, and again when it was long ago."""
        enough = self.starts * self._kept(now) >= _FEWEST_TURNS
        return self.over_ms / self.starts if enough else None

    def _kept(self, now: int) -> float:
        return math.exp(-max(0, now - (self.last_at or now)) / _TURNS_OVER_MS)


@dataclass(slots=True)
class Fetch:
    """What one fetch has taken so far: slot time of its steps, and calls by the quota that counts them."""

    slots_ms: float = 0.0
    began_at: int | None = None
    """While it is begun and not ended."""
    calls: Counter[str] = field(default_factory=Counter)


class Pace:
    """Memory only, learned anew within some fetches. Spans in ms."""

    def __init__(self) -> None:
        self.hold_ms = Mean(2_000.0)
        """How long a fetch holds a slot, all its steps together."""
        self.job_ms = Mean(0.0, 0)
        """From a fetch's start to its end or its return to the queue, with all the time at the provider; 0 as long as
        none was measured."""
        self.latency_ms = Mean(500.0)
        """Of a call."""
        self.turns: dict[tuple[int, int], Turns] = {}
        """(organisation, class) -> how fast its turns follow one another while it waits for them."""
        self._calls: dict[str, Mean] = {}
        self._fetches: dict[str, Fetch] = {}

    def turn_taken(self, tag: tuple[int, int], now: int, waited_from: int) -> None:
        """A batch of an organisation and class starts, which could have started from ``waited_from`` on."""
        self.turns.setdefault(tag, Turns()).taken(now, waited_from)

    def fetch_began(self, batch_id: str, now: int) -> None:
        """A fetch starts, or starts again. One whose beginning was not seen, as those that a new owner finds under way,
        would tell of a part as if it were the whole, and is not measured."""
        self._fetches.setdefault(batch_id, Fetch()).began_at = now

    def job_ended(self, batch_id: str, now: int) -> None:
        """It is not under way any longer; one that was not is no error."""
        fetch = self._fetches.get(batch_id)
        if fetch is not None and fetch.began_at is not None:
            self.job_ms.add(now - fetch.began_at)
            fetch.began_at = None

    def step_ended(self, batch_id: str, ms: int) -> None:
        """A slot was given back. One that was held beyond all measure (its worker was lost, or time stood still) must
        not be what everybody is told for the next hour."""
        if batch_id in self._fetches:
            self._fetches[batch_id].slots_ms += max(0, min(ms, round(_BEYOND * self.hold_ms.value)))

    def spent(self, batch_id: str, quota: str) -> None:
        """A fetch's call was permitted out of a quota."""
        if batch_id in self._fetches:
            self._fetches[batch_id].calls[quota] += 1

    def calls(self, quota: str) -> float:
        """Calls of a fetch that a quota counts, polls included; 0 as long as none was measured."""
        return self._calls[quota].value if quota in self._calls else 0.0

    def fetch_ended(self, batch_id: str) -> None:
        """A fetch is over; of one that never held a slot this says nothing."""
        fetch = self._fetches.pop(batch_id, None)
        if fetch is None:
            return
        self.hold_ms.add(fetch.slots_ms)
        for quota, count in fetch.calls.items():
            self._calls.setdefault(quota, Mean(0.0, 0)).add(count)


@dataclass(frozen=True, slots=True)
class Ratios:
    """A durable row: what was learned of the logarithms of real wait over raw estimate. Their median, their mean
    distance from it, how many times that the 90th percentile lies above it, and from how many starts."""

    middle: float = 0.0
    spread: float = 0.3
    times: float = 1.6
    count: int = 0

    @property
    def high(self) -> float:
        """The 90th percentile."""
        return self.middle + max(_NARROWEST, self.times * self.spread)
