"""A small client of REST: the address, the token, and every refusal as one failure with the next command to type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.cli.caller import Caller, given_caller, local_caller
from app.cli.environment import chosen_url, load_settings
from app.cli.failures import NOT_READY, USAGE, CommandFailed
from app.cli.output import say
from app.cli.refusals import refusal

if TYPE_CHECKING:
    import aiohttp

BASE = "/api/v1/connectors"
TRIES, PATIENCE_S = 5, 40.0
"""A refusal that names its Retry-After is asked again so often, and for so long in all."""
_BUSY = (409, 429, 503)
_NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers whose service is away."""
_CONNECT_S, _ANSWER_S = 3.0, 30.0
_UNSAFE = "broker_unavailable"
"""Nobody knows whether the command was taken: it is sent again only under an Idempotency-Key."""


class Unreachable(CommandFailed):
    """Nobody answers at the address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``retry_after_s`` None: the answer does not say."""

    status: int
    body: dict[str, Any]
    retry_after_s: float | None


class Service:
    """REST of one service for one caller. Every method raises ``CommandFailed``."""

    def __init__(self, url: str, caller: Caller, session: aiohttp.ClientSession) -> None:
        self.url, self.caller, self._session = url, caller, session

    async def get(self, path: str = "", **query: str) -> dict[str, Any]:
        """The body of ``GET /api/v1/connectors<path>``."""
        return await self._call("GET", path, query)

    async def delete(self, path: str) -> dict[str, Any]:
        """The body of a DELETE."""
        return await self._call("DELETE", path, {})

    async def post(self, path: str, body: Mapping[str, Any], *, key: str | None = None, **query: str) -> dict[str, Any]:
        """The body of a POST of JSON; ``key`` is its Idempotency-Key."""
        return await self._call("POST", path, query, body=body, key=key)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        import asyncio

        left_s = PATIENCE_S
        for tried in range(1, TRIES + 1):
            answer = await self._once(method, path, query, body, key)
            if answer.status < 400:
                return answer.body
            failure = refusal(answer.status, answer.body, path, self.caller)
            wait_s = answer.retry_after_s
            unsafe = answer.body.get("type") == f"/problems/{_UNSAFE}" and method == "POST" and key is None
            if answer.status not in _BUSY or wait_s is None or unsafe or tried == TRIES or wait_s > left_s:
                raise failure
            left_s -= wait_s
            if wait_s > 1:
                say(f"{failure}; asking again in {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, key: str | None
    ) -> Answer:
        import aiohttp

        headers = {"Authorization": f"Bearer {self.caller.token}"} | ({"Idempotency-Key": key} if key else {})
        try:
            async with self._session.request(
                method, self.url + BASE + path, params=query, json=body, headers=headers, allow_redirects=False
            ) as answer:
                return await self._read(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None

    async def _read(self, answer: aiohttp.ClientResponse) -> Answer:
        try:
            body = await answer.json(content_type=None)
        except ValueError:
            body = None
        ours = isinstance(body, dict) and (answer.status < 400 or str(body.get("type")).startswith("/problems/"))
        if not ours and answer.status in _NOBODY_BEHIND:
            text = f"nobody serves behind {self.url} (HTTP {answer.status})"
            raise Unreachable(text, advice="the same again in a moment", code=NOT_READY)
        if not ours:
            text = f"what answers at {self.url} is not this service (HTTP {answer.status})"
            raise CommandFailed(text, advice="set CONNECTOR_URL to where the service listens")
        after = answer.headers.get("Retry-After", "")
        return Answer(answer.status, body, float(after) if after.isascii() and after.isdigit() else None)

    def _unreachable(self, error: Exception) -> Unreachable:
        late = isinstance(error, TimeoutError)
        text = f"the service at {self.url} does not answer" + (" in time" if late else "")
        return Unreachable(text, advice=_where(self.url), code=NOT_READY)


@asynccontextmanager
async def service(org: int | None) -> AsyncIterator[Service]:
    """The service as settings and environment name it. Raises ``CommandFailed``, ``NoToken`` without a token."""
    url, caller = _whom(org)
    import aiohttp

    limits = aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=_CONNECT_S)
    async with aiohttp.ClientSession(timeout=limits) as session:
        yield Service(url, caller, session)


def _whom(org: int | None) -> tuple[str, Caller]:
    """Address and caller; the settings are read only for what the environment does not say already."""
    caller, url = given_caller(org), chosen_url()
    if caller is not None and url:
        return _checked(url), caller
    settings = load_settings()
    http = settings.http
    address = url or http.advertised_url or f"http://127.0.0.1:{http.port}"
    return _checked(address), caller or local_caller(settings, org)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or set(url) & set("@?#"):
        # Not quoted: what stands before an @ may be a password, and what follows a ? a key.
        raise CommandFailed("CONNECTOR_URL must be an address such as http://127.0.0.1:8003", code=USAGE)
    return url.rstrip("/")


def _where(url: str) -> str:
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if chosen_url() or not local:
        return "set CONNECTOR_URL to where the service listens"
    return "connector up"
