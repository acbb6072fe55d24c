"""What Bid Manager accepts. Refusals collect every violation, as (field, description)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from app.sandbox.days import months_before
from app.sandbox.dv360.catalogue import FILTERS, HEADERS, METRIC_HEADERS

_LAST_DAYS = {f"LAST_{count}_DAYS": count for count in (7, 14, 30, 60, 90, 365)}
_KNOWN_KEYS: Mapping[str, frozenset[str]] = {
    "query": frozenset({"metadata", "params", "schedule", "queryId"}),
    "query.metadata": frozenset({"title", "dataRange", "format", "sendNotification", "shareEmailAddress"}),
    "query.params": frozenset({"type", "groupBys", "filters", "metrics", "options"}),
    "query.schedule": frozenset({"frequency"}),
}


class InvalidError(Exception):
    """The request is refused with 400; ``violations`` is never empty."""

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        super().__init__(violations[0][1])
        self.violations = violations


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a valid query asks for."""

    advertisers: tuple[int, ...]
    group_bys: tuple[str, ...]
    metrics: tuple[str, ...]


def parse_query(body: Any) -> Parsed:
    """The parts of a query resource that decide its file; InvalidError with all that is wrong."""
    wrong: list[tuple[str, str]] = []
    query = _record(body, "query", wrong)
    metadata = _record(query.get("metadata"), "query.metadata", wrong)
    params = _record(query.get("params"), "query.params", wrong)
    schedule = _record(query.get("schedule", {"frequency": "ONE_TIME"}), "query.schedule", wrong)
    wrong += _metadata_faults(metadata)
    wrong += _params_faults(params)
    if schedule.get("frequency") != "ONE_TIME":
        wrong.append(("query.schedule.frequency", "Only ONE_TIME is supported."))
    advertisers = _advertisers(params.get("filters"), wrong)
    if wrong:
        raise InvalidError(wrong)
    return Parsed(advertisers, tuple(params["groupBys"]), tuple(params["metrics"]))


def _record(value: Any, name: str, wrong: list[tuple[str, str]]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        wrong.append((name, "Expected an object."))
        return {}
    unknown = sorted(set(value) - _KNOWN_KEYS[name])
    wrong.extend((name, f'Unknown name "{key}": Cannot find field.') for key in unknown)
    return value


def _metadata_faults(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    wrong = []
    if not isinstance(metadata.get("title"), str) or not metadata["title"]:
        wrong.append(("query.metadata.title", "A title is required."))
    if metadata.get("format") != "CSV":
        wrong.append(("query.metadata.format", "Expected CSV."))
    if not isinstance(metadata.get("dataRange"), dict):
        wrong.append(("query.metadata.dataRange", "A data range is required."))
    return wrong


def _params_faults(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    wrong = []
    if params.get("type") != "STANDARD":
        wrong.append(("query.params.type", f"Invalid value: {params.get('type')!r}; expected STANDARD."))
    wrong += _list_faults("query.params.groupBys", params.get("groupBys"), HEADERS)
    wrong += _list_faults("query.params.metrics", params.get("metrics"), METRIC_HEADERS)
    return wrong


def _list_faults(field: str, values: Any, known: Mapping[str, str]) -> list[tuple[str, str]]:
    if not isinstance(values, list) or not values:
        return [(field, "At least one value is required.")]
    wrong = [(f"{field}[{at}]", f"Invalid value: {value!r}") for at, value in enumerate(values) if value not in known]
    return wrong or ([(field, "Values must not repeat.")] if len(set(values)) < len(values) else [])


def _advertisers(filters: Any, wrong: list[tuple[str, str]]) -> tuple[int, ...]:
    found: list[int] = []
    for at, one in enumerate(filters if isinstance(filters, list) else ()):
        kind, value = (one.get("type"), one.get("value")) if isinstance(one, dict) else (None, None)
        if kind not in FILTERS:
            wrong.append((f"query.params.filters[{at}].type", f"Invalid value: {kind!r}"))
        elif not isinstance(value, str) or not (value.isascii() and value.isdigit()):
            wrong.append((f"query.params.filters[{at}].value", "Expected an id."))
        elif kind == "FILTER_ADVERTISER":
            found.append(int(value))
    if not found:
        wrong.append(("query.params.filters", "A filter by advertiser is required."))
    return tuple(found)


def resolve_range(data_range: Any, field: str, today: date, retention_months: int) -> tuple[date, date]:
    """First and last day of a dataRange, both included; ``today`` in the advertiser's zone. Ranges named LAST_n exclude
    today. InvalidError when it cannot be read, ends before it starts or reaches back further than the data are kept."""
    if not isinstance(data_range, dict):
        raise InvalidError([(field, "Expected an object.")])
    start, end = _days(data_range, field, today)
    if start > end:
        raise InvalidError([(f"{field}.customStartDate", "The start date must not be after the end date.")])
    if start < months_before(today, retention_months):
        raise InvalidError([(f"{field}.customStartDate", f"Data are kept for {retention_months} months.")])
    return start, end


def _days(data_range: Mapping[str, Any], field: str, today: date) -> tuple[date, date]:
    name = data_range.get("range")
    yesterday = today - timedelta(days=1)
    if name == "CUSTOM_DATES":
        return _day(data_range, "customStartDate", field), _day(data_range, "customEndDate", field)
    if name in _LAST_DAYS:
        return today - timedelta(days=_LAST_DAYS[str(name)]), yesterday
    if name == "MONTH_TO_DATE":
        return today.replace(day=1), today
    if name == "CURRENT_DAY":
        return today, today
    if name == "PREVIOUS_DAY":
        return yesterday, yesterday
    raise InvalidError([(f"{field}.range", f"Invalid value: {name!r}")])


def _day(data_range: Mapping[str, Any], key: str, field: str) -> date:
    try:
        parts = data_range[key]
        return date(parts["year"], parts["month"], parts["day"])
    except (TypeError, KeyError, ValueError):
        raise InvalidError([(f"{field}.{key}", "Expected year, month and day of a real day.")]) from None
