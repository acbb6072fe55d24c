"""The checker itself: silent over an honest run, and loud, by the right name, over each way of cheating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import orjson
import pytest

from app.domain.identity import dataset_event_id, refused_event_id, terminal_event_id
from app.streams.wire import encode_avro
from tests.e2e import checker
from tests.e2e.check_data import STANDARD, Files, check_runs
from tests.e2e.evidence import (
    Account,
    Cells,
    CommandRecord,
    Dead,
    Evidence,
    Rule,
    Stored,
    Told,
)  # fmt: skip
from tests.e2e.findings import Report

CONN = f"conn_{1:032x}"
REPORT = "campaign_performance"
URI = f"file:///results/bat_{7:032x}-1.parquet"
DAYS = (date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3))
ACCOUNT = Account(CONN, 7, "4567", "Europe/Berlin")


def row(day: date, campaign: int) -> dict[str, Any]:
    return {
        "account_id": "4567",
        "currency": "EUR",
        "campaign_id": str(campaign),
        "campaign_name": f"Campaign {campaign}",
        "impressions": day.day * 100 + campaign,
        "clicks": campaign,
        "conversions": Decimal("0.25"),
        "spend": Decimal(day.day),
        "media_cost": Decimal("0.5"),
        "billable_impressions": 1,
    }


TRUE: Mapping[date, Sequence[Cells]] = {day: [row(day, 1), row(day, 2)] for day in DAYS}


def in_file(cells: Cells) -> dict[str, Any]:
    kept = {name: cells[name] for name in STANDARD[REPORT] if name in cells}
    return {"connector_id": CONN, "time_zone": "Europe/Berlin", **kept}


def request_id(number: int) -> str:
    return f"req_{number:032x}"


def body(number: int, start: date = DAYS[0], end: date = DAYS[-1], **more: Any) -> dict[str, Any]:
    days = {"start": start.isoformat(), "end": end.isoformat()}
    return {
        "request_id": request_id(number), "org_id": 7, "connector_id": CONN, "report_type": REPORT, "date_range": days,
        "fields": [], "priority": "normal", "labels": {"n": str(number)}, **more,
    }  # fmt: skip


FILE = {"uri": URI, "from": "2026-03-01", "to": "2026-03-03", "rows": 6, "size_bytes": 900, "checksum": "sha256:ab"}


def receipt(number: int, offset: int, start: date = DAYS[0], end: date = DAYS[-1]) -> Told:
    data = {
        "report_type": REPORT,
        "date_range": {"start": start.isoformat(), "end": end.isoformat()},
        "files": (FILE,),
        "storage_location": URI,
        "size_bytes": 900,
        "records_fetched": 2 * ((end - start).days + 1),
        "slice": {"columns": list(STANDARD[REPORT]), "from": start.isoformat(), "to": end.isoformat()},
    }
    event_id = terminal_event_id(CONN, request_id(number))
    return Told(3, offset, event_id, "data_fetched", 7, CONN, request_id(number), {"n": str(number)}, data)


def update(offset: int, version: int) -> Told:
    days = [{"date": day.isoformat(), "rows": 2, "state": "final", "changed": True} for day in DAYS]
    data = {"report_type": REPORT, "version": version, "files": (FILE,), "days": days}
    return Told(3, offset, dataset_event_id(7, CONN, REPORT, version), "dataset_updated", 7, CONN, None, {}, data)


def call(number: int, at: float, **more: Any) -> dict[str, Any]:
    return {
        "sequence": number, "arrived_at": 1_790_000_000 + at, "monotonic": at, "quota_group": "reports",
        "application": "app", "user": "anna", "account": "4567", "status": 200, "fault": None,
        "route": "reports.status", "provider": "dv360",
        **more,
    }  # fmt: skip


def entry(number: int, *members: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A call of the ledger; without members it is the organisation's alone."""
    return {
        "ask_id": f"ask{number}", "org_id": 7, "connector_id": CONN, "connector_type": "DV360", "outcome": "answered",
        "members": list(members), **more,
    }  # fmt: skip


def share(number: int, millionths: int, **more: Any) -> dict[str, Any]:
    return {"request_id": request_id(number), "labels": {"n": str(number)}, "millionths": millionths, **more}


BOTH = (share(1, 500_000), share(2, 500_000))


@dataclass
class World:
    """An honest little run that tests tamper with."""

    evidence: Evidence
    file: Stored
    truth: Mapping[date, Sequence[Cells]]

    def judged(self) -> Report:
        return checker.judge(
            self.evidence, lambda *_: self.truth, read=lambda uri: self.file if uri == URI else None, refusals=1
        )


@pytest.fixture
def honest() -> World:
    bad = b'{"half'
    bodies = [body(1), body(2, DAYS[1], DAYS[1]), body(1)]
    values = [*(orjson.dumps(one) for one in bodies), bad]
    commands = [CommandRecord(("connector.commands", 0, at), 1_000 + at, value) for at, value in enumerate(values)]
    evidence = Evidence(
        commands=commands,
        events=[update(0, 1), receipt(1, 1), receipt(2, 2, DAYS[1], DAYS[1])],
        dead=[Dead(("connector.commands", 0, 3), "malformed_json", "the document ends early", bad)],
        views={request_id(1): "completed", request_id(2): "completed"},
        accounts={CONN: ACCOUNT},
        calls=[call(1, 0.0, route="reports.create"), call(2, 0.5), call(3, 1.0), call(4, 9.0)],
        usage=[entry(1, *BOTH), entry(2, *BOTH, outcome="failed"), entry(3), entry(4, share(1, 1_000_000))],
        rules=[
            Rule("second", "reports", "application", "app", 2, 1.0),
            Rule("minute", "reports", "user", "anna", 4, 60.0),
        ],
        reports=[{"report_id": "5", "start": FILE["from"], "end": FILE["to"], "accounts": [ACCOUNT.account_id]}],
    )
    rows = {day: [in_file(cells) for cells in cells_of] for day, cells_of in TRUE.items()}
    return World(evidence, Stored(900, "sha256:ab", 6, STANDARD[REPORT], rows, "5"), TRUE)


def test_an_honest_run_has_no_problem(honest: World) -> None:
    report = honest.judged()
    assert report.problems == []
    assert report.figures["accepted requests"] == 2
    assert report.figures["repeats of a request"] == 1
    assert "no problem found" in report.summary()


def events_without(at: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        del world.evidence.events[at]

    return tamper


def with_event(event: Told) -> Callable[[World], None]:
    return lambda world: world.evidence.events.append(event)


def changed_event(at: int, **changes: Any) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        world.evidence.events[at] = replace(world.evidence.events[at], **changes)

    return tamper


def changed_data(at: int, **changes: Any) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        event = world.evidence.events[at]
        world.evidence.events[at] = replace(event, data={**event.data, **changes})

    return tamper


def with_command(value: bytes) -> Callable[[World], None]:
    return lambda world: world.evidence.commands.append(CommandRecord(("connector.commands", 1, 0), 5, value))


def changed_file(**changes: Any) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        world.file = replace(world.file, **changes)

    return tamper


def changed_report(**changes: Any) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        world.evidence.reports = [{**one, **changes} for one in world.evidence.reports]

    return tamper


def changed_cell(name: str, value: Any) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        rows = {day: list(cells) for day, cells in world.file.rows.items()}
        rows[DAYS[1]][0] = {**rows[DAYS[1]][0], name: value}
        world.file = replace(world.file, rows=rows)

    return tamper


def changed_day(rows: Sequence[Cells]) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        world.file = replace(world.file, rows={**world.file.rows, DAYS[1]: rows})

    return tamper


def with_calls(*calls: Mapping[str, Any]) -> Callable[[World], None]:
    return lambda world: world.evidence.calls.extend(calls)


def with_entries(*entries: Mapping[str, Any]) -> Callable[[World], None]:
    return lambda world: world.evidence.usage.extend(entries)


def without_entry(at: int, *entries: Mapping[str, Any]) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        world.evidence.usage[at : at + 1] = entries

    return tamper


def with_dead(dead: Dead) -> Callable[[World], None]:
    return lambda world: world.evidence.dead.append(dead)


def with_view(number: int, state: str) -> Callable[[World], None]:
    return lambda world: world.evidence.views.update({request_id(number): state})


FAILED = replace(receipt(1, 9), kind="fetch_failed", data={"refused": False})
REFUSED = Told(3, 8, "evt_made_up", "fetch_failed", 7, CONN, request_id(99), {}, {"refused": True})
OLD = replace(update(9, 1), event_id=dataset_event_id(7, CONN, REPORT, 1))


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [
        (events_without(1), "F1 lost"),
        (with_event(receipt(1, 9)), "F1 ended twice"),
        (with_event(FAILED), "F1 two kinds"),
        (with_event(receipt(50, 9)), "F1 ended but never accepted"),
        (changed_event(1, event_id="evt_0"), "wrong event id"),
        (changed_event(1, connector_id="conn_2"), "wrong address"),
        (changed_event(1, labels={}), "wrong labels"),
        (changed_event(1, kind="fetch_cancelled"), "cancelled unasked"),
        (changed_event(1, names_itself=True), "receipt names itself"),
        (with_event(REFUSED), "refused but not put aside"),
        (with_command(orjson.dumps(body(1, fields=["clicks"]))), "imposter not refused"),
        (with_command(b""), "bad command vanished"),
        (with_dead(Dead(("connector.commands", 5, 5), "x", "y", b"")), "DLQ without a command"),
        (with_dead(Dead(("connector.commands", 0, 3), "", "", b"")), "DLQ without a reason"),
        (with_dead(Dead(("connector.commands", 0, 1), "x", "y", b"")), "refusals"),
        (with_dead(Dead(("connector.commands", 0, 1), "x", "y", b"")), "refusal not told"),
        (with_view(1, "failed"), "view and event disagree"),
        (with_view(66, "queued"), "view of nobody's request"),
        (with_calls(call(5, 0.9)), "F2 over quota"),
        (with_calls(call(5, 20.0), call(6, 50.0)), "F2 over quota"),
        (with_calls(call(5, 20.0, status=429)), "F2 throttled"),
        (lambda world: setattr(world.evidence, "own_over", 1), "F2 counted by the provider"),
        (without_entry(2), "ledger sum"),
        (with_entries(entry(5)), "ledger sum"),
        (with_calls(call(5, 20.0, provider="google_ads")), "ledger sum"),
        (with_entries(entry(4, share(1, 1_000_000))), "ledger twice"),
        (without_entry(0, entry(1, share(1, 500_000), share(2, 499_999))), "ledger shares"),
        (without_entry(0, entry(1, share(3, 1_000_000))), "ledger stranger"),
        (without_entry(0, entry(1, share(1, 1_000_000), org_id=8)), "ledger stranger"),
        (without_entry(0, entry(1, share(1, 1_000_000, labels={}))), "ledger labels"),
        (changed_file(size_bytes=1), "I10 size_bytes"),
        (changed_file(checksum="sha256:cd"), "I10 checksum"),
        (changed_file(count=5), "I10 rows"),
        (changed_file(columns=("date",)), "I9 columns"),
        (changed_cell("spend", Decimal("1.000001")), "I9 rows differ"),
        (changed_cell("campaign_name", None), "I9 rows differ"),
        (changed_cell("time_zone", "UTC"), "I9 rows differ"),
        (changed_cell("campaign_id", "2"), "I9 rows differ"),
        (changed_day(()), "I9 day not held"),
        (changed_day(()), "I10 days"),
        (changed_data(1, records_fetched=5), "I9 records_fetched"),
        (changed_data(1, date_range={"start": "2026-03-01", "end": "2026-03-02"}), "I9 another request's answer"),
        (changed_data(1, slice={"columns": [], "from": "2026-03-01", "to": "2026-03-03"}), "I9 slice columns"),
        (changed_data(1, slice={"columns": [], "from": "2026-03-01", "to": "2026-03-02"}), "I9 slice"),
        (changed_data(1, size_bytes=1), "I10 sizes"),
        (changed_data(1, storage_location=None), "I10 location"),
        (changed_data(1, files=({**FILE, "rows": 7},)), "I10 told differently"),
        (changed_data(1, files=({**FILE, "uri": "file:///gone"},)), "I10 no file"),
        (events_without(0), "receipt before dataset_updated"),
        (with_event(OLD), "data set version told twice"),
        (changed_data(0, version=2), "wrong event id"),
        (lambda world: world.evidence.events.extend([update(9, 3), update(10, 2)]), "R7 older version after a newer"),
        (lambda world: world.evidence.reports.clear(), "result without a report"),
        (changed_file(report_id=""), "result without a report"),
        (changed_file(report_id="6"), "result without a report"),
        (changed_report(start="2026-02-28"), "report of other days"),
        (changed_report(end="2026-03-02"), "report of other days"),
        (changed_report(accounts=["4568"]), "report of another account"),
        (lambda world: world.evidence.accounts.clear(), "receipt of an unknown connector"),
    ],
)
def test_each_way_of_cheating_is_found(honest: World, tamper: Callable[[World], None], kind: str) -> None:
    tamper(honest)
    report = honest.judged()
    assert kind in report.counts, report.problems
    assert any(problem.startswith(f"{kind}: ") for problem in report.problems)


def test_a_call_whose_end_is_not_known_may_have_arrived_or_not(honest: World) -> None:
    with_entries(entry(5, outcome="unknown"))(honest)
    assert honest.judged().problems == []
    with_calls(call(5, 70.0))(honest)
    assert honest.judged().problems == []
    with_calls(call(6, 140.0))(honest)
    assert list(honest.judged().counts) == ["ledger sum"]


def test_calls_for_tokens_are_nobodys(honest: World) -> None:
    with_calls(call(5, 20.0, provider="google", quota_group="oauth"))(honest)
    assert honest.judged().problems == []


def test_a_refused_command_is_answered_by_its_own_event(honest: World) -> None:
    value = encode_avro("FetchCommand", body(9, report_type="nonsense"))
    with_command(value)(honest)
    with_dead(Dead(("connector.commands", 1, 0), "unknown_report_type", "there is none", value))(honest)
    honest.evidence.events.append(replace(REFUSED, event_id=refused_event_id(request_id(9), value)))
    problems = honest.judged().problems
    assert problems == ["refusals: 2 commands are in the DLQ, 1 should be"]


@pytest.mark.parametrize(("at", "kinds"), [(5_000, ["refused though accepted"]), (500, [])])
def test_an_accepted_request_is_never_told_to_be_refused(honest: World, at: int, kinds: list[str]) -> None:
    source, value = ("connector.commands", 1, 0), encode_avro("FetchCommand", body(2, report_type="nonsense"))
    honest.evidence.commands.append(CommandRecord(source, at, value))
    with_dead(Dead(source, "unknown_report_type", "there is none", value))(honest)
    told = replace(REFUSED, request_id=request_id(2), event_id=refused_event_id(request_id(2), value))
    honest.evidence.events.append(told)
    counts = honest.judged().counts
    assert [kind for kind in counts if kind != "refusals"] == kinds


def test_a_repeat_in_another_format_is_the_same_command(honest: World) -> None:
    with_command(encode_avro("FetchCommand", body(1)))(honest)
    assert honest.judged().problems == []


def test_a_request_without_an_id_is_known_by_its_place(honest: World) -> None:
    with_command(orjson.dumps({k: v for k, v in body(4).items() if k != "request_id"}))(honest)
    assert list(honest.judged().counts) == ["F1 lost"]


def test_restated_figures_are_compared_with_the_run_that_read_them(honest: World) -> None:
    now = {day: [{**cells, "clicks": 77} for cells in cells_of] for day, cells_of in TRUE.items()}
    names: list[str] = []

    def truth(name: str, *_: Any) -> Mapping[date, Sequence[Cells]]:
        names.append(name)
        return TRUE if name else now

    report = checker.judge(honest.evidence, truth, read=lambda _: honest.file)
    assert report.problems == []
    assert names == ["", "5"]


def test_two_results_of_one_report_are_found(honest: World) -> None:
    files = Files(lambda _: honest.file, lambda *_: honest.truth, Report())
    for uri in (URI, "file:///other.parquet"):
        files.check({**FILE, "uri": uri}, ACCOUNT, REPORT)
    check_runs(honest.evidence, files, files.report)
    assert list(files.report.counts) == ["two results of one report"]


def test_reports_that_no_result_is_made_of_are_counted(honest: World) -> None:
    honest.evidence.reports = [*honest.evidence.reports, {**honest.evidence.reports[0], "report_id": "6"}]
    report = honest.judged()
    assert report.problems == []
    assert report.figures["reports run that no result is made of"] == 1
