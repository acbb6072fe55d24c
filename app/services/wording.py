"""Numbers, spans, instants and sizes as people read them. English, UTC, no look at a clock: ``now`` comes in as ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from app.domain.commands import parse_instant

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def count(number: float, noun: str, nouns: str | None = None) -> str:
    """``1 call``, ``2 calls``, ``1,234 rows``; ``nouns`` where the plural is not the singular and an s."""
    return f"{amount(number)} {noun if number == 1 else nouns or noun + 's'}"


def amount(number: float) -> str:
    """A number with its thousands apart, and at most four decimals."""
    return f"{number:,.4f}".rstrip("0").rstrip(".")


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th``, ``11th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def enumerated(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def span(seconds: float) -> str:
    """``45 ms``, ``0.4 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 days 4 h``: the two largest units in use."""
    if seconds < 0.1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 10:
        return f"{amount(round(seconds, 1))} s"
    left = round(seconds)
    if left < _HOUR:
        minutes, rest = divmod(left, _MINUTE)
        return _two((minutes, "min"), (rest, "s"))
    if left < _DAY:
        hours, rest = divmod(round(left / _MINUTE), _MINUTE)
        return _two((hours, "h"), (rest, "min"))
    days, rest = divmod(round(left / _HOUR), 24)
    return _two((days, "day" if days == 1 else "days"), (rest, "h"))


def _two(*parts: tuple[int, str]) -> str:
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number)


def millis(text: object) -> int | None:
    """An answer's instant as ms since the epoch; None for what is none."""
    return parse_instant(text)


def clock(at: int, now: int) -> str:
    """``12:00:03``, with its date where that is not today's; UTC."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")


def relative(at: int, now: int) -> str:
    """``in 42 s``, ``4 s ago``, ``now``; whole seconds."""
    seconds = round((at - now) / 1000)
    if not seconds:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def moment(at: int, now: int) -> str:
    """``12:00:45 (in 42 s)``."""
    return f"{clock(at, now)} ({relative(at, now)})"


def until(at: int | None, now: int) -> str:
    """`` until 12:00:45 (in 42 s)``; nothing without an instant; an end that is over comes any moment."""
    if at is None:
        return ""
    return f" until {moment(at, now)}" if at > now else " until any moment now"


def size(number: int) -> str:
    """``312 bytes``, ``45.1 kB``, ``3.2 MB``; powers of ten."""
    if number < 1_000:
        return count(number, "byte")
    for unit, power in (("kB", 1_000), ("MB", 10**6)):
        if number < power * 1_000:
            return f"{number / power:.1f} {unit}"
    return f"{number / 10**9:,.1f} GB"


def period(days: Mapping[str, Any]) -> str:
    """``2026-09-01 to 2026-09-07 (7 days)`` for ``start`` and ``end``."""
    start, end = str(days["start"]), str(days["end"])
    length = (date.fromisoformat(end) - date.fromisoformat(start)).days + 1
    return f"{start} (1 day)" if length == 1 else f"{start} to {end} ({count(length, 'day')})"


def quota_left(limit: Mapping[str, Any]) -> str:
    """``1,997 of 2,000 reports_per_day`` of a ``rate_limit``."""
    return f"{amount(limit['remaining'])} of {amount(limit['limit'])} {limit.get('bucket') or 'calls'}"
