"""Commands about one request: status with its history, watch, explain, cancel."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import following
from app.domain.messages import RequestView
from app.testing import rest_world
from tests.unit.cli_door import FILE, OTHER, REQUEST, Canned, Door, completed, failed, problem, status_body
from tests.unit.conftest import TOKEN, Run

ROOT = Path(__file__).parents[2]
PATH = f"/requests/{REQUEST}"


def finds(view: RequestView | None) -> Callable[..., Any]:
    async def find(*_: object) -> RequestView | None:
        return view

    return find


def test_status_is_lines_without_any_blob(ask: Run, door: Door) -> None:
    door.put("GET", PATH, completed(batched_with=[OTHER]))
    code, out, err = ask("status", REQUEST)
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert not set("{}[]\x1b") & set(out)
    assert facts["days"] == "2025-12-01 to 2025-12-07 (7 days)"
    assert facts["rows"] == "1,234, data set version 2"
    assert facts["file"] == f"{FILE['uri']} 2025-12-01 to 2025-12-07 (7 days), 70 rows, 5.1 kB"
    assert facts["with"] == f"1 other request: {OTHER}"
    assert facts["cost"] == "3 calls"


@pytest.mark.parametrize("body", [status_body(), completed(), failed(), completed(status="cancelled", result=None)])
def test_every_state_has_its_lines(ask: Run, door: Door, body: dict[str, Any]) -> None:
    door.put("GET", PATH, body)
    out = ask("status", REQUEST)[1]
    assert body["status"] in out
    assert "None" not in out
    assert ("failure  " in out) == (body["status"] == "failed")
    assert ("waits" in out) == (body["status"] == "queued")


def test_status_as_json_is_the_body(ask: Run, door: Door) -> None:
    door.put("GET", PATH, status_body())
    assert json.loads(ask("status", REQUEST, "--json")[1]) == status_body()


def test_a_bare_uuid_in_capitals_is_the_same_request(ask: Run, door: Door) -> None:
    door.put("GET", PATH, status_body())
    assert ask("status", "AAAAAAAA-AAAA-AAAA-AAAA-AAAAAAAAAAAA")[0] == 0
    assert ask("status", "req_1")[0] == 2


@pytest.mark.parametrize("command", ["status", "watch", "explain"])
def test_without_an_id_it_is_the_newest(ask: Run, door: Door, command: str) -> None:
    door.put("GET", "/requests", {"requests": [completed()], "next_cursor": None})
    door.put("GET", PATH, completed())
    assert ask(command)[0] == 0
    assert door.asked[0].query == {"limit": "1"}
    door.put("GET", "/requests", {"requests": [], "next_cursor": None})
    code, _, err = ask(command)
    assert code == 4
    assert "organisation 7 has no requests yet" in err


NOBODY = {"CONNECTOR_URL": "http://127.0.0.1:1", "CONNECTOR_TOKEN": TOKEN}


def test_the_history_stands_in_for_a_service_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.requests._find", finds(rest_world.queued(1_767_225_600_000)))
    code, out, err = run("status", REQUEST, **NOBODY)
    assert (code, err) == (0, "as of the history; the service does not answer\n")
    assert "3rd in the queue" in out
    assert json.loads(run("status", REQUEST, "--json", **NOBODY)[1])["queue_position"] == 3


def test_the_history_stands_in_where_there_is_no_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.requests._find", finds(rest_world.queued(1_767_225_600_000)))
    code, _, err = run("--stack", "absent", "status", REQUEST)
    assert code == 0
    assert err.startswith("as of the history; there is no local stack in absent")


def test_what_neither_knows_is_4_and_both_away_is_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.requests._find", finds(None))
    code, _, err = run("status", REQUEST, **NOBODY)
    assert (code, "in the history" in err) == (4, True)

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("app.cli.requests._find", away)
    code, _, err = run("status", REQUEST, **NOBODY)
    assert (code, "http://127.0.0.1:1 does not answer" in err) == (3, True)


def test_an_answer_is_no_reason_for_the_history(ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.requests._find", finds(rest_world.queued(0)))
    assert ask("status", REQUEST)[0] == 4


RUNNING = status_body(status="running", waiting=None, queue_position=None, progress=33)


def test_watch_prints_a_line_for_each_change(ask: Run, door: Door) -> None:
    same = status_body(estimated_wait_seconds=44.0)
    door.put("GET", PATH, status_body(), same, status_body(queue_position=2), RUNNING, RUNNING, completed())
    code, out, _ = ask("watch", REQUEST)
    assert code == 0
    *lines, file = out.splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "queued, place 3, starts in about 45 s: the quota reports_per_day is used up until any moment now",
        "queued, place 2, starts in about 45 s: the quota reports_per_day is used up until any moment now",
        "running 33 %, starts in about 45 s",
        "completed: 1,234 rows in 1 file",
    ]
    assert lines[-1].startswith("2026-01-01 00:00:06  ")
    assert file.startswith(FILE["uri"])


def test_watch_as_json_is_one_object_for_each_change(ask: Run, door: Door) -> None:
    door.put("GET", PATH, status_body(), status_body(), RUNNING, completed())
    code, out, err = ask("watch", REQUEST, "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [status_body(), RUNNING, completed()]


@pytest.mark.parametrize("body", [failed(), completed(status="cancelled", result=None)])
def test_watch_ends_with_1_when_there_is_no_data(ask: Run, door: Door, body: dict[str, Any]) -> None:
    door.put("GET", PATH, body)
    code, _, err = ask("watch", REQUEST)
    assert code == 1
    assert body["status"] in err
    assert f"next:  connector explain {REQUEST}" in err


def test_a_request_on_its_way_between_workers_is_waited_for_and_an_unknown_one_not_for_ever(
    ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.put("GET", PATH, problem("not_found", 404), problem("not_found", 404), completed())
    assert ask("watch", REQUEST)[0] == 0
    monkeypatch.setattr(following, "_UNKNOWN_FOR_S", 0.05)
    door.put("GET", PATH, problem("not_found", 404))
    assert ask("watch", REQUEST)[0] == 4


def test_watching_outlasts_a_service_that_is_away_for_a_while(
    ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Canned("", 502)
    door.put("GET", PATH, status_body(), gone, gone, completed())
    code, _, err = ask("watch", REQUEST)
    assert code == 0
    assert err.count("asking again") == 1
    monkeypatch.setattr(following, "_AWAY_FOR_S", 0.05)
    door.put("GET", PATH, status_body(), gone)
    assert ask("watch", REQUEST)[0] == 3


def test_ctrl_c_ends_watch_quietly_with_130(door: Door) -> None:
    door.put("GET", PATH, status_body())
    argv = [sys.executable, "-m", "app", "watch", REQUEST]
    env = {"CONNECTOR_URL": door.url, "CONNECTOR_TOKEN": TOKEN, "PATH": "/usr/bin"}
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert "queued" in running.stdout.readline()
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, "")


def test_on_a_terminal_there_are_two_live_lines_and_then_the_end(
    ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.following.on_terminal", lambda: True)
    monkeypatch.setattr("app.cli.requests.on_terminal", lambda: True)
    door.put("GET", PATH, status_body(), RUNNING, completed())
    code, out, _ = ask("watch", REQUEST)
    assert code == 0
    assert f"{REQUEST} completed: 1,234 rows in 1 file" in out


def test_explain_is_sentences(ask: Run, door: Door) -> None:
    door.put("GET", PATH, completed())
    code, out, _ = ask("explain", REQUEST)
    assert code == 0
    assert out.startswith("Organisation 7 asked DV360")
    assert all(line.endswith(".") for line in out.splitlines())
    sentences = json.loads(ask("explain", REQUEST, "--json")[1])
    assert [sentence["text"] for sentence in sentences] == out.splitlines()
    assert sentences[2]["at"] == completed()["completed_at"]


def test_what_others_wrote_cannot_steer_the_terminal(ask: Run, door: Door) -> None:
    door.put("GET", PATH, status_body(labels={"a": "\x1b[2Jx\ny"}))
    for command in ("status", "explain", "watch"):
        door.put("GET", PATH, status_body(labels={"a": "\x1b[2Jx\ny"}), completed(labels={"a": "\x1b[2J"}))
        assert "\x1b" not in ask(command, REQUEST)[1]


@pytest.mark.parametrize(
    ("status", "text"), [("cancelled", f"{REQUEST} is cancelled"), ("running", "the cancel is on its way")]
)
def test_cancel_says_what_came_of_it(ask: Run, door: Door, status: str, text: str) -> None:
    door.put("DELETE", PATH, status_body(status=status))
    code, out, _ = ask("cancel", REQUEST)
    assert code == 0
    assert text in out
    assert door.asked[0].method == "DELETE"
    assert json.loads(ask("cancel", REQUEST, "--json")[1])["status"] == status


def test_what_has_ended_cannot_be_cancelled(ask: Run, door: Door) -> None:
    door.put("DELETE", PATH, problem("already_ended", 409, "the request has completed already"))
    code, _, err = ask("cancel", REQUEST)
    assert (code, err) == (1, f"error: the request has completed already\nnext:  connector status {REQUEST}\n")
