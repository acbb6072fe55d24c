"""An answer for each row of DV360's error table."""

from __future__ import annotations

from typing import Any

import orjson

from app.connectors.dv360.errors import classify
from app.connectors.google_errors import read
from tests.connectors.examples.case import Case, by_status

__all__ = ["CASES", "classify", "envelope", "read"]

BUSY = "Quota exceeded for quota metric 'Queries' and limit 'Queries per {} of service x"


def envelope(status: str | None = None, message: str = "No.", reason: str | None = None, **detail: Any) -> bytes:
    error: dict[str, Any] = {"code": 0, "message": message}
    if status:
        error["status"] = status
    if reason:
        error["errors"] = [{"reason": reason, "domain": "global"}]
    if detail:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **detail}]
    return orjson.dumps({"error": error})


PER_DAY = envelope("RESOURCE_EXHAUSTED", metadata={"quota_limit": "RequestsPerDayPerProject"})
SCOPE = envelope("PERMISSION_DENIED").replace(b"}}", b',"details":[{"reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}')
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
