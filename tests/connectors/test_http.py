"""Calls to a provider: permits, tokens, deadlines, limits, and how each way of failing is named."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.hosts import Hosts
from app.domain.errors import ErrorClass, PermitDenied, ProviderError
from tests.connectors.support import Handler, Setting, calling, server

Case = Callable[[Setting], Awaitable[Any]]


def answers(*statuses: int, seen: list[web.Request] | None = None) -> Handler:
    """A handler that answers these statuses in turn, the last one for ever."""
    left = list(statuses)

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        if seen is not None:
            seen.append(request)
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text=f"answer {status}")

    return handle


async def get(setting: Setting, **options: Any) -> Any:
    return await setting.calls.request("GET", f"{setting.base}/a", charge="reports", **options)


async def failure_of(handler: Handler, limits: Limits | None = None) -> Any:
    async with calling(handler, limits=limits) as setting:
        with pytest.raises(ProviderError) as caught:
            await get(setting)
        assert setting.permits.outstanding == []
        assert len(setting.permits.returned) == len(setting.permits.asked) > 0
    return caught.value.failure


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


async def silent(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 10)
    assert request.transport is not None
    request.transport.close()
    return response


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1_000):
        await response.write(b"x")
        await asyncio.sleep(0.02)
    return response


def encoded(body: bytes, encoding: str = "gzip") -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": encoding})

    return handle


@pytest.mark.parametrize(
    ("handler", "limits", "code"),
    [
        (silent, Limits(idle_s=0.05), "read_timeout"),
        (silent, Limits(call_s=0.05), "call_timeout"),
        (reset, Limits(), "connection_reset"),
        (cut_short, Limits(), "truncated_body"),
        (drip, Limits(call_s=0.2), "call_timeout"),
        (encoded(gzip.compress(b"x" * 5_000)[:-12]), Limits(), "truncated_body"),
    ],
)
async def test_transport_failures(handler: Handler, limits: Limits, code: str) -> None:
    failure = await failure_of(handler, limits)
    assert (failure.error_class, failure.code) == (ErrorClass.PROVIDER_SYSTEM, code)
    assert (failure.retryable, failure.system) == (True, True)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hosts = Hosts(api=(f"http://127.0.0.1:{port}/",), allow_private=True)
    async with calling(answers(200), hosts=hosts) as setting:
        with pytest.raises(ProviderError) as caught:
            await setting.calls.request("GET", f"http://127.0.0.1:{port}/", charge="reports")
        assert caught.value.failure.code == "connect_failure"
        assert (setting.calls.made, setting.permits.outstanding) == (0, [])


async def test_connection_that_is_never_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(("127.0.0.1", port))
        hosts = Hosts(api=(f"http://127.0.0.1:{port}/",), allow_private=True)
        async with calling(answers(200), hosts=hosts, limits=Limits(connect_s=0.1)) as setting:
            with pytest.raises(ProviderError) as caught:
                await setting.calls.request("GET", f"http://127.0.0.1:{port}/", charge="reports")
        for filler in fillers:
            filler.close()
    assert caught.value.failure.code == "connect_timeout"


async def test_a_reset_of_a_new_connection_is_not_tried_again() -> None:
    async with calling(reset) as setting:
        with pytest.raises(ProviderError):
            await get(setting)
        assert (setting.calls.made, len(setting.permits.asked)) == (1, 1)


async def test_gzip_is_unpacked() -> None:
    members = gzip.compress(b"first,") + gzip.compress(b"second")
    for body, wanted in ((gzip.compress(b"plain"), b"plain"), (members, b"first,second"), (b"", b"")):
        async with calling(encoded(body)) as setting:
            assert (await get(setting)).body == wanted


@pytest.mark.parametrize(("body", "encoding"), [(b"not gzip at all", "gzip"), (b"x", "br"), (b"x", "gzip, gzip")])
async def test_bad_encodings(body: bytes, encoding: str) -> None:
    failure = await failure_of(encoded(body, encoding))
    assert (failure.error_class, failure.code) == (ErrorClass.PROVIDER_RESPONSE, "bad_encoding")


async def test_answer_beyond_its_limit() -> None:
    failure = await failure_of(encoded(b"x" * 2_000, "identity"), Limits(answer_bytes=1_000))
    assert (failure.error_class, failure.code, failure.retryable) == (
        ErrorClass.TOO_LARGE, "response_too_large", False,
    )  # fmt: skip


async def read_stream(setting: Setting) -> int:
    size = 0
    async with setting.calls.stream("GET", f"{setting.base}/a", charge="downloads", authorised=False) as stream:
        async for piece in stream.chunks():
            size += len(piece)
    return size


async def test_gzip_bomb_is_cut_in_bounded_memory() -> None:
    bomb = gzip.compress((b"0" * 999 + b"\n") * 40_000)
    async with calling(encoded(bomb)) as setting:
        tracemalloc.start()
        with pytest.raises(ProviderError) as caught:
            await read_stream(setting)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert setting.permits.outstanding == []
    assert caught.value.failure.code == "response_too_large"
    assert peak < 16 * 1024 * 1024


async def test_honest_compression_passes() -> None:
    content = b"".join(b"2026/11/01,4567,EUR,%d,Campaign %d,120,3\n" % (n, n) for n in range(120_000))
    async with calling(encoded(gzip.compress(content))) as setting:
        assert await read_stream(setting) == len(content) > 4 * 1024 * 1024


async def test_endless_line_is_cut() -> None:
    line = b"x" * 600_000
    async with calling(encoded(line + b"\n" + line + b"\n", "identity")) as setting:
        assert await read_stream(setting) == 1_200_002
    async with calling(encoded(b"\n" + line + line, "identity")) as setting:
        with pytest.raises(ProviderError) as caught:
            await read_stream(setting)
    assert "line" in caught.value.failure.message


async def test_stream_has_a_deadline_of_its_own() -> None:
    async with calling(drip, limits=Limits(call_s=0.05, stream_s=0.4)) as setting:
        with pytest.raises(ProviderError) as caught:
            await read_stream(setting)
        assert caught.value.failure.code == "call_timeout"
        assert setting.permits.outstanding == []


async def test_a_stream_that_a_quota_counts_keeps_to_the_calls_deadline() -> None:
    async with calling(drip, limits=Limits(call_s=0.2, stream_s=30)) as setting:
        with pytest.raises(ProviderError) as caught:
            async with asyncio.timeout(5), setting.calls.stream("GET", f"{setting.base}/a", charge="reports") as stream:
                async for _ in stream.chunks():
                    pass
        assert caught.value.failure.code == "call_timeout"


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
