"""What becomes of Google Sheets' refusals, beside the rows of its table (``examples/sheets.py``)."""

from __future__ import annotations

import pytest

from app.connectors.sheets.errors import READING, ROWS, WRITING, classify
from app.connectors.sheets.quotas import QUOTAS, READ, WRITE
from app.domain.errors import ErrorClass
from tests.connectors.examples.sheets import full, said

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
