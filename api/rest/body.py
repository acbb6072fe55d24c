"""Reading a request body: limits first, then the same strict JSON as on the command topic."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import hdrs, web

from api.rest.problem import Problem
from app.streams.wire import Undecodable, parse_json

LIMIT_BYTES = 64 * 1024
WRITE_LIMIT_BYTES = 1024 * 1024
"""Of the body of a write; its rows are at most ``writes.MAX_BYTES`` of it."""
ARRIVAL_S = 10.0
"""How long a body may take to arrive, in seconds."""
_CLOSE = {"Connection": "close"}


async def read_object(request: web.Request, limit: int = LIMIT_BYTES) -> dict[str, Any]:
    """The body as a JSON object of at most ``limit`` bytes. Raises ``Problem``: 415, 413, 408 or 400
    ``malformed_json``."""
    if (
        request.content_type != "application/json"
        or request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity"
    ):
        raise Problem("unsupported_media_type")
    if (request.content_length or 0) > limit:
        raise Problem("body_too_large", headers=_CLOSE)
    try:
        async with asyncio.timeout(ARRIVAL_S):
            raw = await request.read()
    except TimeoutError:
        raise Problem("request_timeout", headers=_CLOSE) from None
    if len(raw) > limit:
        raise Problem("body_too_large", headers=_CLOSE)
    try:
        return parse_json(raw)
    except Undecodable as error:
        raise Problem("malformed_json", error.detail) from None
