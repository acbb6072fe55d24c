"""Calls to a provider: which permit and token each request spends, what is tried once more, and what nobody may see."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.domain.errors import PermitDenied, ProviderError
from tests.connectors.support import answers, calling, get, reset, server


async def test_one_request_one_permit() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        answer = await setting.calls.request(
            "POST", f"{setting.base}/queries", charge="reports", data=True, json={"a": 1}, params={"b": "c d"}
        )
        assert (answer.status, answer.body) == (200, b"answer 200")
        assert answer.headers["content-type"].startswith("text/plain")
        assert setting.permits.asked == [("reports", True)]
        assert setting.permits.returned == ["ask-1"]
        assert (setting.calls.made, setting.calls.first_at is not None) == (1, True)
        assert setting.points == ["token_read", "request_sent", "response_begun"]
    assert seen[0].headers["Authorization"] == "Bearer token-one"
    assert seen[0].query["b"] == "c d"
    assert seen[0].headers["Content-Type"] == "application/json"


async def test_first_call_time_is_that_of_the_first() -> None:
    async with calling(answers(200)) as setting:
        await get(setting)
        first = setting.calls.first_at
        setting.clock.ahead_s = 1_000
        await get(setting)
        assert (setting.calls.made, setting.calls.first_at) == (2, first)


async def test_signed_links_get_no_token() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        await get(setting, authorised=False)
        assert setting.points == ["request_sent", "response_begun"]
    assert "Authorization" not in seen[0].headers


async def test_stale_permits_are_given_back_and_not_used() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        setting.permits.stale = 2
        await get(setting)
        assert len(setting.permits.asked) == 3
        assert setting.permits.returned == ["ask-1", "ask-2", "ask-3"]
        assert (len(seen), setting.calls.made) == (1, 1)


async def test_after_three_stale_permits_the_step_is_handed_back() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        setting.permits.stale = 3
        with pytest.raises(PermitDenied) as caught:
            await get(setting)
        assert caught.value.reason == "quota"
        assert caught.value.retry_in_s
        assert setting.permits.outstanding == []
        assert (seen, setting.calls.made, setting.calls.first_at) == ([], 0, None)


async def test_a_permit_that_ages_while_the_connection_is_made_is_not_used() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        connector = setting.calls._session.connector
        assert connector is not None
        connect = connector.connect

        async def slow_connect(*args: Any, **kwargs: Any) -> Any:
            connection = await connect(*args, **kwargs)
            if len(setting.permits.asked) == 1:
                setting.clock.ahead_s += 11
            return connection

        connector.connect = slow_connect  # type: ignore[method-assign]
        await get(setting)
        assert len(setting.permits.asked) == 2
        assert len(seen) == 1


async def test_each_request_that_left_tells_how_it_ended() -> None:
    heard: list[str] = []
    async with calling(answers(401, 503, 999), observe=heard.append) as setting:
        setting.permits.stale = 1
        assert (await get(setting)).status == 503
        await get(setting)
        setting.permits.denied = PermitDenied("stale")
        with pytest.raises(PermitDenied):
            await get(setting)
        assert heard == ["401", "503", "other"], "nothing of what could not leave"
        assert len(heard) == setting.calls.made


async def test_a_request_without_an_answer_tells_what_came_instead() -> None:
    heard: list[str] = []
    async with calling(reset, observe=heard.append) as setting:
        with pytest.raises(ProviderError):
            await get(setting)
        assert heard == ["connection_reset"]

    arrived = asyncio.Event()

    async def silent(_request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.sleep(60)
        return web.Response()

    heard.clear()
    async with calling(silent, observe=heard.append) as setting:
        call = asyncio.create_task(get(setting))
        async with asyncio.timeout(5):
            await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert heard == ["cancelled"]


async def test_denied_permit_reaches_nobody() -> None:
    seen: list[web.Request] = []
    async with calling(answers(200, seen=seen)) as setting:
        setting.permits.denied = PermitDenied("stale")
        with pytest.raises(PermitDenied):
            await get(setting)
        assert seen == []


async def test_401_is_tried_once_more_with_a_new_token_and_permit() -> None:
    seen: list[web.Request] = []
    async with calling(answers(401, 200, seen=seen)) as setting:
        assert (await get(setting)).status == 200
        assert setting.tokens.rejected == ["token-one"]
        assert len(setting.permits.asked) == 2
        assert setting.permits.outstanding == []
    assert [each.headers["Authorization"] for each in seen] == ["Bearer token-one", "Bearer token-two"]


async def test_a_second_401_is_an_answer() -> None:
    async with calling(answers(401)) as setting:
        assert (await get(setting)).status == 401
        assert setting.calls.made == 2


async def test_401_without_a_token_is_an_answer() -> None:
    async with calling(answers(401)) as setting:
        assert (await get(setting, authorised=False)).status == 401
        assert setting.calls.made == 1


async def test_401_on_a_stream_is_tried_once_more() -> None:
    async with calling(answers(401, 200)) as setting:
        async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads") as stream:
            assert stream.status == 200
            assert b"".join([piece async for piece in stream.chunks()]) == b"answer 200"
            assert setting.permits.outstanding == ["ask-2"]
        assert setting.permits.outstanding == []


async def test_redirects_are_answers() -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with calling(handle) as setting:
        assert (await get(setting)).status == 302
        assert [each.path for each in seen] == ["/a"]


async def test_stream_gives_its_permit_back_when_its_reader_fails() -> None:
    async with calling(answers(200)) as setting:
        with pytest.raises(RuntimeError):
            async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads"):
                raise RuntimeError
        assert setting.permits.outstanding == []


async def test_cancelled_call_gives_its_permit_back() -> None:
    begun = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        begun.set()
        await asyncio.sleep(30)
        return web.Response()

    async with calling(handle) as setting:
        task = asyncio.create_task(get(setting))
        await begun.wait()
        assert setting.permits.outstanding == ["ask-1"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert setting.permits.outstanding == []


async def test_kept_connection_that_died_costs_a_permit_of_its_own() -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        if len(seen) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(text="here")

    async with calling(handle) as setting:
        await get(setting)
        assert (await get(setting)).body == b"here"
        assert len(seen) == len(setting.permits.asked) == setting.calls.made == 3
        assert setting.permits.outstanding == []


async def test_no_secret_in_logs_errors_or_reprs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with calling(answers(200), limits=Limits(call_s=5)) as setting:
        await setting.calls.request("GET", f"{setting.base}/file?signature=canary", charge="reports")
        logged = [vars(record) for record in caplog.records if record.name == "app.connectors.base"]
        assert logged
        assert logged[0]["url"].endswith("/file")
    async with calling(reset) as setting:
        with pytest.raises(ProviderError) as caught:
            await setting.calls.request("GET", f"{setting.base}/file?signature=canary", charge="reports")
    # The local server's own access log is not ours.
    ours = [vars(record) for record in caplog.records if record.name.startswith("app.")]
    shown = repr(caught.value) + repr(caught.value.failure) + repr(ours)
    assert "provider_call_failed" in shown
    assert "token-one" not in shown
    assert "canary" not in shown


async def test_other_origins_never_see_a_token() -> None:
    seen: list[web.Request] = []
    async with server(answers(200, seen=seen)) as other, calling(answers(200)) as setting:
        for authorised in (True, False):
            with pytest.raises(ProviderError) as caught:
                await setting.calls.request("GET", f"{other}/a", charge="reports", authorised=authorised)
            assert caught.value.failure.code == "host_not_allowed"
        assert (setting.permits.asked, seen) == ([], [])
