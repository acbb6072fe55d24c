"""What Meta's headers tell: how much of each quota is used, and when a throttled one takes calls again. There is no
Retry-After.

    X-App-Usage                 {"call_count": 28, "total_time": 25, "total_cputime": 25}
    X-Ad-Account-Usage          {"acc_id_util_pct": 9.67, "reset_time_duration": 100}                  (seconds)
    X-Business-Use-Case-Usage   {"<account or business>": [{"type": "ads_insights", "call_count": 95, "total_time": 20,
                                 "total_cputime": 20, "estimated_time_to_regain_access": 0}]}          (minutes)
    x-fb-ads-insights-throttle  {"app_id_util_pct": 100, "acc_id_util_pct": 10}

All numbers are percentages but where a unit stands. Of several percentages of one quota the largest counts: each of
them throttles at 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.connectors.meta.quotas import ACCOUNT_SCORE, APPLICATION, INSIGHTS_PER_HOUR
from app.domain.messages import Usage

_CALLS = ("call_count", "total_cputime", "total_time")
_INSIGHTS = "ads_insights"
_MOST_WAIT_S = 86_400.0


def usage(headers: Mapping[str, str]) -> Sequence[Usage]:
    """``ports.Connector.usage``."""
    score = _object(headers, "x-ad-account-usage")
    throttle = _object(headers, "x-fb-ads-insights-throttle")
    told = [
        *_told(APPLICATION, _object(headers, "x-app-usage"), _CALLS),
        *_told(ACCOUNT_SCORE, score, ("acc_id_util_pct",)),
        *_told(APPLICATION, throttle, ("app_id_util_pct",)),
        *_told(INSIGHTS_PER_HOUR, throttle, ("acc_id_util_pct",)),
    ]
    cases = _cases(headers)
    # One id alone is the call's own account, or the business it is of. Of several each names its own.
    alone = len({name for name, _ in cases}) == 1
    for name, case in cases:
        if case.get("type") == _INSIGHTS:
            told += _told(INSIGHTS_PER_HOUR, case, _CALLS, scope=None if alone else name)
    return tuple(told)


def regain_s(headers: Mapping[str, str], *, case: str | None) -> float | None:
    """Seconds until a business use case takes calls again: of the type ``case``, else the longest. None: not said."""
    cases = [entry for _, entry in _cases(headers)]
    own = [entry for entry in cases if entry.get("type") == case] or cases
    minutes = [_number(entry.get("estimated_time_to_regain_access")) for entry in own]
    return _wait_s(max((60.0 * told for told in minutes if told is not None), default=0.0))


def score_reset_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until the account's score is worn off. None: not said."""
    return _wait_s(_number(_object(headers, "x-ad-account-usage").get("reset_time_duration")) or 0.0)


def _told(quota: str, source: Mapping[str, Any], names: Sequence[str], scope: str | None = None) -> Iterator[Usage]:
    percents = [told for name in names if (told := _number(source.get(name))) is not None]
    if percents:
        yield Usage(quota, percent=max(percents), scope=scope)


def _cases(headers: Mapping[str, str]) -> list[tuple[str, Mapping[str, Any]]]:
    """(id, entry) of X-Business-Use-Case-Usage."""
    found = _object(headers, "x-business-use-case-usage")
    return [
        (name, entry)
        for name, entries in found.items()
        if isinstance(entries, list)
        for entry in entries
        if isinstance(entry, dict)
    ]


def _object(headers: Mapping[str, str], name: str) -> Mapping[str, Any]:
    """The header's object; nothing where there is none, or it is something else: it may not cost an answer."""
    try:
        found = orjson.loads(headers.get(name, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value)


def _wait_s(told: float) -> float | None:
    return min(told, _MOST_WAIT_S) if told > 0 else None
