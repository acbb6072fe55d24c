"""An answer for each row of Google Ads' error table."""

from __future__ import annotations

from typing import Any

import orjson

from app.connectors.google_ads.errors import classify
from app.connectors.google_errors import read
from tests.connectors.ads import ads_error
from tests.connectors.examples.case import GOOGLE_WORDS, Case, by_status, error_info

__all__ = ["CASES", "classify", "read", "said"]


def said(code: int, family: str, enum: str, **details: Any) -> bytes:
    return orjson.dumps([ads_error(code, family, enum, **details)])


def bare(code: int, *, listed: bool = True, **error: Any) -> bytes:
    """The envelope without a GoogleAdsFailure; a call that is no stream answers it outside a list."""
    told = {"error": {"code": code, "message": "No.", "status": GOOGLE_WORDS[code], **error}}
    return orjson.dumps([told] if listed else told)


def _word(code: str, status: int, family: str, enum: str, quota: str | None = None, **details: Any) -> Case:
    return Case(code, "search_stream", status, said(status, family, enum, **details), quota)


OLD_REASON = [{"message": "No.", "domain": "usageLimits", "reason": "rateLimitExceeded"}]
SCOPE = [error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")]
DAY = "operations_per_day"

CASES: tuple[Case, ...] = (
    _word("account_quota", 429, "quotaError", "RESOURCE_EXHAUSTED", rateScope="ACCOUNT"),
    _word("daily_quota", 429, "quotaError", "RESOURCE_EXHAUSTED", DAY, rateScope="DEVELOPER"),
    _word("rate_limited", 429, "quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", rateScope="DEVELOPER"),
    _word("no_access", 403, "quotaError", "ACCESS_PROHIBITED"),
    _word("reauthorise", 401, "authenticationError", "OAUTH_TOKEN_REVOKED"),
    _word("token_rejected", 401, "authenticationError", "OAUTH_TOKEN_EXPIRED"),
    _word("account_not_found", 401, "authenticationError", "CUSTOMER_NOT_FOUND"),
    _word("project_not_approved", 403, "authorizationError", "CLOUD_PROJECT_NOT_APPROVED_FOR_PRODUCTION"),
    _word("no_access", 403, "authorizationError", "CUSTOMER_NOT_ENABLED"),
    _word("invalid_account", 400, "requestError", "INVALID_CUSTOMER_ID"),
    _word("manager_account", 400, "queryError", "REQUESTED_METRICS_FOR_MANAGER"),
    _word("date_out_of_range", 400, "dateRangeError", "REQUESTED_DATE_GRANULARITY_NOT_SUPPORTED"),
    _word("provider_unavailable", 500, "internalError", "TRANSIENT_ERROR"),
    Case("rate_limited", "accessible", 429, bare(429, listed=False)),
    Case("rate_limited", "search_stream", 403, bare(403, errors=OLD_REASON)),
    Case("insufficient_scope", "accessible", 403, bare(403, listed=False, details=SCOPE)),
    _word("invalid_report", 400, "queryError", "UNRECOGNIZED_FIELD"),
    *by_status(
        "search_stream",
        bodies=(bare(401), bare(403), b"<html>Not Found</html>"),
    ),
)
