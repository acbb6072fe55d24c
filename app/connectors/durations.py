"""How long a provider's reports take, as it tells itself, and when it is worth asking for one for the first time.

In memory, for each worker by itself: what is learnt again after a restart costs a few polls. Both ends of a duration
are instants of the provider's clock, so that it may be wrong, and so may ours.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

LEAST: Final = 5
"""Durations that must be known before they say anything."""
MOST: Final = 50
"""The last ones count, so that a provider that has become slower is believed soon."""
EARLIEST_S: Final = 1.0
LONGEST_S: Final = 86_400.0
"""A day. What is told to have taken longer, or to have ended before it began, is no duration."""
_BEGAN_AT: Final = "began_at"
_SKEW_S: Final = 2.0
"""Headers tell whole seconds, and another machine of the provider may have written the end."""


def first_poll_s(measured: Sequence[float], schedule: Sequence[float]) -> float | None:
    """Seconds until the first poll of a report, when those before it took ``measured`` seconds: their median, never
    less than a second, nor longer than the schedule ever waits. None: the schedule's own first delay."""
    if len(measured) < LEAST:
        return None
    return min(max(statistics.median(measured), EARLIEST_S), max(schedule))


class Durations:
    """The last durations of each report type of one provider, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, deque[float]] = defaultdict(partial(deque, maxlen=MOST))

    def note(self, report_type: str, began_at: float | None, ended_at: float | None) -> None:
        """A report was made from ``began_at`` to ``ended_at``, both unix seconds of the provider's clock (None: it did
        not tell)."""
        if began_at is None or ended_at is None:
            return
        took_s = ended_at - began_at
        if -_SKEW_S <= took_s <= LONGEST_S:
            self._known[report_type].append(max(0.0, took_s))

    def first_poll_s(self, report_type: str, schedule: Sequence[float]) -> float | None:
        """``first_poll_s`` of what is known of this report type."""
        return first_poll_s(self._known.get(report_type, ()), schedule)


def carried(began_at: float | None) -> dict[str, str]:
    """When a report was begun, to travel with its ids from step to step."""
    return {} if began_at is None else {_BEGAN_AT: f"{began_at:.0f}"}


def begun(remote: Mapping[str, str]) -> float | None:
    """What ``carried`` put among the ids of a report."""
    text = remote.get(_BEGAN_AT, "")
    return float(text) if text.isdecimal() and text.isascii() and len(text) <= 15 else None


def of_header(date: str | None) -> float | None:
    """Unix seconds of a ``Date`` header (RFC 9110); None if it is none."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None


def of_text(text: Any) -> float | None:
    """Unix seconds of an ISO 8601 instant, in UTC where it names no zone; None if it is none."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def of_number(value: Any) -> float | None:
    """A JSON number of unix seconds; None if it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
