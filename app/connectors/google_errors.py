"""What Google's APIs say when they refuse, and how a table of rows turns it into a ``Failure``. Shared by the Google
types.

Envelope: ``{"error": {"code", "message", "status", "errors": [{"reason"}], "details": [{"@type": ...}]}}``; some
services answer it inside an array. Its parts are all optional in practice. Google Ads puts a ``GoogleAdsFailure`` into
the details: ``{"errors": [{"errorCode": {family: ENUM}, "message", "details": {"quotaErrorDetails": {"rateScope",
"retryDelay"}}}], "requestId"}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.connectors import error_table
from app.connectors.error_table import Refusal, failure_of, header_delay_s
from app.connectors.failures import shown
from app.domain.errors import Failure

SLOW_DOWN = (
    "google-api-python-client googleapiclient/http.py, _should_retry_response; google/api/error_reason.proto; "
    "developers.google.com core errors: quotaExceeded"
)
SCOPE = "google/api/error_reason.proto; developers.google.com core errors: insufficientPermissions"
RPC = "google/rpc/code.proto, mapping to HTTP"
"""Where what all of Google's APIs say is written: sources of rows."""

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")
_NAMED_LIMIT = re.compile(r"limit '([^']{1,200})'")


@dataclass(frozen=True, slots=True)
class GoogleError(Refusal):
    """A refusal in plain terms. ``reasons``: every machine-readable word in it, in the order of the body, those of
    Google Ads first and as ``family.ENUM``; ``window``: ``day``, ``user`` or ``other`` when it names the quota it
    enforces; ``scope``: ``ACCOUNT`` or ``DEVELOPER`` when it says whose."""

    reasons: tuple[str, ...] = ()
    window: str | None = None
    scope: str | None = None

    @property
    def provider_code(self) -> str:
        """Its first word, else the status."""
        return self.reasons[0] if self.reasons else str(self.http)


@dataclass(frozen=True, slots=True)
class Row(error_table.Row):
    """A row that may look at Google's words: ``reasons`` any of these (empty: whatever); ``window`` and ``scope`` as
    named by the refusal."""

    reasons: tuple[str, ...] = ()
    window: str | None = None
    scope: str | None = None

    def matches(self, error: GoogleError, call: str) -> bool:
        return (
            self.fits(error.http, call)
            and (not self.reasons or not set(self.reasons).isdisjoint(error.reasons))
            and (self.window is None or self.window == error.window)
            and (self.scope is None or self.scope == error.scope)
        )

    def words(self) -> tuple[str, ...]:
        """Reasons, or ``family.ENUM``."""
        return self.reasons

    def body(self) -> str:
        """Which quota or whose it names."""
        window = f"names a quota per {self.window}" if self.window else ""
        return f"rateScope {self.scope}" if self.scope else window


def read(status: int, headers: Mapping[str, str], content: bytes) -> GoogleError:
    """Reads a refusal; a body that is no envelope leaves only the status."""
    error = _envelope(content)
    details = _objects(error.get("details"))
    ads = [entry for detail in details for entry in _objects(detail.get("errors"))]
    quotas = [_object(_object(entry.get("details")).get("quotaErrorDetails")) for entry in ads]
    message = shown(str(error.get("message") or f"HTTP {status}"))
    violations = [violation for detail in details for violation in _violations(detail)]
    said = [str(entry["message"]) for entry in ads if entry.get("message")]
    scopes = [scope for quota in quotas if isinstance(scope := quota.get("rateScope"), str)]
    return GoogleError(
        http=status,
        reasons=(*_ads_reasons(ads), *_reasons(error, details)),
        message=shown("; ".join([message, *violations, *said])),
        window=_window(message, details),
        retry_after_s=_delay(headers, [*quotas, *details]),
        scope=scopes[0] if scopes else None,
    )


def classify(rows: Sequence[Row], error: GoogleError, call: str) -> Failure:
    """The failure of the first row that matches; the last row of a table must match everything."""
    return failure_of(next(row for row in rows if row.matches(error, call)), error)


def _envelope(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]


def _ads_reasons(errors: Sequence[dict[str, Any]]) -> Iterator[str]:
    for entry in errors:
        for family, code in _object(entry.get("errorCode")).items():
            yield shown(f"{family}.{code}", 120)


def _reasons(error: dict[str, Any], details: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    inner = [entry.get("reason") for entry in _list(error.get("errors")) if isinstance(entry, dict)]
    info = [detail.get("reason") for detail in details]
    return tuple(shown(word, 80) for word in (*inner, *info, error.get("status")) if isinstance(word, str) and word)


def _violations(detail: dict[str, Any]) -> list[str]:
    found = [entry for entry in _list(detail.get("fieldViolations")) if isinstance(entry, dict)]
    return [f"{entry.get('field', '')}: {entry.get('description', '')}" for entry in found]


def _window(message: str, details: Sequence[dict[str, Any]]) -> str | None:
    named = _NAMED_LIMIT.search(message)
    names = [named.group(1)] if named else []
    for detail in details:
        metadata = detail.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("quota_limit"), str):
            names.append(metadata["quota_limit"])
    if not names:
        return None
    text = names[-1].lower().replace(" ", "")
    return "day" if "perday" in text else "user" if "peruser" in text else "other"


def _delay(headers: Mapping[str, str], details: Sequence[dict[str, Any]]) -> float | None:
    """The longest ``retryDelay`` ("17s") of ``google.rpc.RetryInfo`` and Google Ads' ``quotaErrorDetails``, else a
    ``Retry-After`` in seconds, which Google does not document."""
    named = [_DURATION.fullmatch(str(detail.get("retryDelay", ""))) for detail in details]
    if delays := [float(match.group(1)) for match in named if match]:
        return max(delays)
    return header_delay_s(headers)
