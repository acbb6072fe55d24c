"""Bodies that are not what was promised: answers replaced, damaged on the way out, or never finished."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from aiohttp import web

from app.sandbox.faults import FaultRule

_BLOCK = 64 * 1024
_HTML = "<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"
_SIZES = {"bomb": 1 << 30, "huge": 2 << 30, "long_line": 200 << 20}


async def send_blocks(
    request: web.Request, headers: Mapping[str, str], blocks: Iterable[bytes], rule: FaultRule | None, expected: int
) -> web.StreamResponse:
    """Stream ``blocks`` (about ``expected`` of them) chunked, letting other calls run between them.

    A ``rule`` damages the stream: ``cut`` drops the connection half-way, ``truncate`` ends it there cleanly."""
    answer = web.StreamResponse(headers=_headers(headers, rule))
    await answer.prepare(request)
    async for block in _damage(blocks, rule, expected):
        await answer.write(block)
    if rule is not None and rule.fault == "cut":
        _close(request)
        return answer
    await answer.write_eof()
    return answer


async def damaged(request: web.Request, answer: web.Response, rule: FaultRule) -> web.StreamResponse:
    """A finished answer, sent as the rule says; ``cut`` announces the full length and drops the connection half-way."""
    if rule.fault == "lost":
        _reset(request)
        return answer
    body = answer.body if isinstance(answer.body, bytes) else b""
    spoilt = web.StreamResponse(status=answer.status, headers=_headers(answer.headers, rule))
    if rule.fault in ("cut", "drip"):
        spoilt.content_length = len(body)
    await spoilt.prepare(request)
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]
    async for block in _damage(halves, rule, 2):
        await spoilt.write(block)
    if rule.fault == "cut":
        _close(request)
        return spoilt
    await spoilt.write_eof()
    return spoilt


def _headers(headers: Mapping[str, str], rule: FaultRule | None) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
    if rule is not None and rule.fault == "wrong_content_type":
        kept["Content-Type"] = "text/html; charset=utf-8"
    return kept


async def _damage(blocks: Iterable[bytes], rule: FaultRule | None, expected: int) -> AsyncIterator[bytes]:
    kind = rule.fault if rule is not None else ""
    for at, block in enumerate(blocks):
        if kind in ("cut", "truncate") and at >= max(expected // 2, 1):
            return
        if rule is not None and kind == "drip":
            for one in block:
                yield bytes((one,))
                await asyncio.sleep(1.0 if rule.seconds is None else rule.seconds)
            continue
        yield _recode(block, kind, first=at == 0)
        await asyncio.sleep(0)


def _recode(block: bytes, kind: str, first: bool) -> bytes:
    """``wrong_encoding`` breaks UTF-8 at the block's start; ``duplicate_headers`` names the first two columns alike."""
    if kind == "wrong_encoding":
        return b"\xff\xfe" + block
    if kind == "duplicate_headers" and first:
        line, _, rest = block.partition(b"\n")
        names = line.split(b",")
        return b",".join([names[0], names[0], *names[2:]]) + b"\n" + rest
    return block


async def replaced(request: web.Request, rule: FaultRule) -> web.StreamResponse:
    """The answer of a fault that stands in for the route's own."""
    match rule.fault:
        case "html":
            return web.Response(text=_HTML, content_type="text/html")
        case "empty":
            return web.Response(status=200)
        case "garbage":
            noise = bytes(range(256)) * 8
            return web.Response(body=noise, content_type="application/octet-stream")
        case "bad_gzip":
            spoilt = gzip.compress(b"Date,Advertiser ID\n" * 200)[:-40] + b"\0" * 40
            return web.Response(body=spoilt, headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"})
        case "reset":
            _reset(request)
            return web.Response(status=500)
        case "hang":
            await asyncio.sleep(3_600.0 if rule.seconds is None else rule.seconds)
            return web.Response(status=504)
        case _:
            return await _oversized(request, rule)


async def _oversized(request: web.Request, rule: FaultRule) -> web.StreamResponse:
    size = rule.size or _SIZES[rule.fault]
    headers = {"Content-Type": "text/csv"}
    if rule.fault == "bomb":
        return await send_blocks(request, headers | {"Content-Encoding": "gzip"}, _bomb(size), None, 1)
    line = b"x" * _BLOCK if rule.fault == "long_line" else (b"x" * 63 + b"\n") * (_BLOCK // 64)
    return await send_blocks(request, headers, (line for _ in range(-(-size // _BLOCK))), None, 1)


def _bomb(size: int) -> Iterator[bytes]:
    """gzip of ``size`` zero bytes, about a thousandth of that on the wire."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    for _ in range(-(-size // len(zeros))):
        if packed := packer.compress(zeros):
            yield packed
    yield packer.flush()


def _close(request: web.Request) -> None:
    """Send what is buffered, then end the connection."""
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    """End the connection with RST: nothing lingers, nothing is said."""
    if request.transport is None:
        return
    sock = request.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
