"""Calendar days of time zones: which day an instant falls into, and when a day begins and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=4096)
def day_bounds(zone: str, ordinal: int) -> tuple[int, int]:
    """First ms of a calendar day in a zone, and of the next: 23- and 25-hour days come out right."""
    midnight = datetime.fromordinal(ordinal)
    info = ZoneInfo(zone)
    start = midnight.replace(tzinfo=info).timestamp()
    end = (midnight + timedelta(days=1)).replace(tzinfo=info).timestamp()
    return int(start * 1000), int(end * 1000)


@lru_cache(maxsize=4096)
def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this name, None if nobody here knows it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        return None


def day_of(now: int, zone: str) -> int:
    """Ordinal of the calendar day that ``now`` (ms) falls into in a zone; an unknown zone counts as UTC, which is at
    most a day off."""
    return datetime.fromtimestamp(now / 1000, UTC).astimezone(zone_of(zone) or UTC).toordinal()
