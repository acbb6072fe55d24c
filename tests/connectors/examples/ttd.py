"""An answer for each row of The Trade Desk's error table."""

from __future__ import annotations

import orjson

from app.connectors.ttd.errors import classify, read
from tests.connectors.examples.case import Case, by_status

__all__ = ["CASES", "INVALID", "classify", "read"]

INVALID = orjson.dumps({"Message": "No.", "ErrorDetails": [{"Property": "TimeZone", "Reasons": ["bad", "worse"]}]})

CASES: tuple[Case, ...] = (
    Case("rate_limited", "schedule", 429, b'{"Message":"Too Many Requests"}'),
    Case("download_link_expired", "signed", 401),
    Case("download_link_expired", "signed", 400),
    Case(
        "download_link_expired", "signed", 403, b"<Error><Code>AccessDenied</Code></Error>",
        content_type="application/xml",
    ),
    Case("report_lost", "view", 404),
    Case("report_lost", "executions", 403, b'{"Message":"No."}'),
    Case("interface_retired", "schedule", 410, b'{"Message":"Gone."}'),
    *by_status(
        "schedule", bodies=(b'{"message":"Unauthorized"}', b'{"Message":"No."}', b"<html>no route</html>", INVALID)
    ),
)  # fmt: skip
