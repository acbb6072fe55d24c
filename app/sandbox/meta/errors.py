"""How Meta says no: ``{"error": {...}}`` with a code, mostly at status 400, now and then at 200. Never a Retry-After:
how full a quota is, and when it takes calls again, stands in headers of every answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.google_oauth.state import revoke_user
from app.sandbox.quotas import free_in, used_in
from app.sandbox.world import World

JSON_TYPE = "application/json; charset=UTF-8"
HOUR, SCORE, APPLICATION = "meta_insights_hour", "meta_score", "meta_application"
"""Quota rules: the account's hour of ads_insights, its score, and the application."""
_TIER = "development_access"

_TRANSIENT = {"is_transient": True, "type": "OAuthException"}
TOKEN_EXPIRED = (190, 463, "Error validating access token: Session has expired.")
TOKEN_REVOKED = (190, 458, "Error validating access token: The user has not authorized application.")
TOKEN_INVALID = (190, 467, "Invalid OAuth access token - Cannot parse access token")


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer as Meta sends it."""
    return web.Response(body=orjson.dumps(body), status=status, headers={"Content-Type": JSON_TYPE, **(headers or {})})


def refusal(code: int | None, subcode: int | None, message: str, status: int = 400, **more: Any) -> web.Response:
    """The envelope."""
    error: dict[str, Any] = {"message": message, "type": "OAuthException", "is_transient": False}
    error |= {"code": code} if code is not None else {}
    error |= {"error_subcode": subcode} if subcode is not None else {}
    return json_answer({"error": {**error, **more, "fbtrace_id": "ASandbox"}}, status)


def usage_headers(world: World, call: Call, *, regain_min: int = 0, reset_s: int = 0) -> dict[str, str]:
    """The percentages as they are now, rounded down as far as a whole number goes."""
    if call.account is None:
        return {}
    hour, score = _percent(world, HOUR, call.account), _percent(world, SCORE, call.account)
    application = math.floor(_percent(world, APPLICATION, call.application or "unknown"))
    case = {
        "type": "ads_insights",
        "call_count": math.floor(hour),
        "total_cputime": 1,
        "total_time": 1,
        "estimated_time_to_regain_access": regain_min,
        "ads_api_access_tier": _TIER,
    }
    told = {
        "X-Business-Use-Case-Usage": {call.account: [case]},
        "X-Ad-Account-Usage": {
            "acc_id_util_pct": math.floor(score * 100) / 100, "reset_time_duration": reset_s,
            "ads_api_access_tier": _TIER,
        },
        "X-App-Usage": {"call_count": application, "total_time": 0, "total_cputime": 0},
        "x-fb-ads-insights-throttle": {"app_id_util_pct": application, "acc_id_util_pct": math.floor(hour)},
    }  # fmt: skip
    return {name: orjson.dumps(value).decode() for name, value in told.items()}


def _percent(world: World, rule: str, value: str) -> float:
    known = world.quotas.rules.get(rule)
    if known is None or not known.limit:
        return 0.0
    return min(100.0, 100.0 * used_in(world.quotas, rule, value) / known.limit)


_FAULTS: Mapping[str, tuple[int | None, int | None, int, str, Mapping[str, Any]]] = {
    "429": (80_000, None, 400, "There have been too many calls to this ad-account.", {}),
    "429_retry_after": (17, 2_446_079, 400, "User request limit reached", {}),
    "403_rate": (4, 1_504_022, 403, "Application request limit reached", _TRANSIENT),
    "403_user_rate": (17, None, 400, "User request limit reached", {}),
    "403_daily": (613, 1_487_742, 400, "Calls to this api have exceeded the rate limit.", {}),
    "ads_temporary": (4, 1_504_039, 400, "Application request limit reached", _TRANSIENT),
    "ads_daily": (80_004, None, 400, "There have been too many calls to this ad-account.", {}),
    "403_permission": (200, None, 403, "(#200) The owner of the ad account has not granted ads_read", {}),
    "token_expired": (*TOKEN_EXPIRED[:2], 400, TOKEN_EXPIRED[2], {}),
    "revoked": (*TOKEN_REVOKED[:2], 400, TOKEN_REVOKED[2], {}),
    # An error in an answer that calls itself a success.
    "internal": (1, None, 200, "An unknown error occurred", _TRANSIENT),
    "500": (2, 1_504_043, 500, "Service temporarily unavailable", _TRANSIENT),
}  # fmt: skip
_PLAIN = {"502": 502, "503": 503, "504": 504}
"""From servers in front of it, which know no envelope."""


class MetaDialect:
    """The refusals of the Graph API."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """Code 80000 at a full hour and 17 at a full score, with the time that is truly left; 4 for the application."""
        left = {name: free_in(world.quotas, name, _value(world, name, call), world.now()) for name in call.over}
        minutes = math.ceil(left.get(HOUR, 0.0) / 60)
        headers = usage_headers(world, call, regain_min=minutes, reset_s=math.ceil(left.get(SCORE, 0.0)))
        kind = "429" if HOUR in left else "429_retry_after" if SCORE in left else "403_rate"
        answer = _refused(kind)
        answer.headers.update(headers)
        return answer

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """As Meta would put it; ``seconds`` of a throttle go into the header that its code has. ``revoked`` also
        withdraws the user's consent, ``internal`` is an error at status 200."""
        if rule.fault == "revoked" and call.application and call.user:
            revoke_user(world.meta_oauth, call.application, call.user)
        if rule.fault in _PLAIN:
            return web.Response(status=_PLAIN[rule.fault], text="<html>Sorry</html>", content_type="text/html")
        if rule.fault not in _FAULTS:
            return None
        answer = _refused(rule.fault)
        seconds = math.ceil(rule.seconds or 0)
        scored = rule.fault in ("429_retry_after", "403_daily")
        told = {"reset_s": seconds} if scored else {"regain_min": math.ceil(seconds / 60)}
        answer.headers.update(usage_headers(world, call, **told))
        return answer

    def unexpected(self, status: int, reason: str) -> web.Response:
        """A path, method or body that no route takes."""
        return refusal(100, None, f"Unsupported request: {reason}", status)


def _refused(kind: str) -> web.Response:
    code, subcode, status, message, more = _FAULTS[kind]
    return refusal(code, subcode, message, status, **more)


def _value(world: World, name: str, call: Call) -> str:
    values = {"application": call.application, "user": call.user, "account": call.account}
    return values[world.quotas.rules[name].scope] or "unknown"


META = MetaDialect()
