"""Quotas refused over HTTP, faults on demand, and the arrival log."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import aiohttp
import orjson
import pytest

from app.sandbox.faults import FaultRule, choose, parse_rule
from app.sandbox.fixture import running_sandbox
from app.sandbox.google_errors import GOOGLE
from app.sandbox.settings import SandboxSettings
from tests.sandbox.client import END, START, Client, connected, query_body


async def statuses(client: Client, headers: dict[str, str], count: int) -> list[int]:
    return [(await client.reports("GET", "queries", headers)).status for _ in range(count)]


async def test_the_fifth_report_call_in_a_second_is_refused_and_logged() -> None:
    async with connected(enforce=True) as (sandbox, client):
        alice = await client.bearer()
        assert await statuses(client, alice, 6) == [200] * 4 + [429] * 2
        answer = await client.reports("GET", "queries", alice)
        assert answer.json["error"]["status"] == "RESOURCE_EXHAUSTED"
        assert "Retry-After" not in answer.headers
        assert [call.over_quota for call in sandbox.calls("reports.queries")] == [False] * 4 + [True] * 3
        row = next(one for one in sandbox.quotas() if one["name"] == "reports_second")
        assert (row["peak"], row["over"], row["value"]) == (7, 3, "sandbox-client")


async def test_limits_and_dialect_change_while_running() -> None:
    async with connected(enforce=True) as (_, client):
        alice = await client.bearer()
        change = {"quotas": {"reports_second": {"limit": None}, "reports_user": {"limit": 1}}, "dialect": "403"}
        assert (await client.call("POST", "/_sandbox/quotas", json=change)).status == 200
        assert await statuses(client, alice, 2) == [200, 403]
        answer = await client.reports("GET", "queries", alice)
        assert answer.json["error"]["errors"][0]["reason"] == "userRateLimitExceeded"
        await client.call("POST", "/_sandbox/quotas", json={"quotas": {"reports_day": {"limit": 1}}})
        answer = await client.reports("GET", "queries", alice)
        assert answer.json["error"]["errors"][0]["reason"] == "dailyLimitExceeded"
        assert (await client.call("POST", "/_sandbox/quotas", json={"quotas": {"no": {"limit": 1}}})).status == 400


async def test_entities_are_counted_per_advertiser_and_apart_from_reports() -> None:
    async with connected(enforce=True) as (sandbox, client):
        alice = await client.bearer()
        sandbox.set_quota("entities_advertiser", 1)
        paths = [f"/displayvideo/v4/advertisers/{one}" for one in (1, 2, 1)]
        assert [(await client.call("GET", path, headers=alice)).status for path in paths] == [200, 200, 429]
        assert await statuses(client, alice, 4) == [200] * 4


@pytest.mark.parametrize(
    ("fault", "status"),
    [("429", 429), ("403_daily", 403), ("500", 500), ("502", 502), ("503", 503), ("token_expired", 401)],
)
async def test_error_faults_strike_so_often_and_no_more(fault: str, status: int) -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("reports.*", fault, times=2)
        assert await statuses(client, alice, 3) == [status, status, 200]
        assert [call.fault for call in sandbox.calls("reports.queries")] == [fault, fault, None]
        assert sandbox.faults.rules[0].struck == 2


async def test_every_third_call_with_retry_after() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        rule = {"route": "reports.queries", "fault": "429_retry_after", "every": 3, "seconds": 7}
        assert (await client.call("POST", "/_sandbox/faults", json=rule)).status == 200
        answers = [await client.reports("GET", "queries", alice) for _ in range(6)]
        assert [answer.status for answer in answers] == [200, 200, 429] * 2
        assert answers[2].headers["Retry-After"] == "7"
        await client.call("DELETE", "/_sandbox/faults")
        assert await statuses(client, alice, 3) == [200] * 3
        for wrong in ({"fault": "magic"}, {"fault": "500", "times": "2"}, {"fault": "500", "every": -1}, {"x": 1}):
            assert (await client.call("POST", "/_sandbox/faults", json={"route": "*"} | wrong)).status == 400


async def test_a_revoke_fault_kills_the_grant_and_a_dead_refresh_can_be_had_alone() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("reports.queries", "revoked", times=1)
        assert await statuses(client, alice, 2) == [401, 401]
        assert (await client.refresh("1//sandbox-alice")).json["error"] == "invalid_grant"
        sandbox.faults.add("oauth.token", "503", times=1)
        answer = await client.refresh("1//sandbox-bob")
        assert (answer.status, answer.json["error"]) == (503, "internal_failure")


async def test_reports_can_fail_or_never_end() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        query_id = await client.create(alice, query_body())
        sandbox.faults.add("reports.run", "failed_report", times=1)
        failed = await client.status(alice, await client.run(alice, query_id))
        sandbox.faults.add("reports.run", "stuck_report", times=1)
        stuck = await client.status(alice, await client.run(alice, query_id))
        fine = await client.status(alice, await client.run(alice, query_id))
    assert [one["metadata"]["status"]["state"] for one in (failed, stuck, fine)] == ["FAILED", "RUNNING", "DONE"]
    assert "finishTime" in failed["metadata"]["status"]
    assert "googleCloudStoragePath" not in failed["metadata"]


@pytest.mark.parametrize("campaigns", [5, 3_000])
async def test_a_cut_body_is_noticed_by_the_client(campaigns: int) -> None:
    async with connected(campaigns=campaigns) as (sandbox, client):
        link = await client.finished(await client.bearer(), query_body())
        sandbox.faults.add("storage.download", "cut")
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.call("GET", link)
        sandbox.faults.clear()
        whole = await client.download(link)
        sandbox.faults.add("storage.download", "truncate")
        part = await client.download(link)
        assert whole.startswith(part)
        assert len(part) < 0.6 * len(whole)
        assert [call.status for call in sandbox.calls("storage.download")] == [0, 200, 200]


async def test_bodies_that_are_not_what_was_promised() -> None:
    async with connected() as (sandbox, client):
        link = await client.finished(await client.bearer(), query_body())
        good = await client.call("GET", link)
        seen = {}
        for fault in ("html", "empty", "garbage", "wrong_content_type", "wrong_encoding", "duplicate_headers"):
            sandbox.faults.add("storage.download", fault, times=1)
            seen[fault] = await client.call("GET", link)
    assert {answer.status for answer in seen.values()} == {200}
    assert seen["html"].body.startswith(b"<!doctype html")
    assert seen["empty"].body == b""
    assert seen["wrong_content_type"].body == good.body
    assert seen["wrong_content_type"].headers["Content-Type"].startswith("text/html")
    with pytest.raises(UnicodeDecodeError):
        seen["wrong_encoding"].body.decode()
    assert seen["duplicate_headers"].body.startswith(b"Date,Date,")


async def test_oversized_bodies_have_the_size_asked_for() -> None:
    async with connected() as (sandbox, client):
        link = await client.finished(await client.bearer(), query_body())
        sandbox.faults.add("storage.download", "bomb", times=1, size=4 << 20)
        async with aiohttp.ClientSession(auto_decompress=False) as raw, raw.get(link) as answer:
            packed = await answer.read()
        assert len(packed) < 20_000
        assert len(zlib.decompress(packed, 31)) == 4 << 20
        sandbox.faults.add("storage.download", "long_line", times=1, size=1 << 20)
        line = (await client.call("GET", link)).body
        assert (len(line), line.count(b"\n")) == (1 << 20, 0)
        sandbox.faults.add("storage.download", "bad_gzip", times=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.call("GET", link)


async def test_connections_that_are_reset_slow_or_hang() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("reports.create", "reset", times=1)
        with pytest.raises(aiohttp.ClientOSError):
            await client.reports("POST", "queries", alice, json={})
        sandbox.faults.add("reports.queries", "slow", times=1, seconds=0.1)
        begun = time.monotonic()
        assert await statuses(client, alice, 1) == [200]
        assert 0.1 <= time.monotonic() - begun < 1
        assert sandbox.calls("reports.queries")[-1].took_s >= 0.1  # type: ignore[operator]
        for fault in ("hang", "drip"):
            sandbox.faults.add("reports.queries", fault, times=1, seconds=5)
            with pytest.raises(TimeoutError):
                await client.call(
                    "GET",
                    "/doubleclickbidmanager/v2/queries",
                    headers=alice,
                    timeout=aiohttp.ClientTimeout(total=0.1),
                )


def test_rules_narrow_by_user_account_title_and_time() -> None:
    def strikes(rule: FaultRule, at: float = 0.0) -> bool:
        return choose((rule,), "reports.run", "alice", "4567", "org7 weekly", at)[0] is not None

    assert strikes(FaultRule("reports.*", "500", user="alice", account="4567", title="weekly"))
    assert not strikes(FaultRule("entities.*", "500"))
    assert not strikes(FaultRule("*", "500", user="bob"))
    assert not strikes(FaultRule("*", "500", account="1"))
    assert not strikes(FaultRule("*", "500", title="daily"))
    timed = parse_rule({"route": "*", "fault": "500", "for_seconds": 5}, monotonic=10.0)
    assert (strikes(timed, 14.9), strikes(timed, 15.0)) == (True, False)


def test_the_first_matching_rule_wins_and_the_next_takes_over() -> None:
    rules: tuple[FaultRule, ...] = (FaultRule("*", "500", times=1), FaultRule("*", "503"))
    names = []
    for _ in range(3):
        rule, rules = choose(rules, "reports.run", None, None, None, 0.0)
        names.append(rule.fault if rule else None)
    assert names == ["500", "503", "503"]


def test_google_never_says_when_to_come_back() -> None:
    assert "Retry-After" not in GOOGLE.unexpected(503, "x").headers


async def test_control_doors_tell_calls_truth_and_reports_and_are_not_logged() -> None:
    async with connected() as (sandbox, client):
        await client.finished(await client.bearer(), query_body())
        calls = (await client.call("GET", "/_sandbox/calls?since=1")).json["calls"]
        assert [call["route"] for call in calls] == ["reports.create", "reports.run", "reports.status"]
        assert {call["title"] for call in calls} == {"weekly"}
        assert {call["days"] for call in calls} == {f"{START}/{END}"}
        assert {(call["application"], call["user"], call["account"]) for call in calls} == {
            ("sandbox-client", "alice", "4567")
        }
        (report,) = (await client.call("GET", "/_sandbox/reports")).json["reports"]
        assert (report["title"], report["user"], report["state"], report["polls"]) == ("weekly", "alice", "DONE", 1)
        path = f"/_sandbox/truth?advertiser_id=4567&start={START}&end={END}"
        before = (await client.call("GET", path)).json["rows"]
        days = {"advertiser_id": "4567", "start": START.isoformat(), "end": START.isoformat()}
        assert (await client.call("POST", "/_sandbox/restate", json=days)).json == {"days": 1}
        after = (await client.call("GET", path)).json["rows"]
        assert len(before) == len(after) == 35
        assert {new["date"] for old, new in zip(before, after, strict=True) if old != new} == {START.isoformat()}
        assert (await client.call("GET", f"{path}&report_id={report['report_id']}")).json["rows"] == before
        changed = await client.call("POST", "/_sandbox/durations", json={"reports": {"polls": 2}, "expires_in": 9})
        assert changed.json == {"reports": {"polls": 2}, "expires_in": 9}
        assert (await client.call("POST", "/_sandbox/reset")).status == 200
        assert (sandbox.calls(), sandbox.reports(), sandbox.quotas()) == ([], [], [])


async def test_the_log_file_has_a_line_per_call_and_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    async with connected(log=log) as (_, client):
        alice = await client.bearer()
        await client.call("GET", await client.finished(alice, query_body()))
        lines = log.read_bytes().splitlines()
        assert len(lines) == 5, "each line is there as soon as its call is answered"
    async with connected(log=log) as (_, client):
        await client.bearer()
    shown = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    assert [one["sequence"] for one in shown] == [1, 2, 3, 4, 5, 6]
    assert [one["quota_group"] for one in shown] == ["oauth", "reports", "reports", "reports", "storage", "oauth"]
    assert all(one["monotonic"] > 0 and abs(one["arrived_at"] - time.time()) < 60 for one in shown)
    text = log.read_text()
    for secret in (alice["Authorization"][7:], "1//sandbox", "sandbox-secret", "Signature"):
        assert secret not in text


async def test_a_hanging_call_is_in_the_file_after_the_end(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    async with aiohttp.ClientSession() as session:
        async with running_sandbox(SandboxSettings(log=log)) as sandbox:
            client = Client(sandbox, session)
            alice = await client.bearer()
            sandbox.faults.add("reports.queries", "hang", seconds=60)
            pending = asyncio.create_task(client.reports("GET", "queries", alice))
            assert [call.status for call in await sandbox.arrived("reports.queries")] == [None]
        with pytest.raises(aiohttp.ClientError):
            await pending
    assert [orjson.loads(line)["status"] for line in log.read_bytes().splitlines()] == [200, 0]


def test_the_process_says_where_it_listens_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-m", "app.sandbox", "--quota", "reports_second=9", "--report-polls", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = orjson.loads(process.stdout.readline())
        for name in ("api_url", "storage_url"):
            host, _, port = ready[name].removeprefix("http://").partition(":")
            socket.create_connection((host, int(port)), 2).close()
        assert ready["env"]["CONNECTOR__PROVIDERS__DV360__DOWNLOAD_HOSTS"] in ready["storage_url"]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=5)
    assert (process.returncode, rest) == (0, b"")
    assert b"stopping" in errors
