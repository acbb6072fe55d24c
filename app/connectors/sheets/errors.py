"""Google Sheets' one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``metadata``, ``read``, ``stamp`` (reading a stamp back), ``append`` and ``update``. A full quota is
told with the name of its limit (``quota_limit`` of ``google.rpc.ErrorInfo``, and in the message), and without any time.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.connectors import google_errors
from app.connectors.google_errors import Row
from app.connectors.sheets.quotas import READS, READS_OF_USER, WRITES, WRITES_OF_USER
from app.domain.errors import ErrorClass, Failure, ProviderError

READING = ("metadata", "read", "stamp")
WRITING = ("append", "update")

_LIMITS = "developers.google.com/workspace/sheets/api/limits"
_BODY = "answers quoted in public reports: google.rpc.ErrorInfo with quota_limit ...PerMinutePerUser, ...PerProject"
_TROUBLE = "developers.google.com/workspace/sheets/api/troubleshoot-api-errors"
_CONCEPTS = "developers.google.com/workspace/sheets/api/guides/concepts: A1 notation"
_OFF = "google/api/error_reason.proto; developers.google.com core errors: accessNotConfigured"

_ANY = (0, 999)
_RATE = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED")
_FULL = (403, 429)


def _full(calls: tuple[str, ...], window: str, quota: str) -> Row:
    return Row(_FULL, ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}; {_BODY}", reasons=_RATE, window=window,
               calls=calls, retryable=True, throttle=True, quota=quota)  # fmt: skip


ROWS: tuple[Row, ...] = (
    _full(READING, "user", READS_OF_USER),
    _full(READING, "other", READS),
    _full(WRITING, "user", WRITES_OF_USER),
    _full(WRITING, "other", WRITES),
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", f"{_LIMITS}: 429, no limit named", retryable=True, throttle=True),
    Row((403, 403), ErrorClass.QUOTA, "rate_limited", google_errors.SLOW_DOWN,
        reasons=_RATE, retryable=True, throttle=True),
    Row((401, 401), ErrorClass.AUTHORISATION, "token_rejected", _TROUBLE),
    Row((403, 403), ErrorClass.AUTHORISATION, "insufficient_scope", google_errors.SCOPE,
        reasons=("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions")),
    Row((403, 403), ErrorClass.AUTHORISATION, "api_disabled", f"{_OFF}: the API is off in our own Cloud project",
        reasons=("SERVICE_DISABLED", "accessNotConfigured")),
    Row((403, 403), ErrorClass.AUTHORISATION, "no_access", f"{_TROUBLE}: not shared, or a protected range"),
    Row((404, 404), ErrorClass.NOT_FOUND, "spreadsheet_not_found", _TROUBLE),
    Row((400, 400), ErrorClass.INVALID_REQUEST, "not_a_spreadsheet",
        f"{google_errors.RPC}: a file of another kind behind the id", reasons=("FAILED_PRECONDITION",)),
    Row((400, 400), ErrorClass.INVALID_REQUEST, "invalid_range", f"{_CONCEPTS}: no such sheet, or beyond its grid",
        calls=("read",)),
    Row((400, 400), ErrorClass.INVALID_REQUEST, "invalid_write", f"{_CONCEPTS}; {_LIMITS}: nothing of it is applied",
        calls=WRITING),
    Row((408, 408), ErrorClass.PROVIDER_SYSTEM, "read_timeout", "RFC 9110", retryable=True, system=True),
    # Two writers met, and neither is at fault: what was not applied is sent again.
    Row((409, 409), ErrorClass.PROVIDER_SYSTEM, "conflict", f"{google_errors.RPC}: ABORTED", retryable=True),
    Row((413, 413), ErrorClass.TOO_LARGE, "request_too_large", f"{_LIMITS}: 2 MB are recommended"),
    Row((400, 499), ErrorClass.INVALID_REQUEST, "request_refused", "RFC 9110"),
    Row((500, 599), ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", _TROUBLE, retryable=True, system=True),
    Row((300, 399), ErrorClass.PROVIDER_RESPONSE, "redirect_refused", "redirects are never followed"),
    Row(_ANY, ErrorClass.PROVIDER_RESPONSE, "unexpected_status", "no other status is documented", retryable=True),
)  # fmt: skip


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is not a plain 200."""
    return ProviderError(classify(call, status, headers, content))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    return google_errors.classify(ROWS, google_errors.read(status, headers, content), call)
