"""Every row of every adapter's error table, by answers that only it decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.connectors.error_table import ANY
from app.domain.errors import ErrorClass, Throttle
from tests.connectors.error_tables import CONNECTORS, ROWS, TABLES, decided, examples

EACH = pytest.mark.parametrize("kind", TABLES)


@pytest.mark.parametrize(("kind", "number"), ROWS, ids=[f"{kind}-{number + 1}" for kind, number in ROWS])
def test_row(kind: str, number: int, record_property: Callable[[str, object], None]) -> None:
    row, known = TABLES[kind][number], examples(kind)
    cases = [case for case in known.CASES if decided(kind, case) == number]
    assert cases, f"no example is decided by row {number + 1} of {kind}: {row}"
    for case in cases:
        failure = known.classify(case.call, case.status, {}, case.body)
        assert (failure.code, failure.throttle) == (case.code, Throttle(case.quota) if row.throttle else None)
        assert (failure.error_class, failure.code) == (row.error_class, row.code)
        assert (failure.retryable, failure.system) == (row.retryable, row.system)
        assert failure.remote_lost == (row.remote_lost or case.lost)
        assert case.quota == row.quota
    record_property("error_row", f"{kind} {number}")


@EACH
def test_a_table_ends_in_a_row_that_takes_everything(kind: str) -> None:
    last = TABLES[kind][-1]
    assert (last.http, last.calls, last.words(), last.body()) == (ANY, (), (), "")
    assert last.code == "unexpected_status"


@EACH
def test_rows_say_where_they_come_from_and_name_quotas_that_exist(kind: str) -> None:
    rows = TABLES[kind]
    assert all(row.source for row in rows)
    assert {row.quota for row in rows if row.quota} <= {quota.name for quota in CONNECTORS[kind].quotas}
    assert all(row.throttle for row in rows if row.quota)


@EACH
def test_only_system_failures_count_against_the_breaker(kind: str) -> None:
    rows = TABLES[kind]
    assert {row.error_class for row in rows if row.system} == {ErrorClass.PROVIDER_SYSTEM}
    assert not any(row.system and row.throttle for row in rows)
    assert all(row.retryable for row in rows if row.system or row.throttle or row.remote_lost)


# What a code means wherever it stands, said apart from the tables: class, then what is true of retryable, system,
# throttle, remote_lost.
MEANT: dict[str, tuple[ErrorClass, str]] = {
    "rate_limited": (ErrorClass.QUOTA, "retryable throttle"),
    "daily_quota": (ErrorClass.QUOTA, "retryable throttle"),
    "account_quota": (ErrorClass.QUOTA, "retryable"),
    "token_rejected": (ErrorClass.AUTHORISATION, ""),
    "reauthorise": (ErrorClass.AUTHORISATION, ""),
    "no_access": (ErrorClass.AUTHORISATION, ""),
    "insufficient_scope": (ErrorClass.AUTHORISATION, ""),
    "project_not_approved": (ErrorClass.AUTHORISATION, ""),
    "not_found": (ErrorClass.NOT_FOUND, ""),
    "account_not_found": (ErrorClass.NOT_FOUND, ""),
    "report_lost": (ErrorClass.NOT_FOUND, "retryable remote_lost"),
    "invalid_report": (ErrorClass.INVALID_REQUEST, ""),
    "invalid_account": (ErrorClass.INVALID_REQUEST, ""),
    "manager_account": (ErrorClass.INVALID_REQUEST, ""),
    "date_out_of_range": (ErrorClass.INVALID_REQUEST, ""),
    "interface_retired": (ErrorClass.INVALID_REQUEST, ""),
    "request_refused": (ErrorClass.INVALID_REQUEST, ""),
    "download_link_expired": (ErrorClass.PROVIDER_RESPONSE, "retryable"),
    "redirect_refused": (ErrorClass.PROVIDER_RESPONSE, ""),
    "unexpected_status": (ErrorClass.PROVIDER_RESPONSE, "retryable"),
    "provider_unavailable": (ErrorClass.PROVIDER_SYSTEM, "retryable system"),
    "read_timeout": (ErrorClass.PROVIDER_SYSTEM, "retryable system"),
    "too_much_data": (ErrorClass.PROVIDER_SYSTEM, "retryable"),
    "report_failed": (ErrorClass.PROVIDER_SYSTEM, "retryable"),
}


def test_a_code_means_the_same_in_every_table() -> None:
    found: dict[str, set[tuple[ErrorClass, str]]] = {}
    for kind, number in ROWS:
        row = TABLES[kind][number]
        flags = [flag for flag in ("retryable", "system", "throttle", "remote_lost") if getattr(row, flag)]
        found.setdefault(row.code, set()).add((row.error_class, " ".join(flags)))
    assert {code: outcomes for code, outcomes in found.items() if len(outcomes) > 1} == {}
    known = {code: {MEANT[code]} for code in found if code in MEANT}
    assert known == {code: outcomes for code, outcomes in found.items() if code in MEANT}
    assert set(MEANT) <= set(found)


@EACH
def test_a_row_that_no_answer_reaches_has_no_example(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the count rests on: an example belongs to the row that decides it and to no other."""
    shadowed = replace(TABLES[kind][0], code="never")
    monkeypatch.setitem(TABLES, kind, (TABLES[kind][0], shadowed, *TABLES[kind][1:]))
    assert not [case for case in examples(kind).CASES if decided(kind, case) == 1]
