"""Google Ads' quotas and faults over HTTP, in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from app.sandbox.clock import Instant
from app.sandbox.fixture import RunningSandbox, running_sandbox
from app.sandbox.settings import NAIVE_CLIENT_ID, NAIVE_CLIENT_SECRET, SandboxSettings
from tests.sandbox.client import PERFORMANCE, Client, Reply, code_of, connected

ONE = "SELECT customer.id FROM customer"


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = Instant(1_795_000_000.0, 100.0)

    def __call__(self) -> Instant:
        return self.now

    def move(self, seconds: float) -> None:
        self.now = Instant(self.now.unix + seconds, self.now.monotonic + seconds)


@asynccontextmanager
async def timed() -> AsyncIterator[tuple[RunningSandbox, Client, HandClock]]:
    clock = HandClock()
    settings = SandboxSettings(expires_in=1_000_000)
    async with running_sandbox(settings, clock) as sandbox, aiohttp.ClientSession() as session:
        yield sandbox, Client(sandbox, session), clock


def told(reply: Reply) -> dict[str, Any]:
    """The quotaErrorDetails of a refusal."""
    answer = reply.json
    error = (answer[0] if isinstance(answer, list) else answer)["error"]
    (one,) = error["details"][0]["errors"]
    assert reply.status == error["code"] == 429
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert "Retry-After" not in reply.headers
    details: dict[str, Any] = one["details"]["quotaErrorDetails"]
    assert one["message"] == f"Too many requests. Retry in {details['retryDelay'].removesuffix('s')} seconds."
    return details


async def test_a_lowered_minute_refuses_with_the_time_that_is_truly_left() -> None:
    async with timed() as (sandbox, client, clock):
        alice = await client.bearer()
        change = {"quotas": {"ads_minute": {"limit": 2}}}
        assert (await client.call("POST", "/_sandbox/quotas", json=change)).status == 200
        assert (await client.ads(alice, ONE)).status == 200
        clock.move(10)
        assert (await client.ads(alice, ONE, "search")).status == 200
        clock.move(10.5)
        refused = await client.ads(alice, ONE)
        assert isinstance(refused.json, list)
        assert code_of(refused.json) == (429, {"quotaError": "RESOURCE_TEMPORARILY_EXHAUSTED"})
        details = told(refused)
        assert (details["rateScope"], details["retryDelay"]) == ("DEVELOPER", "50s"), "whole seconds, rounded up"
        assert sandbox.calls("ads.search_stream")[-1].over == ("ads_minute",)
        clock.move(50)
        assert (await client.ads(alice, ONE)).status == 200, "the delay was enough"


async def test_a_call_before_its_time_is_refused_again_and_counts() -> None:
    async with timed() as (sandbox, client, clock):
        alice = await client.bearer()
        sandbox.set_quota("ads_minute", 1)
        await client.ads(alice, ONE)
        clock.move(30)
        assert told(await client.ads(alice, ONE, "search"))["retryDelay"] == "60s", "this one fills the window as well"
        clock.move(59)
        assert told(await client.ads(alice, ONE, "search"))["retryDelay"] == "60s"


async def test_a_day_is_86400_sliding_seconds_of_the_whole_project() -> None:
    async with timed() as (sandbox, client, clock):
        alice, bob = await client.bearer("alice"), await client.bearer("bob")
        sandbox.set_quota("ads_operations", 2)
        sandbox.set_quota("ads_minute", 2)
        accessible = "/googleads/v26/customers:listAccessibleCustomers"
        assert (await client.call("GET", accessible, headers=alice)).status == 200
        clock.move(86_000)
        assert (await client.ads(bob, ONE, customer="7777777777")).status == 200
        clock.move(20.2)
        refused = await client.ads(alice, ONE)
        assert code_of(refused.json) == (429, {"quotaError": "RESOURCE_EXHAUSTED"})
        assert told(refused) == {
            "rateScope": "DEVELOPER",
            "rateName": "Number of operations for basic access",
            "retryDelay": "86380s",
        }
        naive = await client.bearer("alice", NAIVE_CLIENT_SECRET, NAIVE_CLIENT_ID)
        assert (await client.ads(naive, ONE)).status == 200, "another project has the same limits, counted apart"
        clock.move(86_380)
        listed = await client.call("GET", accessible, headers=alice)
        assert listed.status == 200
        rows = {(row["name"], row["value"]): row for row in sandbox.quotas()}
        assert rows[("ads_operations", "sandbox-client")]["calls"] == 4
        assert rows[("ads_operations", NAIVE_CLIENT_ID)]["calls"] == 1


async def test_the_limits_are_those_of_basic_access() -> None:
    async with connected(enforce=True) as (sandbox, client):
        alice = await client.bearer()
        await client.ads(alice, ONE)
        await client.reports("GET", "queries", alice)
        rules = {
            row["name"]: (row["scope"], row["limit"], row["period_s"], row["calendar_zone"], row["calls"])
            for row in sandbox.quotas()
            if row["group"] == "operations"
        }
    assert rules == {
        "ads_operations": ("application", 15_000, 86_400.0, None, 1),
        "ads_minute": ("application", None, 60.0, None, 1),
    }


FAULTS: list[tuple[str, int, dict[str, str]]] = [
    ("429", 429, {"quotaError": "RESOURCE_TEMPORARILY_EXHAUSTED"}),
    ("429_retry_after", 429, {"quotaError": "RESOURCE_TEMPORARILY_EXHAUSTED"}),
    ("ads_temporary", 429, {"quotaError": "RESOURCE_TEMPORARILY_EXHAUSTED"}),
    ("ads_daily", 429, {"quotaError": "RESOURCE_EXHAUSTED"}),
    ("403_permission", 403, {"authorizationError": "USER_PERMISSION_DENIED"}),
    ("token_expired", 401, {"authenticationError": "OAUTH_TOKEN_EXPIRED"}),
    ("revoked", 401, {"authenticationError": "OAUTH_TOKEN_REVOKED"}),
    ("500", 500, {"internalError": "INTERNAL_ERROR"}),
    ("internal", 500, {"internalError": "TRANSIENT_ERROR"}),
    ("504", 504, {"internalError": "DEADLINE_EXCEEDED"}),
]


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS)
@pytest.mark.parametrize("call", ["search", "searchStream"])
async def test_error_faults_speak_google_ads(fault: str, status: int, code: dict[str, str], call: str) -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("ads.*", fault, times=1, seconds=7)
        answer = await client.ads(alice, ONE, call)
        assert isinstance(answer.json, list) == (call == "searchStream")
        assert answer.status == status
        assert code_of(answer.json) == (status, code)
        assert answer.headers.get("Retry-After") == ("7" if fault == "429_retry_after" else None)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        again = await client.ads(alice, ONE, call)
        assert again.status == (401 if fault == "revoked" else 200)
        assert [one.fault for one in sandbox.calls() if one.route.startswith("ads.")] == [fault, None]
        dead = (await client.refresh("1//sandbox-alice")).status == 400
        assert dead == (fault == "revoked")


@pytest.mark.parametrize("fault", ["503", "403_rate", "403_daily"])
async def test_what_google_ads_has_no_words_for_comes_as_the_bare_envelope(fault: str) -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("ads.search_stream", fault, times=1)
        answer = await client.ads(alice, ONE)
        (only,) = answer.json
        assert answer.status == only["error"]["code"] == int(fault[:3])
        assert "details" not in only["error"]


@pytest.mark.parametrize("call", ["search", "searchStream"])
async def test_a_front_end_answers_a_page(call: str) -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("ads.*", "502", times=1)
        answer = await client.ads(alice, ONE, call)
        assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (502, "text/html")
        assert answer.body.startswith(b"<!DOCTYPE html>")


async def test_the_delay_of_a_quota_fault_is_the_one_asked_for() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        delays = []
        for fault, seconds in (("ads_temporary", 5), ("ads_temporary", 0.5), ("ads_daily", 3_600), ("ads_daily", None)):
            sandbox.faults.add("ads.search", fault, times=1, seconds=seconds)
            delays.append(told(await client.ads(alice, ONE, "search"))["retryDelay"])
        assert delays == ["5s", "0.500s", "3600s", "40591s"]


async def test_the_faults_of_google_ads_do_not_break_other_providers() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        seen = []
        for fault in ("ads_temporary", "ads_daily", "internal"):
            sandbox.faults.add("*", fault, times=1)
            seen.append((await client.reports("GET", "queries", alice)).status)
        assert seen == [429, 429, 500]


async def read_into(got: bytearray, answer: aiohttp.ClientResponse) -> None:
    async for part in answer.content.iter_any():
        got += part


@pytest.mark.parametrize("campaigns", [5, 3_000])
async def test_a_stream_is_cut_inside_a_row_of_a_200(campaigns: int) -> None:
    async with connected(campaigns=campaigns) as (sandbox, client):
        alice = await client.bearer()
        whole = (await client.ads(alice, PERFORMANCE)).body
        sandbox.faults.add("ads.search_stream", "cut", times=1)
        path = f"{sandbox.api_url}/googleads/v26/customers/1234567890/googleAds:searchStream"
        got = bytearray()
        async with client.session.post(path, headers=alice, json={"query": PERFORMANCE}) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await read_into(got, answer)
        sandbox.faults.add("ads.search_stream", "truncate", times=1)
        short = (await client.ads(alice, PERFORMANCE)).body
        assert [call.status for call in sandbox.calls("ads.search_stream")] == [200, 0, 200]
    whole = whole.replace(b'"sandbox-2"', b"")
    for part in (bytes(got).replace(b'"sandbox-3"', b""), short.replace(b'"sandbox-4"', b"")):
        assert whole.startswith(part)
        assert 0.3 * len(whole) < len(part) < 0.7 * len(whole)
        assert not whole[len(part) :].startswith((b",{", b"{", b"]")), "not between two rows"
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(part)


async def test_bodies_that_are_not_what_was_promised() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        seen = {}
        for fault in ("html", "empty", "garbage", "wrong_content_type", "wrong_encoding", "slow"):
            sandbox.faults.add("ads.search_stream", fault, times=1, seconds=0.01)
            seen[fault] = await client.ads(alice, PERFORMANCE)
        sandbox.faults.add("ads.search_stream", "reset", times=1)
        with pytest.raises(aiohttp.ClientOSError):
            await client.ads(alice, PERFORMANCE)
    assert {answer.status for answer in seen.values()} == {200}
    assert seen["html"].body.startswith(b"<!doctype html")
    assert seen["empty"].body == b""
    assert seen["wrong_content_type"].headers["Content-Type"].startswith("text/html")
    with pytest.raises(UnicodeDecodeError):
        seen["wrong_encoding"].body.decode()
    assert seen["slow"].json


async def test_a_fault_can_be_aimed_at_one_customer() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        sandbox.faults.add("ads.*", "503", account="1234567891")
        seen = [(await client.ads(alice, ONE, customer=one)).status for one in ("1234567890", "1234567891")]
    assert seen == [200, 503]
