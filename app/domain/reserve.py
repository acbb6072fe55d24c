"""What a quota keeps for classes 1 and 2, so that what waits longest in the day does not find it spent.

A sliding bucket always keeps the same share. A calendar bucket keeps less as its day goes by, in a straight line down
to nothing at the last moment whose calls count in that day alone: whatever nobody better has asked for is used. Exact:
whole calls, rounded down, and whole milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from app.domain.model import Quota
from app.domain.rows import Batch

LAST_SERVED_CLASS = 2
"""The reserve is for this class and those before it."""

CALENDAR_SHARE = Fraction(1, 10)
"""Of a calendar quota whose reserve nobody has set; a sliding one then has none."""


@dataclass(frozen=True, slots=True)
class Melting:
    """A reserve of ``calls`` that melts from ``opens`` to ``ends`` (ms)."""

    calls: Fraction
    opens: int
    ends: int

    def at(self, now: int) -> int:
        """Calls kept at an instant: all before the day, none after it."""
        length = self.ends - self.opens
        if length <= 0:
            return 0
        left = min(max(self.ends - now, 0), length)
        return self.calls.numerator * left // (self.calls.denominator * length)

    def free_at(self, most: int) -> int:
        """The first ms at which no more than ``most`` (>= 0) calls are kept."""
        length = self.ends - self.opens
        if length <= 0 or self.calls < most + 1:
            return self.opens
        left = ((most + 1) * self.calls.denominator * length - 1) // self.calls.numerator
        return self.ends - left


def whole(batch: Batch) -> bool:
    """Whether the whole bucket is there for a batch: it is of a class that the reserve is kept for, or was begun, and
    what was begun must be ended."""
    return batch.priority_class <= LAST_SERVED_CLASS or batch.calls > 0 or batch.remote is not None


def calls_of(quota: Quota) -> Fraction:
    """The reserve of a quota in calls, before rounding."""
    if quota.reserve is not None:
        return quota.limit * Fraction(quota.reserve)
    return quota.limit * CALENDAR_SHARE if quota.calendar_zone is not None else Fraction(0)


def standing(quota: Quota) -> int:
    """Calls that a sliding bucket always keeps; never all of them, as a share is at most 0.9."""
    return int(calls_of(quota)) if quota.reserve else 0
