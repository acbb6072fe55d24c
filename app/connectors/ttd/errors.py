"""The Trade Desk's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``template``, ``schedule``, ``executions``, ``view`` (a link to the API itself), ``signed`` (a link to a
storage), ``partners``, ``advertisers`` and ``graphql``. Refusals of REST name no machine-readable reason: the status
says all. Their text is ``{"Message", "ErrorDetails": [{"Property", "Reasons": [...]}]}``; the gateway before the API
writes ``message``. GraphQL answers 200 with ``{"errors": [{"message", "extensions": {"code"}}]}``, with or without
``data`` beside it; of several codes the one whose row stands first decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.connectors import error_table
from app.connectors.error_table import ANY, Refusal, by_status, failure_of, header_delay_s
from app.connectors.failures import shown
from app.domain.errors import ErrorClass, Failure, ProviderError

_GUIDE = "The Trade Desk API guide: response codes"
_LIMITS = "The Trade Desk API guide: rate limits, 429 with Retry-After in seconds"
_GONE = "The Trade Desk API guide: 403 means no access or no such entity; for a report just made it is the latter"
_LINK = "assumed: a pre-signed link that has ended is refused so, and a poll tells a new one"
_GRAPHQL = "The Trade Desk API guide: GraphQL error codes"
_MOST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class TtdRefusal(Refusal):
    """A refusal in plain terms. ``codes`` are GraphQL's words for it; REST has none."""

    codes: tuple[str, ...] = ()

    @property
    def provider_code(self) -> str:
        """The first code, else the status."""
        return self.codes[0] if self.codes else str(self.http)


@dataclass(frozen=True, slots=True)
class Row(error_table.Row):
    """A row that may look at GraphQL's codes: any of ``codes`` (empty: whatever)."""

    codes: tuple[str, ...] = ()

    def matches(self, refusal: TtdRefusal, call: str) -> bool:
        return self.fits(refusal.http, call) and (not self.codes or any(code in self.codes for code in refusal.codes))

    def words(self) -> tuple[str, ...]:
        """GraphQL's codes."""
        return self.codes


ROWS: tuple[Row, ...] = (
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _LIMITS, retryable=True, throttle=True),
    Row((400, 401), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((403, 403), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _LINK, calls=("signed",), retryable=True),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _GUIDE,
        calls=("view", "signed"), retryable=True, remote_lost=True),
    Row((403, 403), ErrorClass.NOT_FOUND, "report_lost", _GONE,
        calls=("executions", "view"), retryable=True, remote_lost=True),
    Row((410, 410), ErrorClass.INVALID_REQUEST, "interface_retired", _GUIDE),
    Row(ANY, ErrorClass.AUTHORISATION, "token_rejected", _GRAPHQL, codes=("AUTHENTICATION_FAILURE",)),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_GRAPHQL}; assumed: what is full is the minute of GraphQL",
        codes=("RESOURCE_LIMIT_EXCEEDED",), retryable=True, throttle=True),
    Row(ANY, ErrorClass.NOT_FOUND, "not_found", _GRAPHQL, codes=("NOT_FOUND",)),
    Row(ANY, ErrorClass.INVALID_REQUEST, "invalid_report", _GRAPHQL, codes=("VALIDATION_FAILURE",)),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", _GRAPHQL,
        codes=("INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE"), retryable=True, system=True),
    *by_status(Row, _GUIDE),
)  # fmt: skip


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is no success."""
    return ProviderError(classify(call, status, headers, content))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    refused = read(status, headers, content)
    return failure_of(next(row for row in ROWS if row.matches(refused, call)), refused)


def read(status: int, headers: Mapping[str, str], content: bytes) -> TtdRefusal:
    """Reads a refusal; a body that is none leaves only the status."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return TtdRefusal(status, f"HTTP {status}", header_delay_s(headers))
    told = body.get("errors")
    listed = [error for error in told if isinstance(error, dict)] if isinstance(told, list) else []
    message = _messages(status, listed) if listed else _message(status, body)
    return TtdRefusal(status, message, header_delay_s(headers), tuple(_codes(listed)))


def _codes(listed: list[dict[str, Any]]) -> Iterator[str]:
    for error in listed:
        extensions = error.get("extensions")
        code = extensions.get("code") if isinstance(extensions, dict) else None
        if isinstance(code, str):
            yield shown(code, 60)


def _messages(status: int, listed: list[dict[str, Any]]) -> str:
    said = [text for error in listed[:_MOST_ERRORS] if isinstance(text := error.get("message"), str) and text]
    return shown("; ".join(said)) or f"HTTP {status}"


def _message(status: int, body: Mapping[str, Any]) -> str:
    said = body.get("Message") or body.get("message") or f"HTTP {status}"
    return shown("; ".join([str(said), *_details(body.get("ErrorDetails"))]))


def _details(details: Any) -> Iterator[str]:
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            reasons = detail.get("Reasons")
            told = reasons if isinstance(reasons, list) else []
            yield f"{detail.get('Property', '')}: {', '.join(map(str, told))}"
