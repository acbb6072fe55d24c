"""Google Ads' one error table. The first row that matches decides; every row is tested by itself.

Calls are named ``search_stream`` and ``accessible``. Most refusals name a ``family.ENUM``, which says more than the
HTTP status and may come inside a stream that began with 200, where there is none: such rows come first and take any
status. Both stand in Google's ``{"error": {"code", "message", "status", "details"}}``, the latter in a
``GoogleAdsFailure``: ``{"errors": [{"errorCode": {family: ENUM}, "details": {"quotaErrorDetails": {"rateScope",
"retryDelay"}}}]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.connectors import google_errors
from app.connectors.error_table import ANY, by_status
from app.connectors.google_ads.quotas import OPERATIONS_PER_DAY
from app.connectors.google_errors import Row
from app.domain.errors import ErrorClass, Failure, ProviderError

_QUOTA = "google.ads.googleads.v26.errors.QuotaErrorEnum"
_AUTHENTICATION = "google.ads.googleads.v26.errors.AuthenticationErrorEnum"
_AUTHORIZATION = "google.ads.googleads.v26.errors.AuthorizationErrorEnum"
_INTERNAL = "google.ads.googleads.v26.errors.InternalErrorEnum"
_REQUEST = "google.ads.googleads.v26.errors.RequestErrorEnum, HeaderErrorEnum"
_QUERY = "google.ads.googleads.v26.errors.QueryErrorEnum"
_RETENTION = "google.ads.googleads.v26.errors.DateRangeErrorEnum: daily figures are kept for 37 months"
_LIMITS = "developers.google.com/google-ads/api/docs/best-practices/quotas"
_COMMON = "developers.google.com/google-ads/api/docs/common-errors"

_LONG = ("quotaError.RESOURCE_EXHAUSTED", "quotaError.EXCESSIVE_LONG_TERM_QUERY_RESOURCE_CONSUMPTION")
_SHORT = (
    "quotaError.RESOURCE_TEMPORARILY_EXHAUSTED",
    "quotaError.EXCESSIVE_SHORT_TERM_QUERY_RESOURCE_CONSUMPTION",
)

# A throttle closes a bucket for every organisation, so what one account alone has used up is no throttle: its batch
# waits as long as it was told.
ROWS: tuple[Row, ...] = (
    Row(ANY, ErrorClass.QUOTA, "account_quota", f"{_QUOTA}, {_LIMITS}: rateScope ACCOUNT", reasons=(*_LONG, *_SHORT),
        scope="ACCOUNT", retryable=True),
    Row(ANY, ErrorClass.QUOTA, "daily_quota", f"{_QUOTA}, {_LIMITS}", reasons=_LONG,
        retryable=True, throttle=True, quota=OPERATIONS_PER_DAY),
    Row(ANY, ErrorClass.QUOTA, "rate_limited", f"{_QUOTA}, {_LIMITS}", reasons=_SHORT, retryable=True, throttle=True),
    Row(ANY, ErrorClass.AUTHORISATION, "no_access", _QUOTA, reasons=("quotaError.ACCESS_PROHIBITED",)),
    Row(ANY, ErrorClass.AUTHORISATION, "reauthorise", _AUTHENTICATION,
        reasons=("authenticationError.OAUTH_TOKEN_REVOKED", "authenticationError.OAUTH_TOKEN_DISABLED",
                 "authenticationError.NOT_ADS_USER", "authenticationError.GOOGLE_ACCOUNT_DELETED",
                 "authenticationError.TWO_STEP_VERIFICATION_NOT_ENROLLED",
                 "authenticationError.ADVANCED_PROTECTION_NOT_ENROLLED")),
    Row(ANY, ErrorClass.AUTHORISATION, "token_rejected", _AUTHENTICATION,
        reasons=("authenticationError.OAUTH_TOKEN_EXPIRED", "authenticationError.OAUTH_TOKEN_INVALID")),
    Row(ANY, ErrorClass.NOT_FOUND, "account_not_found", _AUTHENTICATION,
        reasons=("authenticationError.CUSTOMER_NOT_FOUND",)),
    Row(ANY, ErrorClass.AUTHORISATION, "project_not_approved", _AUTHORIZATION,
        reasons=("authorizationError.CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION",
                 "authorizationError.DEVELOPER_TOKEN_NOT_APPROVED", "authorizationError.DEVELOPER_TOKEN_PROHIBITED",
                 "authorizationError.PROJECT_DISABLED")),
    Row(ANY, ErrorClass.AUTHORISATION, "no_access", _AUTHORIZATION,
        reasons=("authorizationError.USER_PERMISSION_DENIED", "authorizationError.CUSTOMER_NOT_ENABLED")),
    Row(ANY, ErrorClass.INVALID_REQUEST, "invalid_account", _REQUEST,
        reasons=("requestError.INVALID_CUSTOMER_ID", "headerError.INVALID_LOGIN_CUSTOMER_ID")),
    Row(ANY, ErrorClass.INVALID_REQUEST, "manager_account", _QUERY,
        reasons=("queryError.REQUESTED_METRICS_FOR_MANAGER",)),
    Row(ANY, ErrorClass.INVALID_REQUEST, "date_out_of_range", _RETENTION,
        reasons=("dateRangeError.REQUESTED_DATE_GRANULARITY_NOT_SUPPORTED", "dateRangeError.INVALID_DATE")),
    Row(ANY, ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", _INTERNAL,
        reasons=("internalError.INTERNAL_ERROR", "internalError.TRANSIENT_ERROR", "internalError.DEADLINE_EXCEEDED"),
        retryable=True, system=True),
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", _LIMITS, retryable=True, throttle=True),
    Row((403, 403), ErrorClass.QUOTA, "rate_limited", google_errors.SLOW_DOWN,
        reasons=("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED",
                 "RESOURCE_EXHAUSTED"), retryable=True, throttle=True),
    Row((403, 403), ErrorClass.AUTHORISATION, "insufficient_scope", google_errors.SCOPE,
        reasons=("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions")),
    *by_status(Row, _COMMON, bad_source=f"{_QUERY}, DateRangeErrorEnum; {_COMMON}"),
)  # fmt: skip


def refusal(call: str, status: int, headers: Mapping[str, str], content: bytes) -> ProviderError:
    """The classified failure of an answer that is not a plain 200."""
    return ProviderError(classify(call, status, headers, content))


def refused_within(element: Mapping[str, Any]) -> ProviderError:
    """The failure that an answer turned into after it had begun: its ``{"error": ...}``, with the status it names."""
    error = element.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return refusal("search_stream", status, {}, orjson.dumps({"error": error}))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status, headers (lower case) and body of an answer to ``call`` -> what the planner is told."""
    return google_errors.classify(ROWS, google_errors.read(status, headers, content), call)
