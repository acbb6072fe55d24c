"""Calls to a provider that fail: deadlines, limits, broken bodies, and how each way of failing is named."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from typing import Any

import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.hosts import Hosts
from app.domain.errors import ErrorClass, ProviderError
from tests.connectors.support import Handler, Setting, answers, calling, get, reset


async def failure_of(handler: Handler, limits: Limits | None = None) -> Any:
    async with calling(handler, limits=limits) as setting:
        with pytest.raises(ProviderError) as caught:
            await get(setting)
        assert setting.permits.outstanding == []
        assert len(setting.permits.returned) == len(setting.permits.asked) > 0
    return caught.value.failure


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
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and kept, so that no other server gets the port
        port = bound.getsockname()[1]
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


async def read_stream(setting: Setting, charge: str = "downloads", *, authorised: bool = False) -> int:
    size = 0
    async with setting.calls.stream("GET", f"{setting.base}/a", charge=charge, authorised=authorised) as stream:
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
            async with asyncio.timeout(5):
                await read_stream(setting, "reports", authorised=True)
        assert caught.value.failure.code == "call_timeout"
