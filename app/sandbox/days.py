"""Calendar days as accounts count them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


def today_in(time_zone: str, unix: float) -> date:
    """The day it is in that zone (an IANA name) at ``unix`` seconds."""
    return datetime.fromtimestamp(unix, UTC).astimezone(ZoneInfo(time_zone)).date()


def months_before(day: date, months: int) -> date:
    """The same day of the month so many months earlier, or that month's last day."""
    index = day.year * 12 + day.month - 1 - months
    year, month = divmod(index, 12)
    first_of_next = date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)
    last = (first_of_next - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last))
