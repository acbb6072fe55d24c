"""An answer for each row of Google Sheets' error table."""

from __future__ import annotations

from typing import Any

import orjson

from app.connectors.google_errors import read
from app.connectors.sheets.errors import classify
from tests.connectors.examples.case import Case

__all__ = ["CASES", "classify", "read"]


def said(code: int, status: str | None = None, message: str = "No.", **error: Any) -> bytes:
    return orjson.dumps(
        {"error": {"code": code, "message": message, **({"status": status} if status else {}), **error}}
    )


def full(kind: str, whose: str, code: int = 429) -> bytes:
    """The answer of a full quota, as it was quoted in public."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {"quota_limit": f"{kind}RequestsPerMinutePer{whose}", "service": "sheets.googleapis.com"},
    }
    return said(code, "RESOURCE_EXHAUSTED", f"Quota exceeded for quota metric '{kind} requests'.", details=[info])


def info(reason: str) -> dict[str, Any]:
    return {"details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]}


CASES: tuple[Case, ...] = (
    Case("rate_limited", "read", 429, full("Read", "User"), quota="reads_per_minute_user"),
    Case("rate_limited", "metadata", 429, full("Read", "Project"), quota="reads_per_minute"),
    Case("rate_limited", "append", 429, full("Write", "User"), quota="writes_per_minute_user"),
    Case("rate_limited", "update", 403, full("Write", "Project", 403), quota="writes_per_minute"),
    Case("rate_limited", "read", 429, said(429)),
    Case("rate_limited", "read", 403, said(403, errors=[{"reason": "rateLimitExceeded", "domain": "usageLimits"}])),
    Case("token_rejected", "read", 401, said(401, "UNAUTHENTICATED")),
    Case(
        "insufficient_scope", "append", 403, said(403, "PERMISSION_DENIED", **info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"))
    ),
    Case("api_disabled", "read", 403, said(403, "PERMISSION_DENIED", **info("SERVICE_DISABLED"))),
    Case("no_access", "read", 403, said(403, "PERMISSION_DENIED")),
    Case("spreadsheet_not_found", "read", 404, said(404, "NOT_FOUND")),
    Case("not_a_spreadsheet", "read", 400, said(400, "FAILED_PRECONDITION")),
    Case("invalid_range", "read", 400, said(400, "INVALID_ARGUMENT", "Unable to parse range: Nowhere!A1")),
    Case("invalid_write", "append", 400, said(400, "INVALID_ARGUMENT")),
    Case("read_timeout", "read", 408, b""),
    Case("conflict", "append", 409, said(409, "ABORTED")),
    Case("request_too_large", "update", 413, b"<html>"),
    Case("request_refused", "metadata", 400, said(400, "INVALID_ARGUMENT")),
    Case("provider_unavailable", "read", 503, said(503, "UNAVAILABLE")),
    Case("redirect_refused", "read", 302, b""),
    Case("unexpected_status", "read", 204, b""),
)
