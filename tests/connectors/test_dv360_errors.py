"""The error table, row by row: each row has an answer that only it decides."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.connectors import google_errors
from app.connectors.dv360.errors import ROWS, classify
from app.connectors.dv360.quotas import QUOTAS
from app.domain.errors import ErrorClass, Throttle

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

# (row, call, status, body)
CASES: tuple[tuple[int, str, int, bytes], ...] = (
    (0, "create", 403, envelope(reason="dailyLimitExceeded")),
    (1, "status", 429, PER_DAY),
    (2, "run", 429, PER_USER),
    (3, "run", 403, envelope(reason="userRateLimitExceeded")),
    (4, "run", 403, envelope(reason="rateLimitExceeded")),
    (5, "create", 429, envelope("RESOURCE_EXHAUSTED")),
    (6, "download", 400, b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"),
    (7, "download", 403, b"<Error><Code>AccessDenied</Code></Error>"),
    (8, "download", 401, b""),
    (9, "download", 404, b"<Error><Code>NoSuchKey</Code></Error>"),
    (10, "create", 401, envelope("UNAUTHENTICATED")),
    (11, "create", 403, SCOPE),
    (12, "create", 403, envelope("PERMISSION_DENIED")),
    (13, "status", 404, envelope("NOT_FOUND")),
    (14, "create", 404, envelope("NOT_FOUND")),
    (15, "create", 408, b""),
    (16, "create", 400, envelope("INVALID_ARGUMENT")),
    (17, "create", 409, envelope("ABORTED")),
    (18, "status", 503, b"<html>upstream</html>"),
    (19, "download", 302, b""),
    (20, "create", 204, b""),
)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_row(row: int) -> None:
    assert CASES[row][0] == row
    call, status, body = CASES[row][1:]
    failure = classify(call, status, {}, body)
    wanted = ROWS[row]
    assert (failure.error_class, failure.code) == (wanted.error_class, wanted.code)
    assert failure.retryable == wanted.retryable
    assert failure.system == wanted.system
    assert failure.remote_lost == wanted.remote_lost
    assert failure.throttle == (Throttle(wanted.quota) if wanted.throttle else None)
    assert wanted.source


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_no_earlier_row_decides_the_case_of_a_row(row: int) -> None:
    call, status, body = CASES[row][1:]
    error = google_errors.read(status, {}, body)
    assert next(index for index, each in enumerate(ROWS) if each.matches(error, call)) == row


def test_every_case_has_its_row() -> None:
    assert [number for number, *_ in CASES] == list(range(len(ROWS)))


def test_quota_names_of_the_table_exist() -> None:
    named = {row.quota for row in ROWS if row.quota}
    assert named <= {quota.name for quota in QUOTAS}
    assert named


def test_only_system_failures_count_against_the_breaker() -> None:
    assert {row.error_class for row in ROWS if row.system} == {ErrorClass.PROVIDER_SYSTEM}
    assert not any(row.system and row.throttle for row in ROWS)


def test_delay_comes_from_the_body_before_the_header() -> None:
    body = envelope("RESOURCE_EXHAUSTED", retryDelay="17.5s")
    failure = classify("run", 429, {"retry-after": "3"}, body)
    assert failure.retry_after_s == 17.5
    assert failure.throttle == Throttle(None, 17.5)
    assert classify("run", 429, {"retry-after": "3"}, envelope()).retry_after_s == 3.0
    assert classify("run", 429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, envelope()).retry_after_s is None


def test_message_names_the_fields_and_hides_what_must_not_be_shown() -> None:
    violations = [{"field": "query.params", "description": "unknown\u202e metric\n"}]
    body = envelope("INVALID_ARGUMENT", "Bearer ya29.secret access_token=abc", fieldViolations=violations)
    failure = classify("create", 400, {}, body)
    assert "query.params: unknown" in failure.message
    assert failure.provider_code == "INVALID_ARGUMENT"
    for hidden in ("secret", "abc", "\n", "\u202e"):
        assert hidden not in failure.message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[1]", b'{"error":"x"}', b'{"error":{"details":[1,{"metadata":2}]}}', b"\xff"]
)
def test_any_body_is_read(body: bytes) -> None:
    assert classify("status", 500, {}, body).code == "provider_unavailable"
