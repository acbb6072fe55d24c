"""What each permit that is given back tells of its call, from which a connector's health is counted; and what a call
may carry."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.failures import bad_response
from app.connectors.hosts import Hosts
from app.domain.errors import PermitDenied, ProviderError
from app.domain.messages import Usage
from tests.connectors.support import Handler, Setting, answers, calling, get, reset


def ends(setting: Setting) -> list[bool | None]:
    """Of each permit given back: whether the provider did its part; None for a call that says nothing of it."""
    assert len(setting.permits.ends) == len(setting.permits.asked)
    return [None if ended is None else ended.ok for ended in setting.permits.ends]


def left(setting: Setting) -> list[bool]:
    """Of each permit given back: whether its request was sent, so that the provider may have counted it."""
    return [ended is not None and ended.left for ended in setting.permits.ends]


@pytest.mark.parametrize(
    ("statuses", "told"),
    [((200,), [True]), ((404,), [True]), ((429,), [True]), ((500,), [False]), ((503,), [False]),
     ((401, 200), [True, True]), ((401, 502), [True, False])],
)  # fmt: skip
async def test_answers(statuses: tuple[int, ...], told: list[bool]) -> None:
    async with calling(answers(*statuses)) as setting:
        await get(setting)
        assert ends(setting) == told


@pytest.mark.parametrize(
    ("statuses", "told"),
    [((200,), [(False, "")]), ((204,), [(False, "")]), ((302,), [(True, "")]), ((400,), [(True, "")]),
     ((403,), [(True, "")]), ((404,), [(True, "")]), ((429,), [(True, "")]), ((401, 200), [(True, ""), (False, "")]),
     ((408,), [(False, "http_408")]), ((500,), [(False, "http_500")]), ((503,), [(False, "http_503")])],
)  # fmt: skip
async def test_a_refusal_counts_neither_way_and_a_failure_has_its_code(
    statuses: tuple[int, ...], told: list[tuple[bool, str]]
) -> None:
    async with calling(answers(*statuses)) as setting:
        await get(setting)
        assert [(e.neutral, e.error) for e in setting.permits.ends if e is not None] == told


async def test_what_a_reader_finds_in_a_stream_decides_whatever_its_status() -> None:
    """A quota can be told with any status, and a report be cut in any answer."""
    cases: list[tuple[int, BaseException, tuple[bool, bool, str]]] = [
        (200, bad_response("truncated_report", "no footer", system=True), (False, False, "truncated_report")),
        (200, bad_response("unreadable_report", "no rows"), (True, True, "")),
        (500, bad_response("daily_quota", "spent"), (True, True, "")),
        (200, asyncio.CancelledError(), (True, True, "")),
        (503, asyncio.CancelledError(), (False, False, "http_503")),
    ]
    for status, error, told in cases:
        async with calling(answers(status)) as setting:
            with pytest.raises(type(error)):
                async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads"):
                    raise error
            (ended,) = setting.permits.ends
            assert ended is not None
            assert (ended.ok, ended.neutral, ended.error) == told


async def test_latency_is_the_time_until_the_head() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.15)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"head")
        await asyncio.sleep(0.3)
        await response.write(b"rest")
        return response

    async with calling(slow) as setting:
        assert (await get(setting)).body == b"headrest"
        (ended,) = setting.permits.ends
        assert ended is not None
        assert 140 <= ended.latency_ms < 400


async def silent(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 10)
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    ("handler", "limits"),
    [(silent, Limits(idle_s=0.05)), (silent, Limits(call_s=0.05)), (reset, Limits()), (cut_short, Limits())],
)
async def test_no_answer_or_half_of_one(handler: Handler, limits: Limits) -> None:
    async with calling(handler, limits=limits) as setting:
        with pytest.raises(ProviderError) as raised:
            await get(setting)
        assert (ends(setting), left(setting)) == ([False], [True])
        assert [ended and ended.error for ended in setting.permits.ends] == [raised.value.failure.code]


async def test_an_answer_that_is_too_long_for_us_was_given_all_the_same() -> None:
    async with calling(answers(200), limits=Limits(answer_bytes=3)) as setting:
        with pytest.raises(ProviderError):
            await get(setting)
        assert ends(setting) == [True]


async def test_the_reader_of_a_stream_may_find_it_cut() -> None:
    for system in (True, False):
        async with calling(answers(200)) as setting:
            with pytest.raises(ProviderError):
                async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads"):
                    raise bad_response("truncated_report", "no footer", system=system)
            assert ends(setting) == [not system]
    async with calling(answers(200)) as setting:
        with pytest.raises(RuntimeError):
            async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads"):
                raise RuntimeError
        assert ends(setting) == [True]


async def test_what_never_left_says_nothing() -> None:
    async with calling(answers(200)) as setting:
        setting.permits.stale = 2
        await get(setting)
        assert (ends(setting), left(setting)) == ([None, None, True], [False, False, True])
    async with calling(answers(200)) as setting:
        setting.permits.denied = PermitDenied("stale")
        with pytest.raises(PermitDenied):
            await get(setting)
        assert setting.permits.ends == []


async def test_a_provider_that_nobody_can_reach_is_no_healthy_one() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        hosts = Hosts(api=(f"http://127.0.0.1:{port}/",), allow_private=True)
        async with calling(answers(200), hosts=hosts) as setting:
            with pytest.raises(ProviderError):
                await setting.calls.request("GET", f"http://127.0.0.1:{port}/", charge="reports")
            assert (ends(setting), left(setting)) == ([False], [False])


async def test_what_was_cancelled_says_nothing() -> None:
    arrived = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        arrived.set()
        return await silent(request)

    async with calling(handle) as setting:
        task = asyncio.create_task(get(setting))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (ends(setting), left(setting)) == ([None], [True])


async def test_a_connection_closed_while_it_was_idle_says_nothing() -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        if len(seen) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(text="here")

    async with calling(handle) as setting:
        await get(setting)
        await get(setting)
        assert (ends(setting), left(setting)) == ([True, None, True], [True, True, True])


async def test_a_stream_may_post() -> None:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, await request.json(), request.headers["X-Extra"], request.content_type))
        return web.Response(body=b"rows")

    async with calling(handle) as setting:
        url = f"{setting.base}/search"
        async with setting.calls.stream(
            "POST", url, charge="operations", data=True, json={"query": "q"}, headers={"X-Extra": "1"}
        ) as stream:
            assert b"".join([piece async for piece in stream.chunks()]) == b"rows"
        assert setting.permits.asked == [("operations", True)]
    assert seen == [("POST", {"query": "q"}, "1", "application/json")]


async def test_headers_may_hold_keys_that_nobody_sees(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    calls: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        assert request.headers["developer-token"] == "canary"
        return web.Response()

    async with calling(handle) as setting:
        send = setting.calls._send

        async def overheard(call: Any, token: str | None) -> Any:
            calls.append(repr(call))
            return await send(call, token)

        setting.calls._send = overheard  # type: ignore[method-assign]
        await get(setting, headers={"developer-token": "canary"})
    ours = [vars(record) for record in caplog.records if record.name.startswith("app.")]
    assert calls
    assert "canary" not in repr(calls) + repr(ours)


async def told(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(headers={"X-Used": request.headers.get("X-Ask", "12")})


async def test_what_headers_tell_of_quotas_goes_back_with_the_permit() -> None:
    def read(headers: Mapping[str, str]) -> list[Usage]:
        return [Usage("per_hour", used=int(headers["x-used"]))]

    async with calling(told, usage=read) as setting:
        await get(setting)
        (ended,) = setting.permits.ends
        assert ended is not None
        assert ended.usage == (Usage("per_hour", used=12),)


@pytest.mark.parametrize("header", ["", "many", "{"])
async def test_headers_that_cannot_be_read_cost_no_permit_its_return(header: str) -> None:
    def read(headers: Mapping[str, str]) -> list[Usage]:
        return [Usage("per_hour", used=json.loads(headers["x-used"])["calls"])]

    async with calling(told, usage=read) as setting:
        answer = await get(setting, headers={"X-Ask": header})
        assert (answer.status, setting.permits.outstanding) == (200, [])
        assert [ended.usage for ended in setting.permits.ends if ended is not None] == [()]
