"""Quotas counted where the provider counts them: at arrival, every call, the refused and the failed ones too.

A sliding rule is exceeded by a call when the half-open interval ``(now - period, now]`` then holds more than ``limit``
arrivals. That is exact: the fullest window over any set of arrivals always ends at one of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.sandbox.clock import Instant


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """At most ``limit`` calls of ``group`` per ``period_s`` seconds for each application, user or account (``scope``).

    ``limit`` None counts without refusing. With ``calendar_zone`` the period is that zone's calendar day instead.
    """

    name: str
    group: str
    scope: str
    limit: int | None
    period_s: float
    calendar_zone: str | None = None


GOOGLE_QUOTAS: tuple[QuotaRule, ...] = (
    QuotaRule("reports_second", "reports", "application", 4, 1.0),
    QuotaRule("reports_day", "reports", "application", 2_000, 86_400.0, "America/Los_Angeles"),
    QuotaRule("reports_user", "reports", "user", 240, 60.0),
    QuotaRule("entities_minute", "entities", "application", 1_500, 60.0),
    QuotaRule("entities_advertiser", "entities", "account", 300, 60.0),
    QuotaRule("ads_operations", "operations", "application", 15_000, 86_400.0),
    QuotaRule("ads_minute", "operations", "application", None, 60.0),
)
"""Bid Manager and Display & Video 360 as documented, Google Ads at its Basic level; an application is a Cloud project,
an account an advertiser or customer. Google Ads' short-term limit is not published: calls are only counted until one
is set."""

META_QUOTAS: tuple[QuotaRule, ...] = (
    QuotaRule("meta_insights_hour", "insights", "account", 600, 3_600.0),
    QuotaRule("meta_score", "insights", "account", 60, 300.0),
    QuotaRule("meta_application", "insights", "application", None, 3_600.0),
)
"""Meta's for an application with limited access, and accounts without active ads. The score wears off evenly in truth;
here a call is one point and gone after 300 s. No number is published for the application."""


@dataclass(slots=True)
class Bucket:
    """One rule and one scope value. ``peak`` is the fullest window so far, ``over`` counts calls beyond the limit."""

    arrivals: deque[float] = field(default_factory=deque)
    day: str = ""
    day_calls: int = 0
    peak: int = 0
    over: int = 0
    calls: int = 0


@dataclass(slots=True)
class QuotaState:
    """The rules in force by name, and the buckets by (rule name, scope value)."""

    rules: dict[str, QuotaRule]
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)


def new_quotas(rules: tuple[QuotaRule, ...]) -> QuotaState:
    """A state with nothing counted yet."""
    return QuotaState({rule.name: rule for rule in rules})


def count_call(
    state: QuotaState, group: str, application: str, user: str, account: str | None, now: Instant
) -> tuple[str, ...]:
    """Count one arrival in every bucket it belongs to; the names of the rules that it exceeds."""
    scopes = {"application": application, "user": user, "account": account}
    exceeded = []
    for rule in state.rules.values():
        value = scopes[rule.scope] if rule.group == group else None
        if value is not None and _hit(rule, state.buckets.setdefault((rule.name, value), Bucket()), now):
            exceeded.append(rule.name)
    return tuple(exceeded)


def _hit(rule: QuotaRule, bucket: Bucket, now: Instant) -> bool:
    bucket.calls += 1
    used = _hit_day(rule.calendar_zone, bucket, now.unix) if rule.calendar_zone else _hit_window(rule, bucket, now)
    bucket.peak = max(bucket.peak, used)
    over = rule.limit is not None and used > rule.limit
    bucket.over += over
    return over


def _hit_window(rule: QuotaRule, bucket: Bucket, now: Instant) -> int:
    bucket.arrivals.append(now.monotonic)
    while bucket.arrivals[0] <= now.monotonic - rule.period_s:
        bucket.arrivals.popleft()
    return len(bucket.arrivals)


def _hit_day(zone: str, bucket: Bucket, unix: float) -> int:
    day = datetime.fromtimestamp(unix, ZoneInfo(zone)).date().isoformat()
    bucket.day_calls = bucket.day_calls + 1 if day == bucket.day else 1
    bucket.day = day
    return bucket.day_calls


def free_in(state: QuotaState, name: str, value: str, now: Instant) -> float:
    """Seconds until the sliding rule ``name`` takes a call of the scope value again, if none arrives before: the true
    wait that an answer may name. 0 when it takes one now; the whole period when it takes none at all."""
    rule, arrivals = state.rules[name], state.buckets.get((name, value), Bucket()).arrivals
    if rule.limit is None or len(arrivals) < rule.limit:
        return 0.0
    if rule.limit == 0:
        return rule.period_s
    return max(0.0, arrivals[len(arrivals) - rule.limit] + rule.period_s - now.monotonic)


def used_in(state: QuotaState, name: str, value: str) -> int:
    """Calls of the scope value in the window of the sliding rule ``name`` that ended with its last arrival."""
    return len(state.buckets.get((name, value), Bucket()).arrivals)


def change_rule(state: QuotaState, name: str, limit: int | None, period_s: float | None) -> None:
    """Put another limit (None: no limit) in force at once. A changed period starts that rule's windows afresh, because
    arrivals older than the former period are forgotten. KeyError for an unknown name."""
    rule = state.rules[name]
    state.rules[name] = replace(rule, limit=limit, period_s=rule.period_s if period_s is None else period_s)
    if period_s is not None and period_s != rule.period_s:
        state.buckets = {key: bucket for key, bucket in state.buckets.items() if key[0] != name}


def snapshot(state: QuotaState) -> list[dict[str, Any]]:
    """One plain row per bucket, for ``GET /_sandbox/quotas``."""
    rows = []
    for (name, value), bucket in sorted(state.buckets.items()):
        rule = state.rules[name]
        rows.append(
            {
                "name": name,
                "group": rule.group,
                "scope": rule.scope,
                "value": value,
                "limit": rule.limit,
                "period_s": rule.period_s,
                "calendar_zone": rule.calendar_zone,
                "peak": bucket.peak,
                "over": bucket.over,
                "calls": bucket.calls,
            }
        )
    return rows
