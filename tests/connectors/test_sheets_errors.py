"""Google Sheets' error table, row by row: each row has an answer that only it decides."""

from __future__ import annotations

import pytest

from app.connectors import google_errors
from app.connectors.sheets.errors import READING, ROWS, WRITING, classify
from app.connectors.sheets.quotas import QUOTAS, READ, WRITE
from app.domain.errors import ErrorClass, Throttle
from tests.connectors.examples.sheets import full, info, said

# (row, call, status, body)
CASES: tuple[tuple[int, str, int, bytes], ...] = (
    (0, "read", 429, full("Read", "User")),
    (1, "metadata", 429, full("Read", "Project")),
    (2, "append", 429, full("Write", "User")),
    (3, "update", 403, full("Write", "Project", 403)),
    (4, "read", 429, said(429)),
    (5, "read", 403, said(403, errors=[{"reason": "rateLimitExceeded", "domain": "usageLimits"}])),
    (6, "read", 401, said(401, "UNAUTHENTICATED")),
    (7, "append", 403, said(403, "PERMISSION_DENIED", **info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"))),
    (8, "read", 403, said(403, "PERMISSION_DENIED", **info("SERVICE_DISABLED"))),
    (9, "read", 403, said(403, "PERMISSION_DENIED")),
    (10, "stamp", 404, said(404, "NOT_FOUND")),
    (11, "read", 400, said(400, "FAILED_PRECONDITION")),
    (12, "read", 400, said(400, "INVALID_ARGUMENT", "Unable to parse range: Nowhere!A1")),
    (13, "append", 400, said(400, "INVALID_ARGUMENT")),
    (14, "read", 408, b""),
    (15, "append", 409, said(409, "ABORTED")),
    (16, "update", 413, b"<html>"),
    (17, "metadata", 400, said(400, "INVALID_ARGUMENT")),
    (18, "read", 503, said(503, "UNAVAILABLE")),
    (19, "read", 302, b""),
    (20, "read", 204, b""),
)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_row(row: int) -> None:
    assert CASES[row][0] == row
    call, status, body = CASES[row][1:]
    failure = classify(call, status, {}, body)
    wanted = ROWS[row]
    assert (failure.error_class, failure.code) == (wanted.error_class, wanted.code)
    assert (failure.retryable, failure.system) == (wanted.retryable, wanted.system)
    assert failure.throttle == (Throttle(wanted.quota) if wanted.throttle else None)
    assert wanted.source


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_no_earlier_row_decides_the_case_of_a_row(row: int) -> None:
    call, status, body = CASES[row][1:]
    error = google_errors.read(status, {}, body)
    assert next(index for index, each in enumerate(ROWS) if each.matches(error, call)) == row


def test_every_case_has_its_row() -> None:
    assert [number for number, *_ in CASES] == list(range(len(ROWS)))


OUTCOMES: tuple[tuple[int, bytes, str, str, bool, bool], ...] = (
    (400, said(400), "invalid_request", "invalid_range", False, False),
    (401, said(401), "authorisation", "token_rejected", False, False),
    (403, said(403), "authorisation", "no_access", False, False),
    (404, said(404), "not_found", "spreadsheet_not_found", False, False),
    (409, said(409), "provider_system", "conflict", True, False),
    (429, said(429), "quota", "rate_limited", True, False),
    (500, said(500), "provider_system", "provider_unavailable", True, True),
    (504, b"", "provider_system", "provider_unavailable", True, True),
)


@pytest.mark.parametrize(("status", "body", "error_class", "code", "retryable", "system"), OUTCOMES)
def test_outcome(status: int, body: bytes, error_class: str, code: str, retryable: bool, system: bool) -> None:
    failure = classify("read", status, {}, body)
    assert (failure.error_class, failure.code, failure.retryable, failure.system) == (
        error_class, code, retryable, system,
    )  # fmt: skip


@pytest.mark.parametrize("call", [*READING, *WRITING])
@pytest.mark.parametrize(("whose", "scope"), [("User", "user"), ("Project", "application")])
def test_a_full_quota_closes_the_bucket_that_the_call_spends_from(call: str, whose: str, scope: str) -> None:
    kind, charge = ("Read", READ) if call in READING else ("Write", WRITE)
    throttle = classify(call, 429, {}, full(kind, whose)).throttle
    assert throttle is not None
    (named,) = [quota for quota in QUOTAS if quota.name == throttle.quota]
    assert (named.charge, named.scope) == (charge, scope)


def test_the_quotas_are_those_of_the_table() -> None:
    assert {row.quota for row in ROWS if row.quota} == {quota.name for quota in QUOTAS}
    assert {(quota.charge, quota.scope): (quota.limit, quota.period_ms) for quota in QUOTAS} == {
        ("read", "application"): (300, 60_000), ("read", "user"): (60, 60_000),
        ("write", "application"): (300, 60_000), ("write", "user"): (60, 60_000),
    }  # fmt: skip
    assert not any(row.system and row.throttle for row in ROWS)
    assert {row.error_class for row in ROWS if row.system} == {ErrorClass.PROVIDER_SYSTEM}
