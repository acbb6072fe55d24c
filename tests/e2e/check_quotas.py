"""F2: calls over any quota, counted again from the arrival log by looking at every window there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.e2e.evidence import Evidence, Rule
from tests.e2e.findings import Report


def fullest(arrivals: Sequence[float], period_s: float) -> int:
    """The most arrivals in any half-open interval of the period's length. The fullest one ends at an arrival, so
    looking back from each of them finds it."""
    ordered = sorted(arrivals)
    best = oldest = 0
    for newest, end in enumerate(ordered):
        while ordered[oldest] <= end - period_s:
            oldest += 1
        best = max(best, newest - oldest + 1)
    return best


def over(arrivals: Sequence[float], period_s: float, limit: int) -> int:
    """How many arrivals were beyond the limit of the period that ends with them."""
    ordered = sorted(arrivals)
    return sum(1 for at in range(limit, len(ordered)) if ordered[at - limit] > ordered[at] - period_s)


def fullest_day(instants: Iterable[float], zone: str) -> int:
    """The most calls (unix seconds) on one calendar day of a zone."""
    info = ZoneInfo(zone)
    days = Counter(datetime.fromtimestamp(at, info).date() for at in instants)
    return max(days.values(), default=0)


def check(evidence: Evidence, report: Report) -> None:
    """Compares every rule with the arrivals that spend from it."""
    for rule in evidence.rules:
        mine = [
            call for call in evidence.calls if call["quota_group"] == rule.group and _scope(rule, call) == rule.value
        ]
        if rule.limit is not None:
            _check_rule(rule, rule.limit, mine, report)
    throttled = sum(1 for call in evidence.calls if call["status"] == 429 and not call["fault"])
    if throttled:
        report.add("F2 throttled", f"{throttled} calls were answered 429")
    if evidence.own_over:
        report.add("F2 counted by the provider", f"{evidence.own_over} calls over a quota")
    groups = Counter(str(call["quota_group"]) for call in evidence.calls)
    report.figures["provider calls"] = ", ".join(f"{name} {count}" for name, count in sorted(groups.items())) or 0


def _scope(rule: Rule, call: Mapping[str, Any]) -> Any:
    unknown = "unknown" if rule.scope in ("application", "user") else None
    return call[rule.scope] or unknown


def _check_rule(rule: Rule, limit: int, calls: Sequence[Mapping[str, Any]], report: Report) -> None:
    if rule.calendar_zone is not None:
        most = fullest_day([call["arrived_at"] for call in calls], rule.calendar_zone)
        beyond = max(0, most - limit)
    else:
        instants = [call["monotonic"] for call in calls]
        most, beyond = fullest(instants, rule.period_s), over(instants, rule.period_s, limit)
    if most > limit:
        report.add(
            "F2 over quota",
            f"{rule.name} of {rule.value}: {most} of {limit} per {rule.period_s:g} s, {beyond} calls over",
        )
    report.figures[f"fullest window of {rule.name} ({rule.value})"] = f"{most} of {limit}"
