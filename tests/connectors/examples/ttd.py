"""An answer for each row of The Trade Desk's error table."""

from __future__ import annotations

from typing import Any

import orjson

from app.connectors.ttd.errors import classify, read
from tests.connectors.examples.case import Case, by_status

__all__ = ["CASES", "INVALID", "classify", "read"]

INVALID = orjson.dumps({"Message": "No.", "ErrorDetails": [{"Property": "TimeZone", "Reasons": ["bad", "worse"]}]})


def _errors(code: str, *words: str, **more: Any) -> Case:
    """As GraphQL refuses: at status 200."""
    said = [{"message": "Said so.", "extensions": {"code": word}} for word in words]
    return Case(code, "graphql", 200, orjson.dumps({"errors": said, **more}))


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
    _errors("token_rejected", "AUTHENTICATION_FAILURE"),
    _errors("rate_limited", "RESOURCE_LIMIT_EXCEEDED"),
    _errors("not_found", "NOT_FOUND"),
    _errors("not_found", "SOMETHING_ELSE", "NOT_FOUND", data={"advertiser": None}),
    _errors("invalid_report", "VALIDATION_FAILURE"),
    _errors("provider_unavailable", "INTERNAL_SERVER_ERROR", data={"advertiser": {"id": "adv4567"}}),
    _errors("provider_unavailable", "SERVICE_UNAVAILABLE"),
    _errors("unexpected_status", "SOMETHING_ELSE"),
    *by_status(
        "schedule", bodies=(b'{"message":"Unauthorized"}', b'{"Message":"No."}', b"<html>no route</html>", INVALID)
    ),
)  # fmt: skip
