"""Google's error envelope and its dialects of refusal. No answer carries Retry-After or a remaining count: none is
documented for these APIs, except where a fault asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.google_oauth.state import revoke_user
from app.sandbox.world import World

JSON_TYPE = "application/json; charset=UTF-8"
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential."
)
_FRONT_END = "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)</title></html>"
"""No service says 502, for no word of google/rpc/code.proto becomes one: it is a page of the servers in front of it."""
CHALLENGE = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer as Google sends it."""
    fixed = {"Content-Type": JSON_TYPE, "Cache-Control": "private"}
    return web.Response(body=orjson.dumps(body), status=status, headers=fixed | (headers or {}))


def google_error(
    status: int,
    message: str,
    details: Sequence[dict[str, Any]] = (),
    reason: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """The envelope; ``reason`` adds the older ``errors`` list that some 403 answers still carry."""
    error: dict[str, Any] = {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}
    if reason:
        error["errors"] = [{"message": message, "domain": "usageLimits", "reason": reason}]
    if details:
        error["details"] = list(details)
    return json_answer({"error": error}, status, headers)


def invalid_argument(violations: Sequence[tuple[str, str]]) -> web.Response:
    """400 with one field violation per (field, description)."""
    fields = [{"field": field, "description": description} for field, description in violations]
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields}
    return google_error(400, f"Invalid value at '{violations[0][0]}': {violations[0][1]}", [detail])


def unauthenticated() -> web.Response:
    """401 for an unknown, expired or revoked access token: from outside they look the same."""
    return google_error(401, _UNAUTHENTICATED, headers={"WWW-Authenticate": CHALLENGE})


def scope_missing(method: str) -> web.Response:
    """403 when the token lacks the API's scope."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"method": method},
    }
    return google_error(403, "Request had insufficient authentication scopes.", [info])


def rate_limited(status: int, reason: str) -> web.Response:
    """A full quota in either dialect: 429, or 403 with a reason."""
    message = "Quota exceeded for this day." if reason == "dailyLimitExceeded" else "Rate Limit Exceeded"
    return google_error(status, message, reason=reason if status == 403 else None)


_LIMITED = {
    "429": (429, "rateLimitExceeded"),
    "429_retry_after": (429, "rateLimitExceeded"),
    "403_rate": (403, "rateLimitExceeded"),
    "403_user_rate": (403, "userRateLimitExceeded"),
    "403_daily": (403, "dailyLimitExceeded"),
    "ads_temporary": (429, "rateLimitExceeded"),
    "ads_daily": (429, "dailyLimitExceeded"),
}
"""Fault -> how a full quota is told."""


class GoogleDialect:
    """The refusals of Google's JSON APIs."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """429, or 403 with the reason, as the settings say."""
        daily = any(world.quotas.rules[name].calendar_zone for name in call.over)
        by_user = all(world.quotas.rules[name].scope == "user" for name in call.over)
        reason = "dailyLimitExceeded" if daily else "userRateLimitExceeded" if by_user else "rateLimitExceeded"
        return rate_limited(403 if world.settings.dialect == "403" else 429, reason)

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """The answer of an error fault; ``revoked`` also withdraws the user's consent. Google Ads' own faults get the
        nearest that these APIs have."""
        if rule.fault == "revoked" and call.application and call.user:
            revoke_user(world.oauth, call.application, call.user)
        if rule.fault in _LIMITED:
            answer = rate_limited(*_LIMITED[rule.fault])
            if rule.fault == "429_retry_after":
                answer.headers["Retry-After"] = f"{rule.seconds or 1:g}"
            return answer
        match rule.fault:
            case "403_permission":
                return google_error(403, "The caller does not have permission")
            case "token_expired" | "revoked":
                return unauthenticated()
            case "internal":
                return google_error(500, "Internal error encountered.")
            case "502":
                return web.Response(status=502, text=_FRONT_END, content_type="text/html")
            case "500" | "503" | "504":
                return google_error(int(rule.fault), "The service is currently unavailable.")
        return None

    def unexpected(self, status: int, reason: str) -> web.Response:
        """The envelope for a path or method that no route takes."""
        return google_error(status, reason)


GOOGLE = GoogleDialect()
