from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from app.domain.commands import CancelCommand, FetchCommand, WriteCommand
from app.domain.errors import ErrorClass, Fault
from app.domain.identity import body_hash, refused_event_id
from app.domain.intake import Refused, judge, refusal, refused, today_at
from app.domain.messages import Accept, Cancel, Write
from app.domain.model import Catalogue, ConnectorFacts, Field, ReportType
from app.domain.writes import MAX_BYTES, MAX_CELLS

HEX = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
REQUEST, CONNECTOR = f"req_{HEX}", f"conn_{HEX}"
TODAY = date(2026, 3, 10).toordinal()
ACCEPTED_AT = 1_773_144_000_000  # 2026-03-10T12:00:00Z

FIELDS = (
    Field("date", "date", "key", "FILTER_DATE"),
    Field("impressions", "int64", "metric", "METRIC_IMPRESSIONS"),
    Field("clicks", "int64", "metric", "METRIC_CLICKS"),
    Field("reach", "int64", "metric", "METRIC_REACH", additive=False, standard=False),
)
REPORT = ReportType("campaign_performance", FIELDS, retention_days=100, settling_days=30, longest_range_days=20)
CATALOGUE: Catalogue = {
    "DV360": {"campaign_performance": REPORT},
    "SHEETS": {"table": ReportType("table", FIELDS[:1], retention_days=0, settling_days=0)},
}
DV360 = ConnectorFacts(CONNECTOR, 7, "DV360", "acc", f"grant_{HEX}", "user", time_zone="Europe/Berlin")
SHEETS = replace(DV360, connector_type="SHEETS")
COMMAND = FetchCommand(REQUEST, 7, CONNECTOR, "campaign_performance", TODAY - 6, TODAY, ("clicks",))
WRITE = WriteCommand(REQUEST, 7, CONNECTOR, "Leads!A1", "append", (("a",),))


def verdict(command: Any = COMMAND, connector: ConnectorFacts | None = DV360, **more: Any) -> Accept | Cancel | Refused:
    given: dict[str, Any] = {
        "request_id": REQUEST,
        "accepted_at": ACCEPTED_AT,
        "catalogue": CATALOGUE,
        "today": lambda _zone: TODAY,
    }
    return judge(command, connector=connector, **given | more)


def reasons(command: Any = COMMAND, connector: ConnectorFacts | None = DV360) -> list[tuple[str, str]]:
    result = verdict(command, connector)
    assert isinstance(result, Refused), f"not refused: {result}"
    return [(fault.code, fault.pointer) for fault in result.faults]


def test_a_good_fetch_is_accepted_with_all_that_the_planner_needs() -> None:
    command = replace(
        COMMAND, priority="normal", deadline_at=ACCEPTED_AT + 1, max_age_s=5, force=True, labels={"a": "b"}
    )
    assert verdict(command, traceparent="00-x", source=("connector.commands", 1, 2)) == Accept(
        request_id=REQUEST,
        connector=DV360,
        report_type="campaign_performance",
        start=TODAY - 6,
        end=TODAY,
        fields=("clicks",),
        priority_class=2,
        accepted_at=ACCEPTED_AT,
        body_hash=body_hash(command),
        deadline_at=ACCEPTED_AT + 1,
        max_age_s=5,
        force=True,
        labels={"a": "b"},
        traceparent="00-x",
        source=("connector.commands", 1, 2),
    )


def test_a_command_without_an_id_gets_the_one_of_its_place() -> None:
    accepted = verdict(replace(COMMAND, request_id=None), request_id="req_made")
    assert isinstance(accepted, Accept)
    assert accepted.request_id == "req_made"


def test_no_fields_means_the_standard_columns() -> None:
    accepted = verdict(replace(COMMAND, fields=()))
    assert isinstance(accepted, Accept)
    assert accepted.fields == ("date", "impressions", "clicks")


@pytest.mark.parametrize("name", ["reach", "date"])
def test_extra_columns_and_keys_may_be_asked_for_by_name(name: str) -> None:
    assert isinstance(verdict(replace(COMMAND, fields=(name,))), Accept)


def test_a_table_is_fetched_as_of_today_and_its_ranges_are_not_judged() -> None:
    command = FetchCommand(REQUEST, 7, CONNECTOR, "table", fields=("Leads!A1:D",))
    accepted = verdict(command, SHEETS)
    assert isinstance(accepted, Accept)
    assert (accepted.start, accepted.end, accepted.fields) == (TODAY, TODAY, ("Leads!A1:D",))


def test_a_whole_table_has_no_fields() -> None:
    accepted = verdict(FetchCommand(REQUEST, 7, CONNECTOR, "table"), SHEETS)
    assert isinstance(accepted, Accept)
    assert accepted.fields == ()


def test_unknown_foreign_and_deleted_connectors_get_the_same_answer() -> None:
    command = replace(COMMAND, report_type="nonsense", fields=("nonsense",), priority="premium")
    answers = [
        verdict(command, connector)
        for connector in (
            None,
            replace(DV360, org_id=8),
            replace(DV360, deleted=True),
            replace(DV360, org_id=8, status="revoked"),
        )
    ]
    assert isinstance(answers[0], Refused)
    assert [f.code for f in answers[0].faults] == ["unknown_connector"]
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("status", ["revoked", "error", "pending"])
def test_connectors_that_take_no_commands(status: str) -> None:
    assert reasons(connector=replace(DV360, status=status)) == [("connector_not_ready", "/connector_id")]


@pytest.mark.parametrize("status", ["connected", "paused", "reauthorise"])
def test_connectors_that_queue_commands(status: str) -> None:
    assert isinstance(verdict(connector=replace(DV360, status=status)), Accept)


def test_an_unknown_report_is_told_its_neighbour() -> None:
    result = verdict(replace(COMMAND, report_type="campaign_perfomance", fields=()))
    assert isinstance(result, Refused)
    assert [(f.code, f.pointer) for f in result.faults] == [("unknown_report_type", "/report_type")]
    assert "did you mean 'campaign_performance'?" in result.detail


def test_a_report_like_none_is_told_which_there_are() -> None:
    result = verdict(replace(COMMAND, report_type="nonsense", fields=()))
    assert isinstance(result, Refused)
    assert "DV360 has no report 'nonsense'; it has campaign_performance" in result.detail


def test_an_unknown_field_is_told_its_neighbour() -> None:
    result = verdict(replace(COMMAND, fields=("clicks", "impresions")))
    assert isinstance(result, Refused)
    assert [(f.code, f.pointer) for f in result.faults] == [("unknown_field_name", "/fields/1")]
    assert "did you mean 'impressions'?" in result.detail


@pytest.mark.parametrize(
    ("start", "end", "pointers"),
    [
        (TODAY, TODAY, []),
        (TODAY - 100, TODAY - 100, []),
        (TODAY, TODAY + 1, ["/date_range/end"]),
        (TODAY - 101, TODAY - 100, ["/date_range/start"]),
        (TODAY - 100, TODAY, []),
        (TODAY, TODAY - 1, ["/date_range"]),
        (TODAY + 2, TODAY + 1, ["/date_range/end", "/date_range"]),
        (None, None, ["/date_range"]),
    ],
)
def test_ranges_at_their_edges(start: int | None, end: int | None, pointers: list[str]) -> None:
    result = verdict(replace(COMMAND, start=start, end=end))
    found = list(result.faults) if isinstance(result, Refused) else []
    assert [f.pointer for f in found] == pointers
    assert {f.code for f in found} <= {"invalid_date_range"}


def test_a_limit_of_zero_days_is_no_limit() -> None:
    free: Catalogue = {"DV360": {REPORT.name: replace(REPORT, retention_days=0)}}
    command = replace(COMMAND, start=TODAY - 5_000)
    assert isinstance(verdict(command, catalogue=free), Accept)


def test_a_table_takes_no_range() -> None:
    command = replace(COMMAND, report_type="table", fields=())
    assert reasons(command, SHEETS) == [("invalid_date_range", "/date_range")]


def test_premium_needs_its_plan() -> None:
    command = replace(COMMAND, priority="premium")
    assert reasons(command) == [("priority_not_allowed", "/priority")]
    accepted = verdict(command, replace(DV360, plan="premium"))
    assert isinstance(accepted, Accept)
    assert accepted.priority_class == 1


@pytest.mark.parametrize("priority", ["scheduled", "backfill"])
def test_force_is_not_for_work_that_can_wait(priority: str) -> None:
    assert reasons(replace(COMMAND, priority=priority, force=True)) == [("force_not_allowed", "/force")]


def test_a_deadline_must_be_ahead() -> None:
    assert reasons(replace(COMMAND, deadline_at=ACCEPTED_AT)) == [("deadline_passed", "/deadline")]
    assert isinstance(verdict(replace(COMMAND, deadline_at=ACCEPTED_AT + 1)), Accept)
    last = ACCEPTED_AT + 366 * 86_400_000
    assert isinstance(verdict(replace(COMMAND, deadline_at=last)), Accept)
    assert reasons(replace(COMMAND, deadline_at=last + 1)) == [("invalid_value", "/deadline")]


def test_all_reasons_are_told_at_once() -> None:
    command = replace(
        COMMAND,
        fields=("nonsense",),
        start=TODAY + 5,
        end=TODAY + 1,
        priority="premium",
        deadline_at=1,
    )
    assert reasons(command, replace(DV360, status="revoked")) == [
        ("connector_not_ready", "/connector_id"),
        ("priority_not_allowed", "/priority"),
        ("unknown_field_name", "/fields/0"),
        ("invalid_date_range", "/date_range/end"),
        ("invalid_date_range", "/date_range"),
        ("deadline_passed", "/deadline"),
    ]


def test_of_an_unknown_connector_all_is_told_that_needs_no_connector() -> None:
    command = replace(COMMAND, start=TODAY, end=TODAY - 1, force=True, priority="backfill", deadline_at=1)
    codes = [code for code, _ in reasons(command, None)]
    assert codes == ["unknown_connector", "invalid_date_range", "force_not_allowed", "deadline_passed"]


def test_writes_are_refused_with_their_own_sentences() -> None:
    answers = {connector.connector_type: verdict(WRITE, connector) for connector in (DV360, SHEETS)}
    texts = set()
    for answer in answers.values():
        assert isinstance(answer, Refused)
        assert (answer.kind, answer.code) == ("write_failed", "write_not_supported")
        texts.add(answer.detail)
    assert len(texts) == 2
    assert reasons(WRITE, None) == [("unknown_connector", "/connector_id")]
    assert [code for code, _ in reasons(WRITE, replace(SHEETS, status="error"))] == [
        "connector_not_ready",
        "write_not_supported",
    ]


def test_a_good_write_is_accepted_with_all_that_the_planner_needs() -> None:
    command = replace(WRITE, rows=(("=1+1", None), (1, 1.0, True)), mode="update", priority="normal")
    source = ("connector.commands", 1, 2)
    found = verdict(command, SHEETS, writers={"SHEETS"}, traceparent="00-x", source=source)
    assert found == Accept(
        request_id=REQUEST,
        connector=SHEETS,
        report_type="",
        start=0,
        end=0,
        fields=(),
        priority_class=2,
        accepted_at=ACCEPTED_AT,
        body_hash=body_hash(command),
        traceparent="00-x",
        source=source,
        write=Write(REQUEST, "Leads!A1", "update", 2, '[["=1+1",null],[1,1.0,true]]'),
    )


@pytest.mark.parametrize(
    ("changes", "of", "expected"),
    [
        ({}, {"status": "paused"}, []),
        ({}, {"status": "revoked"}, ["connector_not_ready"]),
        ({}, {"deleted": True}, ["unknown_connector"]),
        ({"org_id": 8}, {}, ["unknown_connector"]),
        ({"priority": "premium"}, {}, ["priority_not_allowed"]),
        ({"priority": "premium"}, {"plan": "premium"}, []),
        ({"rows": (tuple(range(MAX_CELLS)),)}, {}, []),
        ({"rows": (tuple(range(MAX_CELLS + 1)),)}, {}, ["invalid_rows"]),
        ({"rows": (("x" * MAX_BYTES,),), "org_id": 8}, {}, ["unknown_connector", "invalid_rows"]),
    ],
)
def test_whose_write_is_accepted(changes: dict[str, Any], of: dict[str, Any], expected: list[str]) -> None:
    found = verdict(replace(WRITE, **changes), replace(SHEETS, **of), writers={"SHEETS"})
    assert ([fault.code for fault in found.faults] if isinstance(found, Refused) else []) == expected


def test_a_cancel_passes_whatever_is_known() -> None:
    command = CancelCommand(REQUEST, 7, CONNECTOR)
    assert verdict(command, None) == Cancel(REQUEST, 7, CONNECTOR)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["connector_not_ready"], ErrorClass.AUTHORISATION),
        (["deadline_passed"], ErrorClass.DEADLINE),
        (["unknown_connector"], ErrorClass.INVALID_COMMAND),
        (["connector_not_ready", "deadline_passed"], ErrorClass.INVALID_COMMAND),
    ],
)
def test_the_class_of_a_refusal(codes: list[str], expected: ErrorClass) -> None:
    assert refused("fetch_failed", tuple(Fault(code, "", "x") for code in codes)).error_class == expected


def test_a_refusal_without_a_reason_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="reason"):
        refused("fetch_failed", ())


def test_a_refusal_becomes_one_addressed_event() -> None:
    result = verdict(replace(COMMAND, fields=("nope",), labels={"a": "b"}))
    assert isinstance(result, Refused)
    message = refusal(
        result,
        request_id=REQUEST,
        value=b"{}",
        now=5,
        org_id=7,
        connector_id=CONNECTOR,
        connector=DV360,
        command=replace(COMMAND, labels={"a": "b"}),
    )
    assert message is not None
    event = message.event
    assert (message.request_id, message.kind) == (REQUEST, "fetch_failed")
    assert event.event_id == refused_event_id(REQUEST, b"{}")
    assert (event.org_id, event.connector_id, event.connector_type, event.labels) == (7, CONNECTOR, "DV360", {"a": "b"})
    assert event.data["refused"] is True
    assert event.data["error"]["code"] == "unknown_field_name"
    assert event.data["date_range"] == {"start": "2026-03-04", "end": "2026-03-10"}


def test_a_refusal_tells_nothing_of_a_foreign_connector() -> None:
    result = refused("fetch_failed", (Fault("unknown_connector", "/connector_id", "x"),))
    message = refusal(result, request_id=REQUEST, value=b"", now=5, org_id=8, connector_id=CONNECTOR, connector=DV360)
    assert message is not None
    assert message.event.connector_type is None


def test_no_event_for_a_cancel_or_for_nobody() -> None:
    fault = (Fault("missing_field", "/org_id", "x"),)
    assert refusal(refused(None, fault), request_id=REQUEST, value=b"", now=5) is None
    assert refusal(refused("fetch_failed", fault), request_id=None, value=b"", now=5) is None


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", date(2026, 3, 10)),
        ("Pacific/Kiritimati", date(2026, 3, 11)),
        ("Pacific/Pago_Pago", date(2026, 3, 10)),
        ("Nowhere/Known", date(2026, 3, 10)),
        ("../../etc/passwd", date(2026, 3, 10)),
        ("", date(2026, 3, 10)),
    ],
)
def test_today_is_the_accounts_own(zone: str, day: date) -> None:
    assert today_at(ACCEPTED_AT)(zone) == day.toordinal()


def test_today_changes_at_the_accounts_midnight() -> None:
    midnight = 1_773_183_600_000  # 2026-03-10T23:00:00Z, midnight in Berlin
    assert today_at(midnight)("Europe/Berlin") - today_at(midnight - 1)("Europe/Berlin") == 1
