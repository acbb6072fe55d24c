"""The Trade Desk's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``template``, ``schedule``, ``executions``, ``view`` (a link to the API itself), ``signed`` (a link to a
storage), ``partners`` and ``advertisers``. Refusals name no machine-readable reason: the status says all. Their text
is ``{"Message", "ErrorDetails": [{"Property", "Reasons": [...]}]}``; the gateway before the API writes ``message``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.connectors.failures import shown
from app.domain.errors import ErrorClass, Failure, ProviderError, Throttle

_GUIDE = "The Trade Desk API guide: response codes"
_LIMITS = "The Trade Desk API guide: rate limits, 429 with Retry-After in seconds"
_GONE = "The Trade Desk API guide: 403 means no access or no such entity; for a report just made it is the latter"
_LINK = "assumed: a pre-signed link that has ended is refused so, and a poll tells a new one"
_HTTP = "RFC 9110"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: which refusals it matches, and the failure they become. ``http`` is an inclusive range; ``calls`` the
    names of calls (empty: all). ``throttle`` marks *not now*: a call spends from one quota, so none is named."""

    http: tuple[int, int]
    error_class: ErrorClass
    code: str
    source: str
    calls: tuple[str, ...] = ()
    retryable: bool = False
    system: bool = False
    remote_lost: bool = False
    throttle: bool = False

    def matches(self, call: str, status: int) -> bool:
        return self.http[0] <= status <= self.http[1] and (not self.calls or call in self.calls)


ROWS: tuple[Row, ...] = (
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _LIMITS, retryable=True, throttle=True),
    Row((400, 401), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((403, 403), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _GUIDE,
        calls=("view", "signed"), retryable=True, remote_lost=True),
    Row((403, 403), ErrorClass.NOT_FOUND, "report_lost", _GONE,
        calls=("executions", "view"), retryable=True, remote_lost=True),
    Row((401, 401), ErrorClass.AUTHORISATION, "token_rejected", _GUIDE),
    Row((403, 403), ErrorClass.AUTHORISATION, "no_access", _GUIDE),
    Row((404, 404), ErrorClass.NOT_FOUND, "not_found", _GUIDE),
    Row((410, 410), ErrorClass.INVALID_REQUEST, "interface_retired", _GUIDE),
    Row((408, 408), ErrorClass.PROVIDER_SYSTEM, "read_timeout", _HTTP, retryable=True, system=True),
    Row((400, 400), ErrorClass.INVALID_REQUEST, "invalid_report", _GUIDE),
    Row((402, 499), ErrorClass.INVALID_REQUEST, "request_refused", _GUIDE),
    Row((500, 599), ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", _GUIDE, retryable=True, system=True),
    Row((300, 399), ErrorClass.PROVIDER_RESPONSE, "redirect_refused", "redirects are never followed"),
    Row((0, 999), ErrorClass.PROVIDER_RESPONSE, "unexpected_status", "no other status is documented", retryable=True),
)  # fmt: skip


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is no success."""
    return ProviderError(classify(call, status, headers, content))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    row = next(row for row in ROWS if row.matches(call, status))
    wait_s = _retry_after(headers)
    return Failure(
        error_class=row.error_class,
        code=row.code,
        message=_message(status, content),
        retryable=row.retryable,
        provider_code=str(status),
        retry_after_s=wait_s,
        throttle=Throttle(None, wait_s) if row.throttle else None,
        system=row.system,
        remote_lost=row.remote_lost,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() and text.isascii() and len(text) <= 6 else None


def _message(status: int, content: bytes) -> str:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return f"HTTP {status}"
    said = body.get("Message") or body.get("message") or f"HTTP {status}"
    return shown("; ".join([str(said), *_details(body.get("ErrorDetails"))]))


def _details(details: Any) -> Iterator[str]:
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            reasons = detail.get("Reasons")
            told = reasons if isinstance(reasons, list) else []
            yield f"{detail.get('Property', '')}: {', '.join(map(str, told))}"
