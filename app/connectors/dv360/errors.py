"""DV360's one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``create``, ``run``, ``status`` (Bid Manager), ``download`` (the signed storage link), ``partners`` and
``advertisers`` (Display & Video 360).

A refusal is Google's ``{"error": {"code", "message", "status", "errors": [{"reason"}], "details"}}``, where ``reason``
and ``status`` are the provider's codes; a ``quota_limit`` in the details, or the message, may name the quota. The
storage behind a link answers XML, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.connectors import google_errors
from app.connectors.dv360.quotas import REPORTS_PER_DAY, REPORTS_PER_USER
from app.connectors.error_table import by_status
from app.connectors.google_errors import Row
from app.domain.errors import ErrorClass, Failure, ProviderError

_QUOTAS = "developers.google.com/bid-manager/quotas"
_ERRORS = f"developers.google.com/bid-manager/guides/general/errors, {google_errors.RPC}"
_LOST = "cloud.google.com/storage/docs/json_api/v1/status-codes"
_CLIENT = "google-api-python-client googleapiclient/http.py, _should_retry_response"
_SIGNED = "cloud.google.com/storage/docs/access-control/signed-urls: ExpiredToken 400, AccessDenied and expired V4 403"
_OWNED = "Bid Manager guide: queries and reports are visible only to the user who made them"

# Which bucket a plain "too fast" means is not said, so it names none and the planner closes the broadest short one.
ROWS: tuple[Row, ...] = (
    Row((403, 403), ErrorClass.QUOTA, "daily_quota", _QUOTAS, reasons=("dailyLimitExceeded",),
        retryable=True, throttle=True, quota=REPORTS_PER_DAY),
    Row((403, 429), ErrorClass.QUOTA, "daily_quota", _QUOTAS, reasons=("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
        window="day", retryable=True, throttle=True, quota=REPORTS_PER_DAY),
    Row((403, 429), ErrorClass.QUOTA, "rate_limited", _QUOTAS, reasons=("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
        window="user", retryable=True, throttle=True, quota=REPORTS_PER_USER),
    Row((403, 403), ErrorClass.QUOTA, "rate_limited", _CLIENT, reasons=("userRateLimitExceeded",),
        retryable=True, throttle=True, quota=REPORTS_PER_USER),
    Row((403, 403), ErrorClass.QUOTA, "rate_limited", google_errors.SLOW_DOWN,
        reasons=("rateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
        retryable=True, throttle=True),
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _QUOTAS, retryable=True, throttle=True),
    Row((400, 400), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _SIGNED,
        calls=("download",), retryable=True),
    Row((403, 403), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _SIGNED,
        calls=("download",), retryable=True),
    Row((401, 401), ErrorClass.PROVIDER_RESPONSE, "download_link_expired", _SIGNED,
        calls=("download",), retryable=True),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _LOST,
        calls=("download",), retryable=True, remote_lost=True),
    Row((403, 403), ErrorClass.AUTHORISATION, "insufficient_scope", google_errors.SCOPE,
        reasons=("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions")),
    Row((404, 404), ErrorClass.NOT_FOUND, "report_lost", _OWNED,
        calls=("run", "status"), retryable=True, remote_lost=True),
    *by_status(Row, _ERRORS),
)  # fmt: skip


def not_ours(status: int, headers: Mapping[str, str], content: bytes) -> bool:
    """Whether this refuses to ``run`` a query because it is not there, or is another user's: the provider may tell the
    two apart or not."""
    return status in (403, 404) and classify("run", status, headers, content).code in ("report_lost", "no_access")


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is not a plain 200."""
    return ProviderError(classify(call, status, headers, content))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    return google_errors.classify(ROWS, google_errors.read(status, headers, content), call)
