"""Faults switched on per route, and the decision whether one strikes a call. Pure: the shell carries it out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

BEFORE = frozenset(
    {
        "429",
        "429_retry_after",
        "403_rate",
        "403_user_rate",
        "403_daily",
        "403_permission",
        "500",
        "502",
        "503",
        "504",
        "ads_temporary",
        "ads_daily",
        "internal",
        "token_expired",
        "revoked",
        "html",
        "garbage",
        "empty",
        "bad_gzip",
        "bomb",
        "huge",
        "long_line",
        "reset",
        "hang",
    }
)
"""Answered instead of the route's own answer; what the route would have changed at the provider does not happen."""
AFTER = frozenset({"wrong_content_type", "cut", "truncate", "drip", "wrong_encoding", "duplicate_headers", "lost"})
"""The route does its work, then its answer is damaged on the way out, or never sent: ``lost``."""
OTHER = frozenset({"slow", "failed_report", "stuck_report", "skipped_report", "less_data", "access_denied"})
"""``slow`` delays, then all is as usual; the others are decided by the route itself. Meta alone knows
``skipped_report`` and ``less_data``, which wants a smaller page."""
FAULTS = BEFORE | AFTER | OTHER

_KEYS = frozenset({"route", "fault", "times", "every", "seconds", "for_seconds", "size", "user", "account", "title"})


@dataclass(frozen=True, slots=True)
class FaultRule:
    """``fault`` on calls whose route name matches the pattern ``route`` (``reports.*``, ``storage.download``, ``*``).

    ``times`` strike so often, then no more; ``every`` only every n-th matching call; ``until`` monotonic end; ``user``,
    ``account`` and ``title`` (a part of it) narrow it. ``seconds`` is the fault's own span: the delay of ``slow`` and
    ``hang``, the gap between bytes of ``drip``, the Retry-After of ``429_retry_after``, the retryDelay of
    ``ads_temporary`` and ``ads_daily``. ``size`` bytes of ``huge``, ``bomb`` and ``long_line``. ``seen`` and ``struck``
    count.
    """

    route: str
    fault: str
    times: int | None = None
    every: int | None = None
    seconds: float | None = None
    until: float | None = None
    size: int | None = None
    user: str | None = None
    account: str | None = None
    title: str | None = None
    seen: int = 0
    struck: int = 0


def parse_rule(body: Any, monotonic: float) -> FaultRule:
    """A rule from its JSON; ``for_seconds`` becomes ``until``. ValueError says what is wrong."""
    if not isinstance(body, dict) or not isinstance(body.get("route"), str):
        raise ValueError("a fault is an object with a route")
    if unknown := sorted(set(body) - _KEYS):
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    if body.get("fault") not in FAULTS:
        raise ValueError(f"fault must be one of: {', '.join(sorted(FAULTS))}")
    for name in ("times", "every", "seconds", "for_seconds", "size"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ValueError(f"{name} must be a number, not negative")
    values = dict(body)
    lasting = values.pop("for_seconds", None)
    return FaultRule(**values, until=None if lasting is None else monotonic + float(lasting))


def choose(
    rules: tuple[FaultRule, ...],
    route: str,
    user: str | None,
    account: str | None,
    title: str | None,
    monotonic: float,
) -> tuple[FaultRule | None, tuple[FaultRule, ...]]:
    """The first rule that strikes this call, or None, and the rules with their counts moved on."""
    chosen: FaultRule | None = None
    counted = []
    for rule in rules:
        if chosen is None and _matches(rule, route, user, account, title, monotonic):
            strikes = not rule.every or (rule.seen + 1) % rule.every == 0
            counted.append(replace(rule, seen=rule.seen + 1, struck=rule.struck + strikes))
            chosen = rule if strikes else None
        else:
            counted.append(rule)
    return chosen, tuple(counted)


def _matches(
    rule: FaultRule, route: str, user: str | None, account: str | None, title: str | None, monotonic: float
) -> bool:
    return (
        fnmatchcase(route, rule.route)
        and (rule.times is None or rule.struck < rule.times)
        and (rule.until is None or monotonic < rule.until)
        and (rule.user is None or rule.user == user)
        and (rule.account is None or rule.account == account)
        and (rule.title is None or rule.title in (title or ""))
    )
