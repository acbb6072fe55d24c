"""What a schedule must say. Properties that mean nothing are ignored, as the provider does, unless the caller asks for
its strict mode."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.sandbox.days import months_before, today_in
from app.sandbox.ttd.errors import ForbiddenError, InvalidError
from app.sandbox.ttd.figures import number_of
from app.sandbox.ttd.state import Asked, Template

_FIXED: Mapping[str, tuple[Any, ...]] = {
    "ReportDateRange": ("Custom",),
    "ReportFrequency": ("Once",),
    "ReportFileFormat": ("CSV",),
    "ReportDateFormat": ("Sortable",),
    "ReportNumericFormat": ("US",),
    "IncludeHeaders": (True,),
}
"""What is simulated of the choices that there are."""
SCHEDULE_PROPERTIES = frozenset(_FIXED) | {
    "ReportScheduleName", "ReportTemplateId", "AdvertiserFilters", "ReportStartDateInclusive", "ReportEndDateExclusive",
    "TimeZone",
}  # fmt: skip


def parse_schedule(body: Mapping[str, Any], templates: tuple[Template, ...], now: float, months: int) -> Asked:
    """The schedule of a body. InvalidError with every fault, ForbiddenError for an advertiser that is none; ``months``
    is how far back a report may reach."""
    faults = [(name, f"must be one of {known}") for name, known in _FIXED.items() if body.get(name) not in known]
    name, zone = body.get("ReportScheduleName"), body.get("TimeZone")
    if not isinstance(name, str) or not name:
        faults.append(("ReportScheduleName", "is required"))
    if not _is_zone(zone):
        faults.append(("TimeZone", "is unknown"))
    template = next((one for one in templates if one.template_id == body.get("ReportTemplateId")), None)
    if template is None:
        faults.append(("ReportTemplateId", "is unknown"))
    start, end = _day(body, "ReportStartDateInclusive", faults), _day(body, "ReportEndDateExclusive", faults)
    if not faults and start is not None and end is not None:
        if start >= end:
            faults.append(("ReportEndDateExclusive", "must be after the start, since it is exclusive"))
        elif start < months_before(today_in(str(zone), now), months):
            faults.append(("ReportStartDateInclusive", f"data are kept for {months} months"))
    if faults or template is None or start is None or end is None:
        raise InvalidError(faults)
    last = date.fromordinal(end.toordinal() - 1)
    return Asked(str(name), template, advertisers_of(body, "AdvertiserFilters"), start, last, str(zone))


def advertisers_of(body: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """The numbers of the advertisers in a list of ids."""
    listed = body.get(name)
    if not isinstance(listed, list) or not listed:
        raise InvalidError([(name, "is required")])
    numbers = [number_of(one) for one in listed]
    if None in numbers:
        raise ForbiddenError
    return tuple(number for number in numbers if number is not None)


def _day(body: Mapping[str, Any], name: str, faults: list[tuple[str, str]]) -> date | None:
    try:
        at = datetime.fromisoformat(body[name])
    except (KeyError, TypeError, ValueError):
        at = None
    if at is None or (at.hour, at.minute, at.second, at.tzinfo) != (0, 0, 0, None):
        faults.append((name, "must be midnight of a day, without a zone"))
        return None
    return at.date()


def _is_zone(name: Any) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return bool(name)
