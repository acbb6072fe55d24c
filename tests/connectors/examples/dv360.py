"""An answer for each row of DV360's error table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.connectors.dv360.errors import classify
from app.connectors.google_errors import read
from tests.connectors.examples.case import GOOGLE_WORDS, Case, by_status, error_info

__all__ = ["CASES", "classify", "envelope", "read"]

STATUS = {word: status for status, word in GOOGLE_WORDS.items()}
BUSY = "Quota exceeded for quota metric 'Queries' and limit 'Queries per {} of service x"


def envelope(
    status: str = "PERMISSION_DENIED",
    message: str = "No.",
    reason: str | None = None,
    details: Sequence[dict[str, Any]] = (),
) -> bytes:
    error: dict[str, Any] = {"code": STATUS[status], "message": message, "status": status}
    if reason:
        error["errors"] = [{"message": message, "domain": "usageLimits", "reason": reason}]
    if details:
        error["details"] = details
    return orjson.dumps({"error": error})


DAY = error_info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDayPerProject")
PER_DAY = envelope("RESOURCE_EXHAUSTED", details=[DAY])
SCOPE = envelope(details=[error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")])
PER_USER = envelope("RESOURCE_EXHAUSTED", message=BUSY.format("minute per user'"))
XML = "application/xml"

CASES: tuple[Case, ...] = (
    Case("daily_quota", "create", 403, envelope(reason="dailyLimitExceeded"), quota="reports_per_day"),
    Case("daily_quota", "status", 429, PER_DAY, quota="reports_per_day"),
    Case("rate_limited", "run", 429, PER_USER, quota="reports_per_user"),
    Case("rate_limited", "run", 403, envelope(reason="userRateLimitExceeded"), quota="reports_per_user"),
    Case("rate_limited", "run", 403, envelope(reason="rateLimitExceeded")),
    Case("rate_limited", "create", 429, envelope("RESOURCE_EXHAUSTED")),
    Case("download_link_expired", "download", 400, b"<Error><Code>ExpiredToken</Code></Error>", content_type=XML),
    Case("download_link_expired", "download", 403, b"<Error><Code>AccessDenied</Code></Error>", content_type=XML),
    Case("download_link_expired", "download", 401),
    Case("report_lost", "download", 404, b"<Error><Code>NoSuchKey</Code></Error>", content_type=XML),
    Case("insufficient_scope", "create", 403, SCOPE),
    Case("report_lost", "status", 404, envelope("NOT_FOUND")),
    *by_status(
        "create",
        bodies=[envelope(word) for word in ("UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT")],
    ),
)
