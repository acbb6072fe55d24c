"""Asking another worker: once, with the caller's own token, for at most a second, and never on behalf of a worker.

Whatever comes of it, it is an answer or none: what the caller gets without one is the asking route's business.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp import hdrs, web

FORWARDED = "Connector-Forwarded"
"""The header of a request that comes from another worker."""
WAIT_S = 1.0
LIMIT_BYTES = 8 * 2**20
_PIECE = 64 * 1024
_CONNECTIONS = 64
"""Per worker: while it is silent, more callers wait here for the same second."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: the JSON object, and its bytes as they came."""

    body: dict[str, Any]
    raw: bytes


def forwarded(request: web.Request) -> bool:
    """Whether another worker asks: then nobody else is asked."""
    return FORWARDED in request.headers


class Peers:
    """The HTTP client for other workers; it opens nothing before it is first needed. Close it with the server."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._timeout = aiohttp.ClientTimeout(total=wait_s)
        self._session: aiohttp.ClientSession | None = None
        self._silent: set[str] = set()

    async def ask(self, request: web.Request, owner: str, path: str, body: bytes | None = None) -> Told | None:
        """What the worker at ``owner`` (a base URL) answers the caller of ``request`` to a GET of ``path`` or, with a
        body, a POST. None for any answer but a JSON object with status 200, and for none."""
        return (await self.reach(request, owner, path, body))[1]

    async def reach(
        self, request: web.Request, owner: str, path: str, body: bytes | None = None
    ) -> tuple[int, Told | None]:
        """The same with the status of the answer, 0 for none."""
        try:
            status, told = await self._ask(request, owner + path, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._note_silence(owner, type(error).__name__)
            return 0, None
        self._silent.discard(owner)
        return status, told

    def _note_silence(self, owner: str, error: str) -> None:
        """Once for each worker that falls silent, not for each caller."""
        if owner not in self._silent:
            self._silent.add(owner)
            log.warning("a worker does not answer", extra={"owner": owner, "error": error})

    async def _ask(self, request: web.Request, url: str, body: bytes | None) -> tuple[int, Told | None]:
        headers = {FORWARDED: "1", hdrs.AUTHORIZATION: request.headers[hdrs.AUTHORIZATION]}
        method = hdrs.METH_GET
        if body is not None:
            method, headers[hdrs.CONTENT_TYPE] = hdrs.METH_POST, "application/json"
        # A redirect would carry the token elsewhere.
        calling = self._opened().request(method, url, data=body, headers=headers, allow_redirects=False)
        async with calling as answer:
            raw = await _whole(answer) if answer.status == 200 else None
        told = None if raw is None else orjson.loads(raw)
        return answer.status, Told(told, raw) if raw is not None and isinstance(told, dict) else None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={hdrs.ACCEPT_ENCODING: "identity"},
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Closes connections that are kept."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _whole(answer: aiohttp.ClientResponse) -> bytes | None:
    pieces = bytearray()
    async for piece in answer.content.iter_chunked(_PIECE):
        pieces += piece
        if len(pieces) > LIMIT_BYTES:
            return None
    return bytes(pieces)
