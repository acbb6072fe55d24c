"""A token endpoint for tests: answers as told, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[dict[str, str]], Awaitable[web.Response]]


class TokenServer:
    """``answers`` are used up first; after them every refresh token that is not ``dead`` gets a new access token."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[dict[str, str]] = []
        self.content_types: list[str] = []
        self.arrivals: asyncio.Queue[int] = asyncio.Queue()
        self.answers: list[Answer] = []
        self.dead: set[str] = set()
        self.delay_s = 0.0
        self.expires_in = 3600
        self.at_once = 0
        self.most_at_once: Counter[str] = Counter()
        self.get: Callable[[web.Request], Awaitable[web.Response]] | None = None
        """Answers what is asked with GET."""

    async def queried(self, request: web.Request) -> web.Response:
        assert self.get is not None
        return await self.get(request)

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.calls.append(form)
        self.content_types.append(request.headers.get("Content-Type", ""))
        number = len(self.calls)
        self.arrivals.put_nowait(number)
        self.at_once += 1
        self.most_at_once["all"] = max(self.most_at_once["all"], self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
            if self.answers:
                return await self.answers.pop(0)(form)
            if form.get("refresh_token") in self.dead:
                return refusal("invalid_grant", 400, "Token has been expired or revoked: canary-description")
            return issued(f"canary-access-{number}-{form.get('refresh_token')}", self.expires_in)
        finally:
            self.at_once -= 1


def issued(token: object, expires_in: object = 3600, **more: object) -> web.Response:
    """A good answer."""
    return web.json_response({"access_token": token, "expires_in": expires_in, "token_type": "Bearer", **more})


def refusal(code: object, status: int = 400, text: str = "") -> web.Response:
    """An answer of RFC 6749, section 5.2."""
    return web.json_response({"error": code, "error_description": text}, status=status)


def always(response: Callable[[], web.Response]) -> Answer:
    """An answer that does not look at the form."""

    async def answer(_form: dict[str, str]) -> web.Response:
        return response()

    return answer


@asynccontextmanager
async def token_server() -> AsyncIterator[TokenServer]:
    """A running endpoint on a free port."""
    endpoint = TokenServer()
    app = web.Application()
    app.router.add_post("/token", endpoint.token)
    app.router.add_get("/token", endpoint.queried)
    server = TestServer(app)
    await server.start_server()
    endpoint.url = str(server.make_url("/token"))
    yield endpoint
    await server.close()
