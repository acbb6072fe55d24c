"""An answer for each row of Google Sheets' error table."""

from __future__ import annotations

from typing import Any

import orjson

from app.connectors.google_errors import read
from app.connectors.sheets.errors import classify
from tests.connectors.examples.case import GOOGLE_WORDS, Case, error_info

__all__ = ["CASES", "classify", "read"]


def said(code: int, message: str = "No.", **error: Any) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message, "status": GOOGLE_WORDS[code], **error}})


def full(kind: str, whose: str) -> bytes:
    """The answer of a full quota, as it was quoted in public."""
    limit = f"{kind}RequestsPerMinutePer{whose}"
    info = error_info("RATE_LIMIT_EXCEEDED", quota_limit=limit, service="sheets.googleapis.com")
    return said(429, f"Quota exceeded for quota metric '{kind} requests'.", details=[info])


OLD_REASON = [{"message": "No.", "domain": "usageLimits", "reason": "rateLimitExceeded"}]

CASES: tuple[Case, ...] = (
    Case("rate_limited", "read", 429, full("Read", "User"), quota="reads_per_minute_user"),
    Case("rate_limited", "metadata", 429, full("Read", "Project"), quota="reads_per_minute"),
    Case("rate_limited", "append", 429, full("Write", "User"), quota="writes_per_minute_user"),
    Case("rate_limited", "update", 429, full("Write", "Project"), quota="writes_per_minute"),
    Case("rate_limited", "read", 429, said(429)),
    Case("rate_limited", "read", 403, said(403, errors=OLD_REASON)),
    Case("token_rejected", "read", 401, said(401)),
    Case("insufficient_scope", "append", 403, said(403, details=[error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT")])),
    Case("api_disabled", "read", 403, said(403, details=[error_info("SERVICE_DISABLED")])),
    Case("no_access", "read", 403, said(403)),
    Case("spreadsheet_not_found", "read", 404, said(404)),
    Case("not_a_spreadsheet", "read", 400, said(400, status="FAILED_PRECONDITION")),
    Case("invalid_range", "read", 400, said(400, "Unable to parse range: Nowhere!A1")),
    Case("invalid_write", "append", 400, said(400)),
    Case("read_timeout", "read", 408, b""),
    Case("conflict", "append", 409, said(409)),
    Case("request_too_large", "update", 413, b"<html>", content_type="text/html"),
    Case("request_refused", "metadata", 400, said(400)),
    Case("provider_unavailable", "read", 503, said(503)),
    Case("redirect_refused", "read", 302, b""),
    Case("unexpected_status", "read", 204, b""),
)
