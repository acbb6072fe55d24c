"""``connector queue`` and ``connector connectors list``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.cli.output import layout
from app.testing import rest_world
from tests.unit.cli_door import CONNECTOR, CONNECTORS, QUEUE, REQUEST, Door, problem
from tests.unit.conftest import TOKEN, Run

NOBODY = {"CONNECTOR_URL": "http://127.0.0.1:1", "CONNECTOR_TOKEN": TOKEN}


def test_the_queue_is_a_table_and_what_is_left_of_the_quotas(ask: Run, door: Door) -> None:
    door.put("GET", "/queue", QUEUE)
    code, out, err = ask("queue")
    head, row, blank, *rest = out.splitlines()
    assert (code, err, blank) == (0, "", "")
    assert head.split() == ["request", "place", "type", "report", "priority", "starts", "in", "about", "why"]
    assert row.split()[:6] == [REQUEST, "3", "DV360", "campaign_performance", "normal", "45"]
    assert row.endswith("as many fetches as may be are under way, of this account or of all")
    assert rest[0].startswith("2 requests of yours queued, and 10 requests of others; the last should start in")
    assert rest[1].startswith("DV360: 1,997 of 2,000 reports_per_day left, all free again at 2099-01-01 00:00:00")
    assert rest[2].startswith("DV360: its planner does not answer just now, as of 2026-01-01 00:00:03")


def test_an_empty_queue_says_so(ask: Run, door: Door) -> None:
    status = {"total_queued": 0, "your_requests": 0, "positions": [], "estimated_wait_seconds": 0.0}
    door.put("GET", "/queue", {"queue_status": status, "rate_limits": {}, "requests": [], "parts": {}})
    assert ask("queue") == (0, "none of your requests is queued\n", "")


def test_the_queue_as_json_is_the_body(ask: Run, door: Door) -> None:
    door.put("GET", "/queue", QUEUE)
    assert json.loads(ask("queue", "--json")[1]) == QUEUE


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_watching_needs_a_terminal(ask: Run, door: Door, more: list[str]) -> None:
    assert ask("queue", "--watch", *more)[0] == 2
    assert door.asked == []


def test_on_a_terminal_the_queue_is_drawn_again_and_again(
    ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.queue.on_terminal", lambda: True)
    monkeypatch.setattr("app.cli.queue._EVERY_S", 0.01)
    waiting = {**QUEUE["queue_status"], "your_requests": 1}
    door.put("GET", "/queue", QUEUE, {**QUEUE, "queue_status": waiting}, problem("internal", 500))
    code, out, err = ask("queue", "--watch")
    assert (code, "internal" in err) == (1, True)
    assert "1 request of yours queued" in out
    assert len(door.asked) == 3


def test_connectors_have_health_and_what_is_left(ask: Run, door: Door) -> None:
    door.put("GET", "", CONNECTORS)
    code, out, err = ask("connectors", "list")
    _, first, second = out.splitlines()
    assert code == 0
    assert first.split()[:4] == [CONNECTOR, "DV360", "4567", "connected"]
    assert "degraded, 20 calls" in first
    assert "1,997 of 2,000 reports_per_day" in first
    assert "unknown" in second
    assert err == "GOOGLE_ADS: its planner does not answer just now, and nothing is known of it here\n"


def test_connectors_as_json_are_rows_under_the_names_of_commands(ask: Run, door: Door) -> None:
    door.put("GET", "", CONNECTORS)
    first, _ = json.loads(ask("connectors", "list", "--json")[1])
    assert (first["connector_id"], first["connector_type"]) == (CONNECTOR, "DV360")
    assert first["health"]["status"] == "degraded"
    assert first["rate_limit"]["remaining"] == 1_997


def test_without_connectors_the_next_command_is_named(ask: Run, door: Door) -> None:
    door.put("GET", "", {"connectors": [], "parts": {}})
    code, out, _ = ask("connectors", "list")
    assert (code, out) == (0, "organisation 7 has no connectors; next: connector connectors add --help\n")


def test_postgresql_stands_in_with_the_same_columns(ask: Run, door: Door, run: Run, monkeypatch: Any) -> None:
    asked: list[Any] = []

    async def find(_settings: object, org: int) -> list[Any]:
        asked.append(org)
        return [rest_world.facts()]

    monkeypatch.setattr("app.cli.connector_list._list", find)
    door.put("GET", "", CONNECTORS)
    live = json.loads(ask("connectors", "list", "--json")[1])[0]
    code, out, err = run("connectors", "list", "--json", **NOBODY)
    stored = json.loads(out)[0]
    assert (code, err, asked) == (0, "as stored; the service does not answer\n", [7])
    assert stored.keys() == live.keys()
    assert (stored["account_id"], stored["health"], stored["rate_limit"]) == ("acc", None, None)
    assert rest_world.facts().connector_id in run("connectors", "list", **NOBODY)[1]


def test_a_narrow_terminal_gets_blocks_with_ids_that_can_be_copied() -> None:
    rows = [{"request": REQUEST, "place": 3, "type": None, "waits_for": "a word " * 12}]
    columns = ("request", "place", "type", "waits_for")
    head, *lines = layout(rows, columns, 60)
    assert head == ""
    assert lines == [
        REQUEST,
        "    place 3  waits for a word a word a word a word a word a",
        "    word a word a word a word a word a word a word",
    ]
    head, line = layout(rows, columns, None)
    assert head.split() == ["request", "place", "type", "waits", "for"]
    assert line.startswith(f"{REQUEST}  3      -     a word")
    assert layout(rows, columns, 200) == [head, line]


def test_both_away_is_3(run: Run) -> None:
    code, _, err = run("connectors", "list", CONNECTOR__POSTGRES__DSN="postgresql://u:hunter2@127.0.0.1:1/x", **NOBODY)
    assert code == 3
    assert "http://127.0.0.1:1 does not answer" in err
