"""Logins at The Trade Desk: what is sent, what an answer means, and that one token serves many calls."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from app.domain.errors import ErrorClass, ProviderError
from app.oauth.login_endpoint import LoginEndpoint
from app.oauth.token_endpoint import GrantRefused, Issued
from app.sandbox.fixture import running_sandbox
from tests.connectors.support import server
from tests.integration.token_lab import MovedClock

SECRET = json.dumps({"login": "ana@sandbox", "password": "sandbox-ana canary"})
DAY_S = 86_400.0
NOW = "2026-11-18T11:06:40"
"""What ``MovedClock`` begins with, UTC."""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as opened:
        yield opened


async def answered(session: aiohttp.ClientSession, status: int, body: Any, **headers: str) -> Issued:
    """What the endpoint makes of one answer."""

    async def handle(request: web.Request) -> web.Response:
        assert (request.method, request.path) == ("POST", "/v3/authentication")
        sent = {"Login": "ana@sandbox", "Password": "sandbox-ana canary", "TokenExpirationInMinutes": 1440}
        assert await request.json() == sent
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=headers)

    async with server(handle) as base:
        endpoint = LoginEndpoint("ttd", f"{base}/v3/authentication", session=session, clock=MovedClock(), timeout_s=2)
        return await endpoint.refresh(SECRET)


@pytest.mark.parametrize(
    ("told", "lifetime_s"),
    [
        ({"ExpirationDateUtc": "2026-11-18T12:06:40Z"}, 3_600.0),
        ({"ExpirationDate": "2026-11-18T12:06:40"}, 3_600.0),
        ({"ExpirationDateUtc": "2026-11-18T13:06:40+01:00"}, 3_600.0),
        ({"ExpirationDateUtc": "2027-11-18T09:26:40Z"}, DAY_S),
        ({"ExpirationDateUtc": "tomorrow"}, DAY_S),
        ({"ExpirationDateUtc": None}, DAY_S),
        ({}, DAY_S),
    ],
)
async def test_lifetimes(session: aiohttp.ClientSession, told: dict[str, Any], lifetime_s: float) -> None:
    found = await answered(session, 200, {"Token": "canary-token", **told})
    assert (found.access_token, found.lifetime_s, found.refresh_token) == ("canary-token", lifetime_s, None)
    assert "canary" not in repr(found)


async def test_a_wrong_password_ends_the_grant(session: aiohttp.ClientSession) -> None:
    with pytest.raises(GrantRefused):
        await answered(session, 401, {"message": "Unauthorized"})


@pytest.mark.parametrize(
    ("status", "body", "error_class", "code", "retryable", "system"),
    [
        (400, {"Message": "canary"}, ErrorClass.AUTHORISATION, "token_refused", False, False),
        (403, {"Message": "canary"}, ErrorClass.AUTHORISATION, "token_refused", False, False),
        (429, {"Message": "canary"}, ErrorClass.QUOTA, "token_endpoint_throttled", True, False),
        (500, {"Message": "canary"}, ErrorClass.PROVIDER_SYSTEM, "token_endpoint_unavailable", True, True),
        (302, {}, ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (240, b"", ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (200, b"<html>canary", ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (200, [], ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (200, {}, ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (200, {"Token": "can\nary"}, ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (200, b"x" * 70_000, ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False),
        (
            200, {"Token": "canary", "ExpirationDateUtc": NOW + "Z"},
            ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", True, False,
        ),
    ],
)  # fmt: skip
async def test_what_else_may_come(
    session: aiohttp.ClientSession, status: int, body: Any, error_class: ErrorClass, code: str, retryable: bool,
    system: bool,
) -> None:  # fmt: skip
    with pytest.raises(ProviderError) as caught:
        await answered(session, status, body, **({"Retry-After": "7"} if status == 429 else {}))
    failure = caught.value.failure
    assert (failure.error_class, failure.code, failure.retryable, failure.system) == (
        error_class, code, retryable, system,
    )  # fmt: skip
    assert failure.retry_after_s == (7.0 if status == 429 else None)
    assert "canary" not in f"{caught.value!r} {failure!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("secret", ["canary", "[]", "{}", '"canary"', '{"login": "canary"}'])
async def test_a_secret_of_another_form_is_not_sent(session: aiohttp.ClientSession, secret: str) -> None:
    endpoint = LoginEndpoint("ttd", "http://127.0.0.1:1/", session=session, clock=MovedClock())
    with pytest.raises(ProviderError) as caught:
        await endpoint.refresh(secret)
    assert caught.value.failure.code == "credential_unreadable"
    assert "canary" not in f"{caught.value!r} {caught.value.failure!r}"


async def test_nobody_there(session: aiohttp.ClientSession) -> None:
    endpoint = LoginEndpoint("ttd", "http://127.0.0.1:1/", session=session, clock=MovedClock())
    with pytest.raises(ProviderError) as caught:
        await endpoint.refresh(SECRET)
    assert (caught.value.failure.code, caught.value.failure.system) == ("token_endpoint_unavailable", True)


async def test_the_sandbox_takes_its_token(session: aiohttp.ClientSession) -> None:
    async with running_sandbox() as sandbox:
        url = sandbox.env["CONNECTOR__PROVIDERS__TTD__API_URL"]
        endpoint = LoginEndpoint("ttd", f"{url}authentication", session=session, clock=_Wall())
        for _ in range(2):  # the end is told under one name, then under the other
            found = await endpoint.refresh(json.dumps({"login": "ana@sandbox", "password": "sandbox-ana"}))
            assert DAY_S - 5 < found.lifetime_s <= DAY_S
            async with session.post(
                f"{url}partner/query",
                json={"PageStartIndex": 0, "PageSize": 1},
                headers={"TTD-Auth": found.access_token},
            ) as answer:
                assert answer.status == 200
        with pytest.raises(GrantRefused):
            await endpoint.refresh(json.dumps({"login": "ana@sandbox", "password": "sandbox-bob"}))
        assert {call.user for call in sandbox.calls("ttd.partners")} == {"ana"}


class _Wall(MovedClock):
    def now(self) -> int:
        return int(time.time() * 1000)
