"""``connector fetch``: what is sent for what is typed, the plan, and waiting for the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.cli.caller import Caller
from app.cli.failures import CommandFailed
from app.cli.fetch import Wish, _one
from app.cli.times import last_days
from app.domain.commands import parse_instant
from tests.unit.cli_door import CONNECTOR, CONNECTORS, FILE, REQUEST, Door, completed, failed, problem, status_body
from tests.unit.conftest import Run
from tests.unit.test_explain import PLAN

ANSWER = {
    "request_id": REQUEST,
    "status": "queued",
    "queue_position": 3,
    "estimated_wait_seconds": 45.0,
    "batched_with": [],
    "rate_limit_status": None,
    "waiting": None,
}
RANGE = ("--start", "2025-12-01", "--end", "2025-12-07")


@pytest.fixture(autouse=True)
def connectors(door: Door) -> None:
    """Two connectors, and a queued answer."""
    door.put("GET", "", CONNECTORS)
    door.put("POST", "/fetch", ANSWER)


def sent(door: Door) -> dict[str, Any]:
    body: dict[str, Any] = door.asked[-1].body
    return body


def test_what_is_typed_is_what_is_sent(ask: Run, door: Door) -> None:
    options = ("--fields", "impressions, clicks,", "--priority", "premium", "--max-age", "2h", "--force")
    more = ("--label", "team=x", "--label", "note=a=b", "--report", "account_performance", "--idempotency-key", "k")
    assert ask("fetch", "--connector", CONNECTOR, *RANGE, *options, *more)[0] == 0
    assert sent(door) == {
        "connector_id": CONNECTOR,
        "date_range": {"start": "2025-12-01", "end": "2025-12-07"},
        "report_type": "account_performance",
        "priority": "premium",
        "fields": ["impressions", "clicks"],
        "max_age_s": 7_200,
        "force": True,
        "labels": {"team": "x", "note": "a=b"},
    }
    assert len(door.asked) == 1
    assert door.asked[0].headers["Idempotency-Key"] == "k"


def test_without_options_only_what_is_needed_is_sent(ask: Run, door: Door) -> None:
    assert ask("fetch", "--type", "dv360")[0] == 0
    assert sorted(sent(door)) == ["connector_id", "date_range", "priority", "report_type"]
    assert sent(door)["report_type"] == "campaign_performance"
    assert sent(door)["priority"] == "normal"


@pytest.mark.parametrize(("days", "number"), [((), 7), (("--days", "30"), 30), (("--days", "1"), 1)])
def test_full_days_end_yesterday_in_the_account_s_zone(
    ask: Run, door: Door, days: tuple[str, ...], number: int
) -> None:
    assert ask("fetch", "--type", "DV360", "--account", "4567", *days)[0] == 0
    yesterday = datetime.now(ZoneInfo("Europe/Berlin")).date() - timedelta(days=1)
    first = yesterday - timedelta(days=number - 1)
    assert sent(door)["date_range"] == {"start": first.isoformat(), "end": yesterday.isoformat()}
    assert sent(door)["connector_id"] == CONNECTOR


def test_a_table_is_asked_for_without_days(ask: Run, door: Door) -> None:
    for who in (("--connector", CONNECTOR), ("--type", "DV360", "--account", "4567")):
        assert ask("fetch", *who, "--report", "table", "--fields", "Leads!A1:D, 'Budget Plan'!A:B")[0] == 0
        assert sent(door) == {
            "connector_id": CONNECTOR,
            "report_type": "table",
            "priority": "normal",
            "fields": ["Leads!A1:D", "'Budget Plan'!A:B"],
        }


def test_days_of_a_table_are_for_the_service_to_refuse(ask: Run, door: Door) -> None:
    assert ask("fetch", "--connector", CONNECTOR, "--report", "table", *RANGE)[0] == 0
    assert sent(door)["date_range"] == {"start": "2025-12-01", "end": "2025-12-07"}


def test_a_range_without_an_end_ends_yesterday(ask: Run, door: Door) -> None:
    assert ask("fetch", "--connector", CONNECTOR, "--start", "2025-12-01")[0] == 0
    yesterday = datetime.now(ZoneInfo("Europe/Berlin")).date() - timedelta(days=1)
    assert sent(door)["date_range"] == {"start": "2025-12-01", "end": yesterday.isoformat()}


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Europe/Berlin", "2025-12-30", "2026-01-01"),
        ("America/Los_Angeles", "2025-12-29", "2025-12-31"),
        ("Nowhere/Else", "2025-12-29", "2025-12-31"),
    ],
)
def test_yesterday_is_the_account_s_and_utc_s_for_an_unknown_zone(zone: str, first: str, last: str) -> None:
    late = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    assert tuple(day.isoformat() for day in last_days(3, zone, late)) == (first, last)


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1_800), ("90", 90)])
def test_a_deadline_may_be_a_span(ask: Run, door: Door, text: str, seconds: int) -> None:
    before = datetime.now(UTC).timestamp()
    assert ask("fetch", "--connector", CONNECTOR, *RANGE, "--deadline", text)[0] == 0
    at = parse_instant(sent(door)["deadline"])
    assert at is not None
    assert before + seconds - 1 <= at / 1000 <= datetime.now(UTC).timestamp() + seconds + 1


def test_a_deadline_may_be_an_instant(ask: Run, door: Door) -> None:
    assert ask("fetch", "--connector", CONNECTOR, *RANGE, "--deadline", "2026-01-02T00:00:00Z")[0] == 0
    assert sent(door)["deadline"] == "2026-01-02T00:00:00Z"


WRONG = [
    [],
    ["--connector", CONNECTOR, "--account", "4567"],
    ["--connector", "conn_1"],
    ["--type", "DV360", "--days", "3", "--start", "2025-12-01"],
    ["--type", "DV360", "--end", "2025-12-01"],
    ["--type", "DV360", "--start", "yesterday"],
    ["--type", "DV360", "--start", "2025-02-30"],
    ["--type", "DV360", "--days", "0"],
    ["--type", "DV360", "--priority", "retry"],
    ["--type", "DV360", "--label", "x"],
    ["--type", "DV360", "--deadline", "soon"],
    ["--type", "DV360", "--max-age", "old"],
]


@pytest.mark.parametrize("options", WRONG, ids=" ".join)
def test_what_cannot_be_meant_is_2_and_nothing_is_asked_for(ask: Run, door: Door, options: list[str]) -> None:
    code, out, err = ask("fetch", *options)
    assert (code, out) == (2, "")
    assert err
    assert not any(asked.method == "POST" for asked in door.asked)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--type", "TTD"], 4, "there is no connector TTD"),
        (["--type", "DV360", "--account", "1"], 4, "there is no connector DV360 1"),
        (["--connector", "conn_" + "9" * 32], 4, "there is no connector conn_9"),
    ],
)
def test_a_connector_that_is_not_there_is_4(ask: Run, options: list[str], code: int, text: str) -> None:
    ended, _, err = ask("fetch", *options)
    assert (ended, text in err) == (code, True)
    assert "next:  connector connectors list" in err


@pytest.mark.parametrize(("given", "org", "more"), [(False, 2, " --org 2"), (False, 1, ""), (True, 2, "")])
def test_the_list_that_is_advised_is_of_the_organisation_that_was_asked_for(given: bool, org: int, more: str) -> None:
    wish = Wish(None, "TTD", None, None, None)
    with pytest.raises(CommandFailed) as refused:
        _one({"connectors": []}, wish, None, Caller("t", org, given=given))
    assert refused.value.advice == f"connector connectors list{more}"


@pytest.mark.parametrize(
    ("kind", "kept", "typed"),
    [
        ("GOOGLE_ADS", "1234567890", "123-456-7890"),
        ("META", "4567", "act_4567"),
        ("SHEETS", "1AbC_d-9", "https://docs.google.com/spreadsheets/d/1AbC_d-9/edit#gid=0"),
        ("TTD", "act_1-2", "act_1-2"),
    ],
)
def test_an_account_is_found_as_its_provider_shows_it(ask: Run, door: Door, kind: str, kept: str, typed: str) -> None:
    door.put("GET", "", {"connectors": [{**CONNECTORS["connectors"][0], "type": kind, "account_id": kept}]})
    for account in (kept, typed):
        assert ask("fetch", "--type", kind, "--account", account)[0] == 0
        assert sent(door)["connector_id"] == CONNECTOR


@pytest.mark.parametrize("option", ["--deadline", "--max-age"])
def test_a_span_that_is_none_is_told_what_may_stand_there(ask: Run, option: str) -> None:
    err = ask("fetch", "--connector", CONNECTOR, *RANGE, option, "soon")[2]
    assert f"error: {option} must be a duration such as" in err
    assert ("or an instant such as" in err) is (option == "--deadline")


def test_several_that_fit_are_named(ask: Run, door: Door) -> None:
    twin = {**CONNECTORS["connectors"][0], "id": "conn_" + "3" * 32, "account_id": "8"}
    door.put("GET", "", {**CONNECTORS, "connectors": [CONNECTORS["connectors"][0], twin]})
    code, _, err = ask("fetch", "--type", "DV360")
    assert code == 2
    assert "DV360 4567" in err
    assert "DV360 8" in err


def test_a_dry_run_is_sentences_and_asks_for_the_plan_only(ask: Run, door: Door) -> None:
    door.put("POST", "/fetch", PLAN)
    code, out, _ = ask("fetch", "--connector", CONNECTOR, *RANGE, "--dry-run")
    assert code == 0
    assert door.asked[0].query == {"dry_run": "true"}
    assert "It would spend at least 3 calls" in out
    assert json.loads(ask("fetch", "--connector", CONNECTOR, *RANGE, "--dry-run", "--json")[1]) == PLAN


def test_an_answer_names_the_next_command_beside_the_output(ask: Run) -> None:
    code, out, err = ask("fetch", "--connector", CONNECTOR, *RANGE)
    assert code == 0
    assert "3rd in the queue" in out
    assert err == f"next:  connector watch {REQUEST}\n"
    assert json.loads(ask("fetch", "--connector", CONNECTOR, *RANGE, "--json")[1]) == ANSWER


def test_what_is_answered_at_once_tells_its_files(ask: Run, door: Door) -> None:
    door.put("POST", "/fetch", ANSWER | {"status": "completed"})
    door.put("GET", f"/requests/{REQUEST}", completed())
    code, out, err = ask("fetch", "--connector", CONNECTOR, *RANGE)
    assert (code, err) == (0, "")
    assert FILE["uri"] in out


def test_waiting_ends_with_rows_and_files(ask: Run, door: Door) -> None:
    door.put("GET", f"/requests/{REQUEST}", problem("not_found", 404), status_body(), completed())
    code, out, err = ask("fetch", "--connector", CONNECTOR, *RANGE, "--wait")
    assert code == 0
    assert REQUEST in err
    queued, ended, file = out.splitlines()
    assert "queued, place 3" in queued
    assert ended.endswith("completed: 1,234 rows in 1 file")
    assert file.startswith(FILE["uri"])


@pytest.mark.parametrize("body", [failed(), completed(status="cancelled", result=None)])
def test_waiting_in_vain_is_1(ask: Run, door: Door, body: dict[str, Any]) -> None:
    door.put("GET", f"/requests/{REQUEST}", body)
    code, _, err = ask("fetch", "--connector", CONNECTOR, *RANGE, "--wait")
    assert code == 1
    assert f"next:  connector explain {REQUEST}" in err


def test_waiting_for_programs_prints_the_last_body_alone(ask: Run, door: Door) -> None:
    door.put("GET", f"/requests/{REQUEST}", status_body(), completed())
    code, out, err = ask("fetch", "--connector", CONNECTOR, *RANGE, "--wait", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == completed()
