"""The client of REST: where it asks, with which token, and what becomes of every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.caller import organization_in
from app.cli.environment import write_env
from app.cli.issuer import DevelopmentIssuer
from tests.unit.cli_door import QUEUE, REQUEST, Canned, Door, problem, status_body
from tests.unit.conftest import TOKEN, Run


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited for is noted, and not waited for."""
    import asyncio

    found: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", nap)
    return found


def test_it_asks_with_the_given_token(ask: Run, door: Door) -> None:
    door.put("GET", "/queue", QUEUE)
    assert ask("queue", "--json")[0] == 0
    (asked,) = door.asked
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"


def test_the_address_is_an_option_too(run: Run, door: Door) -> None:
    door.put("GET", "/queue", QUEUE)
    assert run("--url", door.url + "/", "queue", "--json", CONNECTOR_TOKEN=TOKEN)[0] == 0


def test_without_token_and_address_it_is_the_local_stack_s(run: Run, door: Door, tmp_path: Path) -> None:
    issuer = DevelopmentIssuer(tmp_path / "stack" / "auth")
    issuer.prepare()
    write_env(tmp_path / "stack" / "connector.env", {"CONNECTOR__HTTP__ADVERTISED_URL": door.url})
    door.put("GET", "/queue", QUEUE)
    assert run("--stack", "stack", "queue", "--org", "9")[0] == 0
    assert run("--stack", "stack", "queue")[0] == 0
    orgs = [organization_in(asked.headers["Authorization"].removeprefix("Bearer ")) for asked in door.asked]
    assert orgs == [9, 1]


def test_the_port_of_the_settings_is_the_last_resort(run: Run, door: Door) -> None:
    door.put("GET", "/queue", QUEUE)
    port = door.url.rpartition(":")[2]
    assert run("queue", CONNECTOR__HTTP__PORT=port, CONNECTOR_TOKEN=TOKEN)[0] == 0


def test_without_a_stack_there_is_no_token_and_nothing_is_made(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--stack", "absent", "queue")
    assert (code, out) == (3, "")
    assert "CONNECTOR_TOKEN is not set" in err
    assert "next:  connector up" in err
    assert not (tmp_path / "absent").exists()


def test_two_organisations_at_once_are_refused(ask: Run, door: Door) -> None:
    code, _, err = ask("queue", "--org", "8")
    assert code == 2
    assert "is for organisation 7, and organisation 8 is asked for" in err
    assert door.asked == []


@pytest.mark.parametrize(
    "url", ["ftp://x", "127.0.0.1:8003", "http://user:hunter2@127.0.0.1:8003", "http://127.0.0.1:99999", "http://"]
)
def test_an_address_that_is_none_is_not_quoted(ask: Run, url: str) -> None:
    code, _, err = ask("queue", CONNECTOR_URL=url)
    assert code == 2
    assert "hunter2" not in err


def test_a_token_that_is_none_is_not_quoted(ask: Run) -> None:
    code, _, err = ask("queue", CONNECTOR_TOKEN="hunter2\r\nX: y")
    assert code == 2
    assert "hunter2" not in err


def test_nobody_there_is_3(ask: Run) -> None:
    code, out, err = ask("queue", CONNECTOR_URL="http://127.0.0.1:1")
    assert (code, out) == (3, "")
    assert err == (
        "error: the service at http://127.0.0.1:1 does not answer\n"
        "next:  set CONNECTOR_URL to where the service listens\n"
    )


@pytest.mark.parametrize(
    ("canned", "code"),
    [
        (Canned("<html>hunter2</html>"), 1),
        (Canned("[1]"), 1),
        (Canned({"detail": "no"}, 404), 1),
        (Canned("", 302, {"Location": "http://127.0.0.1:1/"}), 1),
        (Canned("<html>", 502), 3),
        (Canned("", 504), 3),
    ],
)
def test_what_is_not_the_service_is_told_so(ask: Run, door: Door, canned: Canned, code: int) -> None:
    door.put("GET", "/queue", canned)
    ended, _, err = ask("queue")
    assert ended == code
    assert f"HTTP {canned.status}" in err
    assert "hunter2" not in err


REFUSALS: list[tuple[Canned, int, str, str]] = [
    (problem("malformed_json", 400), 2, "title of malformed_json: why", "connector fetch --help"),
    (problem("unauthenticated", 401), 1, "CONNECTOR_TOKEN is not accepted", "export CONNECTOR_TOKEN=<a new one>"),
    (
        problem("insufficient_scope", 403, "the token lacks the scope fetch"),
        1,
        "lacks the scope fetch",
        "with that scope",
    ),
    (problem("priority_not_allowed", 403), 1, "priority_not_allowed", "the same with --priority normal"),
    (problem("not_found", 404), 4, "there is no such connector of organisation 7", "connector connectors list"),
    (problem("connector_not_ready", 409), 1, "connector_not_ready", "connector connectors list"),
    (problem("request_in_progress", 409), 1, "request_in_progress", "the same again in a moment"),
    (problem("unknown_field", 422), 2, "unknown_field", "connector fetch --help"),
    (problem("idempotency_mismatch", 422), 2, "idempotency_mismatch", "another --idempotency-key"),
    (problem("queue_full", 429), 3, "queue_full", "connector queue"),
    (problem("internal", 500), 1, "internal", "tell the operators"),
    (problem("broker_unavailable", 503), 3, "broker_unavailable", "not fetched twice"),
    (problem("view_unavailable", 503), 3, "view_unavailable", "the same again in a moment"),
]
"""Answer, exit code, a part of the error, a part of the next command."""


@pytest.mark.parametrize(("canned", "code", "text", "advice"), REFUSALS, ids=lambda value: str(value)[:40])
def test_every_refusal_is_one_error_with_the_next_command(
    ask: Run, door: Door, canned: Canned, code: int, text: str, advice: str
) -> None:
    door.put("POST", "/fetch", canned)
    ended, out, err = ask("fetch", "--connector", "conn_" + "1" * 32, "--start", "2025-12-01", "--end", "2025-12-02")
    assert (ended, out) == (code, "")
    assert text in err.splitlines()[0]
    assert advice in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("next:  ")
    assert "hunter2" not in err


def test_every_fault_is_listed_with_its_pointer(ask: Run, door: Door) -> None:
    faults = [
        {"pointer": "/fields/0", "detail": "there is no x", "code": "unknown_field_name"},
        {"pointer": "/date_range", "detail": "start is after end\x1b[31m", "code": "invalid_date_range"},
        {"pointer": "", "detail": "and this", "code": "invalid_parameter"},
    ]
    door.put("POST", "/fetch", problem("invalid_request", 422, "all of it", errors=faults))
    _, _, err = ask("fetch", "--connector", "conn_" + "1" * 32, "--start", "2025-12-01", "--end", "2025-12-02")
    assert err.splitlines() == [
        "error: title of invalid_request:",
        "  /fields/0: there is no x",
        "  /date_range: start is after end?[31m",
        "  and this",
        "next:  connector fetch --help",
    ]


def test_what_asks_to_be_asked_later_is_asked_later(ask: Run, door: Door, naps: list[float]) -> None:
    away = problem("view_unavailable", 503, after=1)
    door.put("GET", "/queue", away, problem("keys_unavailable", 503, after=2), QUEUE)
    code, _, err = ask("queue")
    assert (code, naps) == (0, [1.0, 2.0])
    assert "asking again in 2 s" in err


@pytest.mark.parametrize(("after", "asked"), [(0, 5), (1, 5), (30, 2), (60, 1), (None, 1)])
def test_patience_has_an_end(ask: Run, door: Door, after: int | None, asked: int) -> None:
    door.put("GET", "/queue", problem("queue_full", 429, after=after))
    assert ask("queue")[0] == 3
    assert len(door.asked) == asked


FETCH = ("fetch", "--connector", "conn_" + "1" * 32, "--start", "2025-12-01", "--end", "2025-12-02", "--json")


def test_a_command_that_may_have_been_taken_is_sent_again_only_under_a_key(ask: Run, door: Door) -> None:
    lost = problem("broker_unavailable", 503, after=0)
    door.put("POST", "/fetch", lost, status_body())
    assert ask(*FETCH)[0] == 3
    assert len(door.asked) == 1
    door.put("POST", "/fetch", lost, status_body())
    assert ask(*FETCH, "--idempotency-key", "k1")[0] == 0
    assert [asked.headers.get("Idempotency-Key") for asked in door.asked] == [None, "k1", "k1"]


@pytest.mark.parametrize(
    ("command", "text"), [(["status", REQUEST], f"there is no request {REQUEST}"), (["queue"], "nothing at /queue")]
)
def test_not_found_says_what(ask: Run, door: Door, command: list[str], text: str) -> None:
    code, _, err = ask(*command)
    assert code == 4
    assert text in err


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.!!.c", "a.bnVsbA.c", "a.eyJvcmdfaWQiOnRydWV9.c", "a.eyJvcmdfaWQiOiI3In0.c"]
)
def test_a_token_that_tells_no_organisation_is_asked_with_all_the_same(token: str) -> None:
    assert organization_in(token) is None


def test_a_trace_is_shown_only_when_asked_for(ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Callable[..., Any]:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("app.cli.queue.summary", broken)
    door.put("GET", "/queue", QUEUE)
    code, _, err = ask("queue")
    assert (code, "hunter2" in err) == (1, False)


def test_bodies_are_sent_as_json(ask: Run, door: Door) -> None:
    door.put("POST", "/fetch", status_body())
    code, out, _ = ask(*FETCH)
    assert (code, json.loads(out)) == (0, status_body())
    assert door.asked[0].headers["Content-Type"] == "application/json"
