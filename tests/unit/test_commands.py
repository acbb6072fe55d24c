from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from app.domain.commands import (
    MAX_FAULTS,
    CancelCommand,
    Command,
    FetchCommand,
    WriteCommand,
    parse,
    parse_day,
    parse_instant,
)
from app.domain.errors import Fault

HEX = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
REQUEST, CONNECTOR = f"req_{HEX}", f"conn_{HEX}"
BARE = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def fetch(**changes: Any) -> dict[str, Any]:
    record = {
        "request_id": REQUEST,
        "org_id": 7,
        "connector_id": CONNECTOR,
        "report_type": "campaign_performance",
        "date_range": {"start": "2026-01-01", "end": "2026-01-07"},
        "fields": ["impressions", "clicks"],
    } | changes
    return {name: value for name, value in record.items() if value is not ...}


def write(**changes: Any) -> dict[str, Any]:
    record = {
        "type": "write",
        "org_id": 7,
        "connector_id": CONNECTOR,
        "target": "Leads!A1",
        "mode": "append",
        "rows": [["a", 1, 1.5, True, None]],
    } | changes
    return {name: value for name, value in record.items() if value is not ...}


def faults(record: dict[str, Any]) -> list[Fault]:
    result = parse(record)
    assert isinstance(result, tuple), f"accepted: {result}"
    return list(result)


def accepted(record: dict[str, Any]) -> Command:
    result = parse(record)
    assert not isinstance(result, tuple), f"refused: {result}"
    return result


def test_a_fetch_command_with_everything() -> None:
    command = accepted(
        fetch(
            type="fetch",
            priority="premium",
            deadline="2026-02-01T12:00:00+02:00",
            max_age_s=60,
            force=True,
            labels={"team": ""},
        )
    )
    assert command == FetchCommand(
        request_id=REQUEST,
        org_id=7,
        connector_id=CONNECTOR,
        report_type="campaign_performance",
        start=date(2026, 1, 1).toordinal(),
        end=date(2026, 1, 7).toordinal(),
        fields=("impressions", "clicks"),
        priority="premium",
        deadline_at=1_769_940_000_000,
        max_age_s=60,
        force=True,
        labels={"team": ""},
    )


def test_what_may_be_absent_has_its_default_and_null_is_absent() -> None:
    bare = {"org_id": 7, "connector_id": CONNECTOR, "report_type": "table"}
    optional = ("type", "request_id", "date_range", "fields", "priority", "deadline", "max_age_s", "force", "labels")
    assert accepted(bare) == accepted(bare | dict.fromkeys(optional)) == FetchCommand(None, 7, CONNECTOR, "table")


def test_bare_uuids_become_the_one_text_form() -> None:
    command = accepted(fetch(request_id=BARE, connector_id=BARE))
    assert (command.request_id, command.connector_id) == (REQUEST, CONNECTOR)


def test_a_write_command() -> None:
    command = accepted(write(request_id=REQUEST, priority="normal"))
    rows = (("a", 1, 1.5, True, None),)
    assert command == WriteCommand(REQUEST, 7, CONNECTOR, "Leads!A1", "append", rows, "normal")


def test_a_cancel_command() -> None:
    record = {"type": "cancel", "org_id": 7, "connector_id": CONNECTOR, "request_id": BARE}
    assert accepted(record) == CancelCommand(REQUEST, 7, CONNECTOR)
    assert [f.pointer for f in faults({"type": "cancel"})] == ["/request_id", "/org_id", "/connector_id"]


@pytest.mark.parametrize("kind", ["retry", "", 1, ["fetch"], "FETCH"])
def test_an_unknown_type_is_one_fault(kind: Any) -> None:
    assert [(f.code, f.pointer) for f in faults(fetch(type=kind))] == [("unknown_type", "/type")]


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"org_id": ...}, "missing_field", "/org_id"),
        ({"org_id": 0}, "invalid_value", "/org_id"),
        ({"org_id": 2**31}, "invalid_value", "/org_id"),
        ({"org_id": "7"}, "invalid_value", "/org_id"),
        ({"org_id": True}, "invalid_value", "/org_id"),
        ({"org_id": 7.0}, "invalid_value", "/org_id"),
        ({"connector_id": ...}, "missing_field", "/connector_id"),
        ({"connector_id": ""}, "invalid_id", "/connector_id"),
        ({"connector_id": REQUEST}, "invalid_id", "/connector_id"),
        ({"connector_id": CONNECTOR.upper()}, "invalid_id", "/connector_id"),
        ({"request_id": ""}, "invalid_id", "/request_id"),
        ({"request_id": 5}, "invalid_id", "/request_id"),
        ({"request_id": BARE.upper()}, "invalid_id", "/request_id"),
        ({"report_type": ...}, "missing_field", "/report_type"),
        ({"report_type": ""}, "invalid_value", "/report_type"),
        ({"report_type": "../etc"}, "invalid_value", "/report_type"),
        ({"report_type": "a" * 65}, "invalid_value", "/report_type"),
        ({"date_range": "2026-01-01"}, "invalid_date_range", "/date_range"),
        ({"date_range": {"start": "2026-01-01"}}, "invalid_date_range", "/date_range/end"),
        ({"date_range": {"start": "2026-02-30", "end": "2026-03-01"}}, "invalid_date_range", "/date_range/start"),
        ({"date_range": {"start": "20260101", "end": "2026-03-01"}}, "invalid_date_range", "/date_range/start"),
        ({"date_range": {"start": "2026-01-01", "end": 5}}, "invalid_date_range", "/date_range/end"),
        ({"date_range": {"start": "2026-01-01", "end": "2026-01-02", "ends": 1}}, "unknown_field", "/date_range/ends"),
        ({"fields": "clicks"}, "invalid_value", "/fields"),
        ({"fields": {"a": 1}}, "invalid_value", "/fields"),
        ({"fields": [""]}, "invalid_fields", "/fields/0"),
        ({"fields": ["clicks", 1]}, "invalid_fields", "/fields/1"),
        ({"fields": ["a", "b", "a"]}, "invalid_fields", "/fields/2"),
        ({"fields": ["x" * 201]}, "invalid_fields", "/fields/0"),
        ({"fields": ["a\nb"]}, "invalid_fields", "/fields/0"),
        ({"fields": [f"f{n}" for n in range(101)]}, "invalid_fields", "/fields"),
        ({"priority": "retry"}, "invalid_priority", "/priority"),
        ({"priority": "Normal"}, "invalid_priority", "/priority"),
        ({"priority": 1}, "invalid_priority", "/priority"),
        ({"deadline": "2026-01-01T00:00:00"}, "invalid_value", "/deadline"),
        ({"deadline": datetime(2026, 1, 1)}, "invalid_value", "/deadline"),  # noqa: DTZ001 - the naive one is the point
        ({"deadline": 1_769_940_000_000_000}, "invalid_value", "/deadline"),
        ({"max_age_s": -1}, "invalid_value", "/max_age_s"),
        ({"max_age_s": 1.5}, "invalid_value", "/max_age_s"),
        ({"max_age_s": False}, "invalid_value", "/max_age_s"),
        ({"max_age_s": 10**18}, "invalid_value", "/max_age_s"),
        ({"force": 1}, "invalid_value", "/force"),
        ({"force": "true"}, "invalid_value", "/force"),
        ({"labels": ["a"]}, "invalid_labels", "/labels"),
        ({"labels": {"a": 1}}, "invalid_labels", "/labels/a"),
        ({"labels": {"": "x"}}, "invalid_labels", "/labels/"),
        ({"labels": {"a/b": "x\r\n"}}, "invalid_labels", "/labels/a~1b"),
        ({"labels": {"a": "x" * 257}}, "invalid_labels", "/labels/a"),
        ({"labels": {f"k{n}": "x" for n in range(17)}}, "invalid_labels", "/labels"),
        ({"date_rage": {}}, "unknown_field", "/date_rage"),
    ],
)
def test_each_rule_of_a_fetch_alone(changes: dict[str, Any], code: str, pointer: str) -> None:
    assert [(f.code, f.pointer) for f in faults(fetch(**changes))] == [(code, pointer)]


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"target": ...}, "missing_field", "/target"),
        ({"target": "A1"}, "invalid_value", "/target"),
        ({"target": "Sheet!"}, "invalid_value", "/target"),
        ({"target": "Sheet!A0"}, "invalid_value", "/target"),
        ({"mode": ...}, "missing_field", "/mode"),
        ({"mode": "replace"}, "invalid_value", "/mode"),
        ({"rows": ...}, "missing_field", "/rows"),
        ({"rows": []}, "invalid_rows", "/rows"),
        ({"rows": [[]]}, "invalid_rows", "/rows/0"),
        ({"rows": ["abc"]}, "invalid_rows", "/rows/0"),
        ({"rows": [["a"], [float("nan")]]}, "invalid_rows", "/rows/1/0"),
        ({"rows": [["a", float("inf")]]}, "invalid_rows", "/rows/0/1"),
        ({"rows": [[2**63]]}, "invalid_rows", "/rows/0/0"),
        ({"rows": [[{"a": 1}]]}, "invalid_rows", "/rows/0/0"),
        ({"rows": [["x" * 50_001]]}, "invalid_rows", "/rows/0/0"),
        ({"rows": [["x"]] * 10_001}, "invalid_rows", "/rows"),
        ({"report_type": "x"}, "unknown_field", "/report_type"),
    ],
)
def test_each_rule_of_a_write_alone(changes: dict[str, Any], code: str, pointer: str) -> None:
    assert [(f.code, f.pointer) for f in faults(write(**changes))] == [(code, pointer)]


def test_cells_at_the_edge_are_taken() -> None:
    accepted(write(rows=[["x" * 50_000, 2**63 - 1, -(2**63), "=A1", "", "a\nb"]]))


def test_every_fault_is_told_at_once() -> None:
    record = fetch(org_id=0, connector_id="x", report_type=1, priority="p9", force="no", max_age_s=-1, date_rage=1)
    assert [f.pointer for f in faults(record)] == [
        *("/date_rage", "/org_id", "/connector_id", "/report_type", "/priority", "/max_age_s", "/force"),
    ]


def test_a_misspelt_field_is_told_its_neighbour() -> None:
    assert "did you mean 'date_range'?" in faults(fetch(date_rage={}))[0].detail
    assert "did you mean" not in faults(fetch(zzzzzz=1))[0].detail


def test_values_of_unknown_fields_are_not_repeated() -> None:
    text = str(faults(fetch(password="hunter2", connector_id="hunter2")))
    assert "hunter2" not in text


def test_a_hostile_record_makes_few_and_clean_faults() -> None:
    noise = {f"\x1b[31m\u202e{n}": n for n in range(2_000)}
    found = faults(fetch(**noise, fields=["x" * 10_000]))
    assert len(found) == MAX_FAULTS
    assert all(len(f.detail) < 300 and (f.detail + f.pointer).isprintable() for f in found)


@pytest.mark.parametrize(
    "text", ["2026-02-30", "2026-1-1", "0000-01-01", "2026-01-01 ", "２０２６-01-01", "2026-W01-1", None, 7]
)
def test_no_date(text: Any) -> None:
    assert parse_day(text) is None


def test_the_leap_day_is_a_date() -> None:
    assert parse_day("2028-02-29") == date(2028, 2, 29).toordinal()
    assert parse_day("2026-02-29") is None


@pytest.mark.parametrize(
    ("value", "millis"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        (datetime(1970, 1, 1, 0, 0, 0, 999, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=-1))), 3_600_000),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
    ],
)
def test_instants(value: Any, millis: int) -> None:
    assert parse_instant(value) == millis


@pytest.mark.parametrize(
    "value", ["2026-01-01", "20260101T000000Z", "2026-01-01T25:00:00Z", "2026-01-01T00:00Z", "", 5, None]
)
def test_no_instant(value: Any) -> None:
    assert parse_instant(value) is None


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59-00:01", "9999-01-01T00:00:00Z"])
def test_a_deadline_that_leads_out_of_the_calendar_is_refused(value: str) -> None:
    found = parse(fetch(deadline=value))
    assert isinstance(found, tuple)
    assert [(fault.code, fault.pointer) for fault in found] == [("invalid_value", "/deadline")]
