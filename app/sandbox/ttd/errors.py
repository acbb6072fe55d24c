"""The provider's refusals: ``Message`` with ``ErrorDetails`` from the API, a lower-case ``message`` from the gateway
before it, ``Retry-After`` in seconds with 429 and 503."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.quotas import free_in
from app.sandbox.ttd.tokens import revoke
from app.sandbox.world import World

_LIMITED = frozenset({"429", "429_retry_after", "403_rate", "403_user_rate", "403_daily", "ads_temporary", "ads_daily"})
"""Faults that are a full quota; the provider has one way to say so."""


class InvalidError(Exception):
    """400, with (property, reason) of each fault."""

    def __init__(self, details: Sequence[tuple[str, str]]) -> None:
        super().__init__("The request failed validation")
        self.details = tuple(details)


class ForbiddenError(Exception):
    """403: no access, or no such entity; the provider does not tell them apart."""


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    fixed = {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(body=orjson.dumps(body), status=status, headers=fixed | (headers or {}))


def invalid(refused: InvalidError) -> web.Response:
    """400."""
    details = [{"Property": name, "Reasons": [reason]} for name, reason in refused.details]
    message = "The request failed validation. Please check your request and try again."
    return json_answer({"Message": message, "ErrorDetails": details}, 400)


def said(status: int, message: str, retry_after_s: float | None = None) -> web.Response:
    """The API's own words."""
    headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
    return json_answer({"Message": message}, status, headers)


def unauthorised() -> web.Response:
    """401 of the gateway, for a token that is missing, unknown, ended or revoked."""
    return json_answer({"message": "Unauthorized"}, 401)


class TtdDialect:
    """How The Trade Desk says no."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """429 with the true wait."""
        values = {"application": call.application or "unknown", "user": call.user or "unknown"}
        waits = [free_in(world.quotas, name, values[world.quotas.rules[name].scope], world.now()) for name in call.over]
        return said(429, "Too Many Requests", max(1.0, *waits))

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """The answer of an error fault; ``revoked`` also withdraws the user's long-lived tokens. What other providers
        alone can say gets the nearest that this one has."""
        if rule.fault == "revoked" and call.user:
            revoke(world.ttd.tokens, call.user)
        if rule.fault in _LIMITED:
            return said(429, "Too Many Requests", 60.0 if rule.seconds is None else rule.seconds)
        match rule.fault:
            case "403_permission":
                return said(403, "You do not have access to this entity, or it does not exist.")
            case "token_expired" | "revoked":
                return unauthorised()
            case "503":
                return said(503, "Service Unavailable", 1.0 if rule.seconds is None else rule.seconds)
            case "500" | "internal" | "502" | "504":
                return said(500 if rule.fault == "internal" else int(rule.fault), "An error has occurred.")
        return None

    def unexpected(self, status: int, reason: str) -> web.Response:
        """A path or method that no route takes."""
        return said(status, reason)


TTD = TtdDialect()
