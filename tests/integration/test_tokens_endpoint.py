"""What a token endpoint may answer, and what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from app.clock import SystemClock
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.oauth.token_endpoint import GrantRefused, TokenEndpoint
from tests.integration.token_server import TokenServer, always, issued, refusal, token_server

SECRETS = ("canary", "client-secret", "1//refresh")


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with token_server() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


def endpoint(url: str, session: aiohttp.ClientSession, *, timeout_s: float = 5.0) -> TokenEndpoint:
    return TokenEndpoint(
        "google", url, "client-id", "client-secret", session=session, clock=SystemClock(), timeout_s=timeout_s
    )


async def failure(asked: TokenEndpoint) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await asked.refresh("1//refresh")
    shown = f"{caught.value!s} {caught.value!r} {caught.value.failure!r} {caught.value.__cause__!r}"
    assert not any(secret in shown for secret in SECRETS)
    return caught.value.failure


async def test_it_asks_with_a_form_that_holds_the_clients_secret(
    server: TokenServer, session: aiohttp.ClientSession
) -> None:
    found = await endpoint(server.url, session).refresh("1//refresh")
    assert found.access_token == "canary-access-1-1//refresh"
    assert (found.lifetime_s, found.refresh_token) == (3600.0, None)
    assert server.calls == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "1//refresh",
            "client_id": "client-id",
            "client_secret": "client-secret",
        }
    ]
    assert server.content_types[0].startswith("application/x-www-form-urlencoded")
    assert "canary" not in repr(found)


async def test_a_new_refresh_token_is_handed_on_the_old_one_is_not(
    server: TokenServer, session: aiohttp.ClientSession
) -> None:
    server.answers = [
        always(lambda: issued("a", refresh_token="1//new")),
        always(lambda: issued("a", refresh_token="1//refresh")),
    ]
    asked = endpoint(server.url, session)
    assert (await asked.refresh("1//refresh")).refresh_token == "1//new"
    assert (await asked.refresh("1//refresh")).refresh_token is None


@pytest.mark.parametrize(("said", "lifetime_s"), [(None, 300.0), ("3599", 3599.0), (1.5, 1.5)])
async def test_lifetimes(server: TokenServer, session: aiohttp.ClientSession, said: object, lifetime_s: float) -> None:
    server.answers = [always(lambda: issued("a", said))]
    assert (await endpoint(server.url, session).refresh("1//refresh")).lifetime_s == lifetime_s


ODD: dict[str, Callable[[], web.Response]] = {
    "html": lambda: web.Response(text="<html>canary</html>", content_type="text/html"),
    "empty": lambda: web.Response(),
    "list": lambda: web.json_response(["canary"]),
    "null": lambda: web.json_response(None),
    "cut": lambda: web.Response(body=b'{"access_token": "canary', content_type="application/json"),
    "no token": lambda: web.json_response({"expires_in": 3600}),
    "null token": lambda: issued(None),
    "number": lambda: issued(5),
    "empty token": lambda: issued(""),
    "header injection": lambda: issued("canary\r\nX-Evil: 1"),
    "not ascii": lambda: issued("canärý"),
    "too long": lambda: issued("c" * 8193),
    "huge": lambda: issued("a", text="canary" * 20_000),
    "other type": lambda: issued("canary", token_type="mac"),
    "negative": lambda: issued("canary", -1),
    "zero": lambda: issued("canary", 0),
    "for ever": lambda: issued("canary", 10**12),
    "boolean": lambda: issued("canary", expires_in=True),
    "words": lambda: issued("canary", "soon"),
    "broken refresh token": lambda: issued("canary", refresh_token="a b"),
    "success and error": lambda: issued("canary", error="invalid_grant"),
    "redirect": lambda: web.Response(status=302, headers={"Location": "https://canary.example/"}),
}


@pytest.mark.parametrize("name", list(ODD))
async def test_an_odd_answer_is_no_token_and_no_verdict(
    server: TokenServer, session: aiohttp.ClientSession, name: str
) -> None:
    server.answers = [always(ODD[name])]
    found = await failure(endpoint(server.url, session))
    assert (found.error_class, found.code, found.retryable) == (
        ErrorClass.PROVIDER_RESPONSE,
        "token_answer_invalid",
        True,
    )


async def test_a_dead_grant_is_said_to_be_one(server: TokenServer, session: aiohttp.ClientSession) -> None:
    server.answers = [always(lambda: refusal("invalid_grant", 400, "canary"))]
    with pytest.raises(GrantRefused) as caught:
        await endpoint(server.url, session).refresh("1//refresh")
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "shown", "retryable", "error_class"),
    [
        (401, "invalid_client", "client_refused", True, ErrorClass.AUTHORISATION),
        (400, "unauthorized_client", "client_refused", True, ErrorClass.AUTHORISATION),
        (400, "invalid_scope", "token_refused", False, ErrorClass.AUTHORISATION),
        (403, "canary code <x>", "token_refused", False, ErrorClass.AUTHORISATION),
        (403, {"code": 403}, "token_refused", False, ErrorClass.AUTHORISATION),
        (400, "temporarily_unavailable", "token_endpoint_unavailable", True, ErrorClass.PROVIDER_SYSTEM),
        (400, "internal_failure", "token_endpoint_unavailable", True, ErrorClass.PROVIDER_SYSTEM),
        (500, "internal_failure", "token_endpoint_unavailable", True, ErrorClass.PROVIDER_SYSTEM),
        (503, "invalid_grant", "token_endpoint_unavailable", True, ErrorClass.PROVIDER_SYSTEM),
        (429, "rate_limit", "token_endpoint_throttled", True, ErrorClass.QUOTA),
    ],
)
async def test_refusals(
    server: TokenServer, session: aiohttp.ClientSession, status: int, code: object, shown: str, retryable: bool,
    error_class: ErrorClass,
) -> None:  # fmt: skip
    server.answers = [always(lambda: refusal(code, status, "canary"))]
    found = await failure(endpoint(server.url, session))
    assert (found.code, found.retryable, found.error_class) == (shown, retryable, error_class)
    assert found.system is (error_class is ErrorClass.PROVIDER_SYSTEM)


async def test_silence_ends_at_the_deadline(server: TokenServer, session: aiohttp.ClientSession) -> None:
    server.delay_s = 5
    async with asyncio.timeout(2):
        found = await failure(endpoint(server.url, session, timeout_s=0.2))
    assert (found.code, found.retryable, found.system) == ("token_endpoint_unavailable", True, True)


async def test_nobody_there(session: aiohttp.ClientSession) -> None:
    assert (await failure(endpoint("http://127.0.0.1:1/token", session))).code == "token_endpoint_unavailable"


async def test_an_endpoint_in_trouble_is_left_alone(server: TokenServer, session: aiohttp.ClientSession) -> None:
    server.answers = [always(lambda: web.Response(status=502, text="canary"))] * 5
    asked = endpoint(server.url, session)
    for _ in range(5):
        assert (await failure(asked)).system
    found = await failure(asked)
    assert len(server.calls) == 5
    assert not found.system
    assert found.retry_after_s is not None
    assert 29 < found.retry_after_s <= 30


async def test_refusals_do_not_open_the_circuit(server: TokenServer, session: aiohttp.ClientSession) -> None:
    server.answers = [always(lambda: refusal("invalid_grant"))] * 9
    asked = endpoint(server.url, session)
    for _ in range(9):
        with pytest.raises(GrantRefused):
            await asked.refresh("1//refresh")
    assert (await asked.refresh("1//refresh")).access_token
