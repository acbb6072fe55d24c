"""How Google Sheets says no: Google's envelope; a full quota is named, and no time is told."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.google_errors import GoogleDialect, google_error
from app.sandbox.sheets.quotas import WRITES
from app.sandbox.world import World

_PROJECT = "project_number:123456789012"


class SheetsError(Exception):
    """A refusal with its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def no_sheet_in(text: str) -> SheetsError:
    """A range whose sheet is not there, or that is none: from outside they look the same."""
    return SheetsError(f"Unable to parse range: {text}")


class SheetsDialect(GoogleDialect):
    """The refusals of Google Sheets."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """429 that names the limit."""
        by_user = all(world.quotas.rules[name].scope == "user" for name in call.over)
        return quota_exceeded(writes=call.quota_group == WRITES, by_user=by_user)

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """A full quota as Sheets tells it, whatever the dialect; all else as Google's other APIs do."""
        plain = super().fault(world, rule, call)
        if plain is None or rule.fault not in ("429", "429_retry_after"):
            return plain
        answer = quota_exceeded(writes=call.quota_group == WRITES, by_user=True)
        if "Retry-After" in plain.headers:
            answer.headers["Retry-After"] = plain.headers["Retry-After"]
        return answer


def quota_exceeded(*, writes: bool, by_user: bool) -> web.Response:
    """The answer of a full quota."""
    kind = "Write" if writes else "Read"
    limit = f"{kind} requests per minute" + (" per user" if by_user else "")
    info: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {
            "quota_limit": f"{kind}RequestsPerMinutePer{'User' if by_user else 'Project'}",
            "quota_metric": f"sheets.googleapis.com/{kind.lower()}_requests",
            "service": "sheets.googleapis.com",
            "consumer": f"projects/{_PROJECT.partition(':')[2]}",
        },
    }
    message = (
        f"Quota exceeded for quota metric '{kind} requests' and limit '{limit}' of service 'sheets.googleapis.com' "
        f"for consumer '{_PROJECT}'."
    )
    return google_error(429, message, [info])


SHEETS = SheetsDialect()
