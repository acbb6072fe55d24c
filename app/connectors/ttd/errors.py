"""The Trade Desk's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``template``, ``schedule``, ``executions``, ``view`` (a link to the API itself), ``signed`` (a link to a
storage), ``partners`` and ``advertisers``. Refusals name no machine-readable reason: the status says all. Their text
is ``{"Message", "ErrorDetails": [{"Property", "Reasons": [...]}]}``; the gateway before the API writes ``message``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.connectors.error_table import PlainRow as Row
from app.connectors.error_table import Refusal, by_status, failure_of, header_delay_s
from app.connectors.failures import shown
from app.domain.errors import ErrorClass, Failure, ProviderError

_GUIDE = "The Trade Desk API guide: response codes"
_LIMITS = "The Trade Desk API guide: rate limits, 429 with Retry-After in seconds"
_GONE = "The Trade Desk API guide: 403 means no access or no such entity; for a report just made it is the latter"
_LINK = "assumed: a pre-signed link that has ended is refused so, and a poll tells a new one"


ROWS: tuple[Row, ...] = (
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _LIMITS, retryable=True, throttle=True),
    Row((400, 401), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((403, 403), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _GUIDE,
        calls=("view", "signed"), retryable=True, remote_lost=True),
    Row((403, 403), ErrorClass.NOT_FOUND, "report_lost", _GONE,
        calls=("executions", "view"), retryable=True, remote_lost=True),
    Row((410, 410), ErrorClass.INVALID_REQUEST, "interface_retired", _GUIDE),
    *by_status(Row, _GUIDE),
)  # fmt: skip


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is no success."""
    return ProviderError(classify(call, status, headers, content))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    refused = read(status, headers, content)
    return failure_of(next(row for row in ROWS if row.matches(refused, call)), refused)


def read(status: int, headers: Mapping[str, str], content: bytes) -> Refusal:
    """Reads a refusal; a body that is none leaves only the status."""
    return Refusal(status, _message(status, content), header_delay_s(headers))


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
