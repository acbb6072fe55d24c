"""Reading answers within limits: decoded bytes, compression ratio, line length (JSON has no lines), total time.

Bodies are decoded here and not by aiohttp, because only so the compressed bytes can be counted beside the decoded ones:
1 MB of gzip can hold 1 GiB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp

from app.connectors.failures import bad_response, too_large, transport_failure, truncated
from app.domain.errors import ProviderError
from app.ports import HttpStream

PIECE = 256 * 1024
"""Most bytes one decoded piece may have."""

RATIO_GRACE = 4 * 1024 * 1024
"""Decoded bytes below which no ratio is judged: small answers of zeros are honest."""

MOST_REFUSAL = 64 * 1024
"""Bytes of a refusal that are looked at, or a piece more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may cost. Spans in seconds, sizes in decoded bytes."""

    connect_s: float = 10.0
    idle_s: float = 60.0
    call_s: float = 120.0
    stream_s: float = 300.0
    answer_bytes: int = 4 * 1024 * 1024
    stream_bytes: int = 1024 * 1024 * 1024
    line_bytes: int = 1024 * 1024
    ratio: int = 200


async def pieces(
    response: aiohttp.ClientResponse, limits: Limits, *, most: int, deadline: float
) -> AsyncIterator[bytes]:
    """Decoded pieces of the body, at most ``most`` bytes in all, none after ``deadline`` (loop time).

    Raises ``ProviderError``: too_large; truncated_body, read_timeout, call_timeout (system); bad_encoding.
    """
    decoder = _decoder(response.headers.get("Content-Encoding", ""))
    meter = _Meter(limits, most, lined=response.content_type != "application/json")
    while raw := await _read(response, deadline):
        meter.took(len(raw))
        for piece in decoder.feed(raw):
            meter.gave(piece)
            yield piece
    decoder.end()


async def whole(response: aiohttp.ClientResponse, limits: Limits, *, deadline: float) -> bytes:
    """The whole body, at most ``answer_bytes``."""
    parts = [piece async for piece in pieces(response, limits, most=limits.answer_bytes, deadline=deadline)]
    return b"".join(parts)


async def _read(response: aiohttp.ClientResponse, deadline: float) -> bytes:
    try:
        async with asyncio.timeout_at(deadline):
            return await response.content.readany()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        failure: ProviderError = transport_failure(error)
    raise failure


class _Meter:
    """Counts one body and stops it at its limits."""

    def __init__(self, limits: Limits, most: int, *, lined: bool) -> None:
        self._limits = limits
        self._most = most
        self._lined = lined
        self._raw = 0
        self._decoded = 0
        self._line = 0

    def took(self, size: int) -> None:
        self._raw += size

    def gave(self, piece: bytes) -> None:
        self._decoded += len(piece)
        if self._decoded > self._most:
            raise too_large(f"the answer is longer than {self._most} bytes")
        if self._decoded > max(RATIO_GRACE, self._raw * self._limits.ratio):
            raise too_large(f"the answer grew more than {self._limits.ratio}-fold when unpacked")
        if self._lined:
            self._measure_line(piece)

    def _measure_line(self, piece: bytes) -> None:
        first = piece.find(b"\n")
        longest = self._line + (len(piece) if first < 0 else first)
        self._line = longest if first < 0 else len(piece) - piece.rfind(b"\n") - 1
        if longest > self._limits.line_bytes:
            raise too_large(f"a line is longer than {self._limits.line_bytes} bytes")


class _Plain:
    """No content encoding: aiohttp checks the length itself."""

    def feed(self, raw: bytes) -> Iterator[bytes]:
        yield from (raw[at : at + PIECE] for at in range(0, len(raw), PIECE))

    def end(self) -> None:
        return


class _Gzip:
    """gzip, one or more members (RFC 1952), decoded in pieces of bounded size."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._any = False

    def feed(self, raw: bytes) -> Iterator[bytes]:
        rest = raw
        while rest:
            self._any = True
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            if piece := self._inflate(rest):
                yield piece
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def _inflate(self, raw: bytes) -> bytes:
        try:
            return self._member.decompress(raw, PIECE)
        except zlib.error:
            raise bad_response("bad_encoding", "the answer's gzip is damaged") from None

    def end(self) -> None:
        if self._any and not self._member.eof:
            raise truncated("the answer's gzip ended early")


def _decoder(encoding: str) -> _Plain | _Gzip:
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gzip()
    raise bad_response("bad_encoding", "the answer has a content encoding that was not asked for")


async def beginning(stream: HttpStream) -> bytes:
    """What a refusal says, which a stream has instead of a report. Raises ``ProviderError``, as reading does."""
    content = b""
    async for piece in stream.chunks():
        content += piece
        if len(content) > MOST_REFUSAL:
            break
    return content
