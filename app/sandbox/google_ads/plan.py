"""Whether a query means anything for this account, and which days it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from app.sandbox.days import months_before
from app.sandbox.google_ads.accounts import Customer
from app.sandbox.google_ads.catalogue import FIELDS, MEASURED, METRICS, RESOURCES, Field
from app.sandbox.google_ads.errors import AdsError, query_error
from app.sandbox.google_ads.gaql import Condition, Order, Query, Token

RETENTION_MONTHS = 37
"""Daily figures are kept for so long; older days are refused since June 2026."""

DATE = "segments.date"
_LAST_DAYS = {f"LAST_{count}_DAYS": count for count in (7, 14, 30)}
_ORDERED = frozenset({"=", "!=", ">", ">=", "<", "<=", "BETWEEN", "IN", "NOT IN"})
_NAMED = frozenset({"=", "!=", "IN", "NOT IN"})
_OPERATORS = {
    "number": _ORDERED,
    "double": _ORDERED,
    "text": _NAMED,
    "enum": _NAMED,
    "flag": frozenset({"=", "!="}),
    "day": frozenset({"=", ">", ">=", "<", "<=", "BETWEEN", "DURING"}),
}


@dataclass(frozen=True, slots=True)
class Test:
    """A condition on a field other than the day: ``holds`` of a value of that field."""

    field: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Plan:
    """A query that can be answered: ``metrics`` the selected ones as places in ``METRICS``; ``segmented`` one row a
    day; the days ``start`` to ``end``, both included."""

    select: tuple[str, ...]
    resource: str
    metrics: tuple[int, ...]
    segmented: bool
    start: date
    end: date
    tests: tuple[Test, ...]
    order: tuple[Order, ...]
    limit: int | None


def plan_of(query: Query, customer: Customer, today: date) -> Plan:
    """The plan of a query about ``customer``; ``today`` in its zone. AdsError says what is wrong."""
    if query.resource not in RESOURCES:
        raise query_error("BAD_RESOURCE_TYPE_IN_FROM_CLAUSE", f"invalid resource type '{query.resource}'.")
    _check_fields(query)
    metrics = tuple(METRICS.index(name) for name in query.select if name in METRICS)
    if customer.manager and any(name in METRICS for name in _named(query)):
        raise AdsError(
            "queryError",
            "REQUESTED_METRICS_FOR_MANAGER",
            "Metrics cannot be requested for a manager account. To retrieve metrics, issue separate requests against "
            "each client account under the manager account.",
        )
    segmented = DATE in query.select
    start, end = _days([one for one in query.conditions if one.field == DATE], segmented, today)
    tests = tuple(_test(one) for one in query.conditions if one.field != DATE)
    return Plan(query.select, query.resource, metrics, segmented, start, end, tests, query.order, query.limit)


def _named(query: Query) -> Iterator[str]:
    yield from query.select
    yield from (condition.field for condition in query.conditions)


def _check_fields(query: Query) -> None:
    ordered = [one.field for one in query.order]
    if unknown := [name for name in (*_named(query), *ordered) if name not in FIELDS]:
        raise query_error("UNRECOGNIZED_FIELD", f"unrecognized field in the query: '{unknown[0]}'.")
    for name in query.select:
        _check_resource(FIELDS[name], query.resource, "SELECT")
    for condition in query.conditions:
        _check_resource(FIELDS[condition.field], query.resource, "WHERE")
    if missing := [name for name in ordered if name not in query.select]:
        code = "EXPECTED_REFERENCED_FIELD_IN_SELECT_CLAUSE"
        raise query_error(code, f"the ORDER BY field '{missing[0]}' must be in the SELECT clause.")


def _check_resource(field: Field, resource: str, clause: str) -> None:
    if field.resource in ("metrics", "segments"):
        if resource not in MEASURED:
            kind = "METRIC" if field.resource == "metrics" else "SEGMENT"
            code = f"PROHIBITED_{kind}_IN_SELECT_OR_WHERE_CLAUSE"
            raise query_error(code, f"'{field.name}' cannot be used with resource '{resource}'.")
    elif field.resource not in RESOURCES[resource]:
        code = f"PROHIBITED_RESOURCE_TYPE_IN_{clause}_CLAUSE"
        raise query_error(code, f"'{field.name}' cannot be used with resource '{resource}'.")


def _days(conditions: list[Condition], segmented: bool, today: date) -> tuple[date, date]:
    """The days that all conditions leave; all that are kept when there is none and no segment."""
    earliest = months_before(today, RETENTION_MONTHS)
    bounds = [_bounds(one, today) for one in conditions]
    lower, upper = ([bound[at] for bound in bounds if bound[at] is not None] for at in (0, 1))
    if not bounds and not segmented:
        return earliest, today
    if not lower or not upper:
        code = "EXPECTED_FILTERS_ON_DATE_RANGE"
        raise query_error(code, f"a finite date range filter is required with '{DATE}'.")
    start, end = max(day for day in lower if day), min(day for day in upper if day)
    if start > end:
        raise query_error("DATE_RANGE_TOO_NARROW", "the start date is after the end date.")
    if start < earliest:
        text = f"Daily figures are available from {earliest} on ({RETENTION_MONTHS} months)."
        raise AdsError("dateRangeError", "REQUESTED_DATE_GRANULARITY_NOT_SUPPORTED", text)
    return start, end


def _bounds(condition: Condition, today: date) -> tuple[date | None, date | None]:
    _check_operator(condition)
    if condition.operator == "DURING":
        return _during(condition.values[0], today)
    days = [_day(one, condition.operator) for one in condition.values]
    one = timedelta(days=1)
    match condition.operator:
        case ">=":
            return days[0], None
        case ">":
            return days[0] + one, None
        case "<=":
            return None, days[0]
        case "<":
            return None, days[0] - one
    return days[0], days[-1]


def _during(value: Token, today: date) -> tuple[date, date]:
    name = value.text.upper() if value.kind == "word" else ""
    yesterday = today - timedelta(days=1)
    if name in _LAST_DAYS:
        return today - timedelta(days=_LAST_DAYS[name]), yesterday
    first = today.replace(day=1)
    before = first - timedelta(days=1)
    known = {
        "TODAY": (today, today),
        "YESTERDAY": (yesterday, yesterday),
        "THIS_MONTH": (first, today),
        "LAST_MONTH": (before.replace(day=1), before),
    }
    if name not in known:
        raise query_error("INVALID_VALUE_WITH_DURING_OPERATOR", f"invalid date literal '{value.text}'.")
    return known[name]


def _day(value: Token, operator: str) -> date:
    try:
        if value.kind == "text" and len(value.text) == 10:
            return date.fromisoformat(value.text)
    except ValueError:
        pass
    code = "INVALID_VALUE_WITH_BETWEEN_OPERATOR" if operator == "BETWEEN" else "INVALID_DATE_FORMAT"
    raise query_error(code, f"invalid date '{value.text}', expected 'YYYY-MM-DD'.")


def _check_operator(condition: Condition) -> None:
    if condition.operator not in _OPERATORS[FIELDS[condition.field].kind]:
        text = f"operator {condition.operator} cannot be used with '{condition.field}'."
        raise query_error("OPERATOR_FIELD_MISMATCH", text)


def _test(condition: Condition) -> Test:
    _check_operator(condition)
    field = FIELDS[condition.field]
    values = [_read(field, one) for one in condition.values]
    first, last = values[0], values[-1]
    holds: dict[str, Callable[[Any], bool]] = {
        "=": lambda value: bool(value == first),
        "!=": lambda value: bool(value != first),
        ">": lambda value: bool(value > first),
        ">=": lambda value: bool(value >= first),
        "<": lambda value: bool(value < first),
        "<=": lambda value: bool(value <= first),
        "BETWEEN": lambda value: bool(first <= value <= last),
        "IN": lambda value: value in values,
        "NOT IN": lambda value: value not in values,
    }
    return Test(condition.field, holds[condition.operator])


def _read(field: Field, value: Token) -> Any:
    match field.kind:
        case "number" | "double" if value.kind == "number":
            return float(value.text) if "." in value.text else int(value.text)
        case "text":
            if value.kind != "text":
                raise query_error("INVALID_STRING_VALUE", f"invalid string value {value.text}.")
            return value.text
        case "enum" if value.kind in ("word", "text"):
            if value.text not in field.constants:
                raise query_error("BAD_ENUM_CONSTANT", f"invalid enum value '{value.text}' for '{field.name}'.")
            return value.text
        case "flag" if value.text.upper() in ("TRUE", "FALSE"):
            return value.text.upper() == "TRUE"
    raise query_error("BAD_VALUE", f"invalid value {value.text} for '{field.name}'.")
