"""Days, spans and instants as people type them. Every function raises ``CommandFailed`` with the usage code."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.cli.failures import USAGE, CommandFailed


def seconds(option: str, text: str) -> float:
    """``90``, ``30s``, ``10m``, ``2h``, ``1d``."""
    from app.config_reading import duration

    try:
        return float(str(duration(text)))
    except ValueError as error:
        raise CommandFailed(f"{option} {error}", code=USAGE) from None


def past(option: str, text: str) -> int:
    """An instant, ISO 8601 with its zone, or a span before now; as ms since the epoch."""
    at = _instant(text)
    return at if at is not None else time.time_ns() // 1_000_000 - _span_ms(option, text)


def future(option: str, text: str) -> str:
    """An instant, ISO 8601 with its zone, or a span from now; as ISO 8601."""
    from app.services.status import instant

    if _instant(text) is not None:
        return text
    return str(instant(time.time_ns() // 1_000_000 + _span_ms(option, text)))


def _span_ms(option: str, text: str) -> int:
    try:
        return round(seconds(option, text) * 1000)
    except CommandFailed as error:
        raise CommandFailed(f"{error}, or an instant such as 2026-09-30T12:00:00Z", code=USAGE) from None


def _instant(text: str) -> int | None:
    from app.services.wording import millis

    return millis(text)


def day(option: str, text: str) -> date:
    """``2026-09-01``."""
    from app.domain.commands import parse_day

    ordinal = parse_day(text)
    if ordinal is None:
        raise CommandFailed(f"{option} must be a day such as 2026-09-30", code=USAGE)
    return date.fromordinal(ordinal)


def last_days(number: int, time_zone: str, now: datetime) -> tuple[date, date]:
    """The last so many full days in an account's zone, ending yesterday; an unknown zone counts as UTC."""
    try:
        zone: ZoneInfo | None = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        zone = None
    yesterday = now.astimezone(zone or UTC).date() - timedelta(days=1)
    return yesterday - timedelta(days=number - 1), yesterday
