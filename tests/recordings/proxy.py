"""Stands between an adapter and the sandbox: notes every exchange as it went over the wire, and answers in the
sandbox's place where a case says so."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.connectors.examples.case import Case
from tests.connectors.support import server

_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length", "host"})
"""What one connection says to its other end."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call and its whole answer, header names as they were written, the answer's body unpacked; ``canned``: it was a
    row's example."""

    call: str
    canned: bool
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int
    answer_headers: tuple[tuple[str, str], ...]
    answer: bytes


@dataclass
class Proxy:
    """``calls`` are (the adapter's name of a call, what its method and path look like); ``canned`` is answered to every
    call of its name; ``seen`` in order of their ends."""

    calls: Sequence[tuple[str, re.Pattern[str]]]
    canned: Case | None = None
    seen: list[Exchange] = field(default_factory=list)

    def named(self, request: web.Request) -> str:
        """What the adapter calls this call."""
        line = f"{request.method} {request.path}"
        return next(name for name, pattern in self.calls if pattern.search(line))

    @asynccontextmanager
    async def before(self, target: str) -> AsyncIterator[str]:
        """A server in front of ``target``; gives its base URL."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.Response:
                return await self._handle(request, session, target)

            async with server(handle) as base:
                yield base

    async def _handle(self, request: web.Request, session: aiohttp.ClientSession, target: str) -> web.Response:
        call, body = self.named(request), await request.read()
        canned = self.canned is not None and self.canned.call == call
        if self.canned is not None and canned:
            kind = {"Content-Type": self.canned.content_type} if self.canned.body else {}
            answer = web.Response(status=self.canned.status, body=self.canned.body, headers=kind)
            content = self.canned.body
        else:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
            async with session.request(
                request.method, f"{target}{request.raw_path}", headers=headers, data=body or None, allow_redirects=False
            ) as response:
                content = await response.read()
                kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
                answer = web.Response(status=response.status, body=content, headers=kept)
        self.seen.append(
            Exchange(
                call,
                canned,
                request.method,
                str(request.url),
                tuple(request.headers.items()),
                body,
                answer.status,
                tuple(answer.headers.items()),
                _unpacked(answer, content),
            )
        )
        return answer


def _unpacked(answer: web.Response, content: bytes) -> bytes:
    return gzip.decompress(content) if answer.headers.get("Content-Encoding") == "gzip" else content
