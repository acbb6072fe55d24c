"""How Google Ads says no: Google's envelope with a ``GoogleAdsFailure`` in its details. searchStream answers it inside
an array, the other calls do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.google_errors import CHALLENGE, GoogleDialect, google_error
from app.sandbox.quotas import QuotaRule, free_in
from app.sandbox.world import World

_FAILURE = "type.googleapis.com/google.ads.googleads.v26.errors.GoogleAdsFailure"
_STATUS = {"authenticationError": 401, "authorizationError": 403, "quotaError": 429, "internalError": 500}
_MESSAGES = {
    400: "Request contains an invalid argument.",
    401: "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential.",
    403: "The caller does not have permission",
    429: "Resource has been exhausted (e.g. check quota).",
    500: "Internal error encountered.",
    504: "Deadline expired before operation could complete.",
}
_DAY_S = 86_400.0
_DEFAULT_DELAY_S = {"ads_temporary": 30.0, "ads_daily": 40_591.0}


class AdsError(Exception):
    """A refusal: ``family`` and ``code`` are the one pair of ``errorCode``; ``status`` HTTP."""

    def __init__(
        self,
        family: str,
        code: str,
        message: str,
        status: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.family, self.code, self.message = family, code, message
        self.status = _STATUS.get(family, 400) if status is None else status
        self.details = details


def query_error(code: str, message: str) -> AdsError:
    """A query that is not accepted."""
    return AdsError("queryError", code, f"Error in query: {message}")


def request_id(call: Call) -> str:
    """The id that answers and failures name; one per call."""
    return f"sandbox-{call.sequence}"


def failure(error: AdsError, call: Call) -> web.Response:
    """The envelope with its GoogleAdsFailure."""
    one: dict[str, Any] = {"errorCode": {error.family: error.code}, "message": error.message}
    if error.details is not None:
        one["details"] = error.details
    detail = {"@type": _FAILURE, "errors": [one], "requestId": request_id(call)}
    headers = {"request-id": request_id(call)}
    if error.code.startswith("OAUTH_TOKEN"):
        headers["WWW-Authenticate"] = CHALLENGE
    return google_error(error.status, _MESSAGES[error.status], [detail], headers=headers)


def duration(seconds: float) -> str:
    """A span as protobuf writes it in JSON."""
    return f"{seconds:.0f}s" if seconds == int(seconds) else f"{seconds:.3f}s"


def exhausted(code: str, rate_name: str, delay_s: float) -> AdsError:
    """A full quota of the whole project, and when it takes calls again."""
    told = {"rateScope": "DEVELOPER", "rateName": rate_name, "retryDelay": duration(delay_s)}
    text = f"Too many requests. Retry in {duration(delay_s)[:-1]} seconds."
    return AdsError("quotaError", code, text, details={"quotaErrorDetails": told})


_RATE_NAMES = {"ads_operations": "Number of operations for basic access", "ads_minute": "Number of requests per minute"}
_TEMPORARILY = ("quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", "Too many requests. Retry later.")
_FAULTS: Mapping[str, tuple[str, str, str]] = {
    "429": _TEMPORARILY,
    "429_retry_after": _TEMPORARILY,
    "403_permission": ("authorizationError", "USER_PERMISSION_DENIED", "User doesn't have permission."),
    "token_expired": ("authenticationError", "OAUTH_TOKEN_EXPIRED", "OAuth token in the header has expired."),
    "revoked": ("authenticationError", "OAUTH_TOKEN_REVOKED", "OAuth token in the header has been revoked."),
    "500": ("internalError", "INTERNAL_ERROR", "An internal error has occurred."),
    "internal": ("internalError", "TRANSIENT_ERROR", "A transient internal error has occurred."),
    "504": ("internalError", "DEADLINE_EXCEEDED", "The request took longer than its deadline."),
}


@dataclass(frozen=True)
class AdsDialect(GoogleDialect):
    """The refusals of Google Ads; ``listed`` puts them into an array, as searchStream does."""

    listed: bool = False

    def throttled(self, world: World, call: Call) -> web.Response:
        """429 with the time that is truly left, in whole seconds, of the quota that stays full the longest."""
        rules = [world.quotas.rules[name] for name in call.over]
        longest = max(rules, key=lambda rule: rule.period_s)
        code = "RESOURCE_EXHAUSTED" if longest.period_s >= _DAY_S else "RESOURCE_TEMPORARILY_EXHAUSTED"
        left = max(free_in(world.quotas, rule.name, _value(rule, call), world.now()) for rule in rules)
        return self.refused(exhausted(code, _RATE_NAMES.get(longest.name, longest.name), math.ceil(left)), call)

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """As Google Ads would put it; what it has no words for as Google's other APIs do (502 and 503 come from
        servers in front of it, the former as a page)."""
        plain = super().fault(world, rule, call)
        if rule.fault in _DEFAULT_DELAY_S:
            delay_s = _DEFAULT_DELAY_S[rule.fault] if rule.seconds is None else rule.seconds
            daily = rule.fault == "ads_daily"
            code, name = (
                ("RESOURCE_EXHAUSTED", "ads_operations") if daily else ("RESOURCE_TEMPORARILY_EXHAUSTED", "ads_minute")
            )
            return self.refused(exhausted(code, _RATE_NAMES[name], delay_s), call)
        if rule.fault not in _FAULTS:
            return plain if plain is None else self.shaped(plain)
        family, code, message = _FAULTS[rule.fault]
        answer = self.refused(AdsError(family, code, message, 504 if rule.fault == "504" else None), call)
        if plain is not None and "Retry-After" in plain.headers:
            answer.headers["Retry-After"] = plain.headers["Retry-After"]
        return answer

    def unexpected(self, status: int, reason: str) -> web.Response:
        """The bare envelope."""
        return self.shaped(google_error(status, reason))

    def refused(self, error: AdsError, call: Call) -> web.Response:
        """A failure in the form of this call."""
        return self.shaped(failure(error, call))

    def shaped(self, answer: web.Response) -> web.Response:
        """The error answer, in an array where this call wants one; a page of a front end is none of its answers."""
        if self.listed and isinstance(answer.body, bytes) and answer.content_type == "application/json":
            answer.body = b"[" + answer.body + b"]"
        return answer


def _value(rule: QuotaRule, call: Call) -> str:
    values = {"application": call.application, "user": call.user, "account": call.account}
    return values[rule.scope] or "unknown"


ADS = AdsDialect()
ADS_STREAM = AdsDialect(listed=True)
