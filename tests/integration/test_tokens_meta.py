"""Meta's tokens: what its endpoint may answer, and how a long-lived one is followed by the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from app.clock import SystemClock
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.model import ConnectorFacts
from app.oauth.meta_endpoint import MetaTokenEndpoint
from app.oauth.token_endpoint import GrantRefused
from app.oauth.tokens import GrantTokenSource
from app.sandbox.fixture import running_sandbox
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.grants import PostgresGrantStore
from tests.connectors.meta import refused
from tests.connectors.support import server
from tests.integration.token_lab import Lab, failing
from tests.integration.token_server import Answer

DAY_S = 86_400
SIXTY_DAYS_S = 60 * DAY_S
GIVEN = "EAAcanary-given"


def saying(status: int, body: Any, **headers: str) -> Answer:
    async def answer(_form: dict[str, str]) -> web.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=status, body=content, headers=headers)

    return answer


@asynccontextmanager
async def asked(reply: Answer, seen: list[web.Request] | None = None) -> AsyncIterator[MetaTokenEndpoint]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if seen is not None:
            seen.append(request)
        return await reply({})

    async with server(handle) as base, aiohttp.ClientSession(auto_decompress=False) as session:
        yield MetaTokenEndpoint(
            "meta", f"{base}/oauth/access_token", "client-id", "canary-secret", session=session, clock=SystemClock()
        )


async def test_the_token_is_exchanged_and_is_the_next_credential() -> None:
    seen: list[web.Request] = []
    answer = {"access_token": "EAAnew", "token_type": "bearer", "expires_in": 5_183_944}
    async with asked(saying(200, answer), seen) as endpoint:
        found = await endpoint.refresh(GIVEN)
    assert (found.access_token, found.lifetime_s, found.refresh_token) == ("EAAnew", 5_183_944.0, "EAAnew")
    (request,) = seen
    assert request.method == "GET"
    assert dict(request.query) == {
        "grant_type": "fb_exchange_token", "client_id": "client-id", "client_secret": "canary-secret",
        "fb_exchange_token": GIVEN,
    }  # fmt: skip
    assert "Authorization" not in request.headers


async def test_an_answer_without_a_lifetime_is_good_for_a_day() -> None:
    async with asked(saying(200, {"access_token": GIVEN})) as endpoint:
        found = await endpoint.refresh(GIVEN)
    assert (found.lifetime_s, found.refresh_token) == (DAY_S, None)


@pytest.mark.parametrize("subcode", [None, 458, 460, 463, 467])
@pytest.mark.parametrize(("status", "code"), [(400, 190), (400, 102), (401, 190), (200, 190)])
async def test_a_dead_token_ends_the_grant(status: int, code: int, subcode: int | None) -> None:
    async with asked(saying(status, refused(code, subcode))) as endpoint:
        with pytest.raises(GrantRefused):
            await endpoint.refresh(GIVEN)


async def failure(reply: Answer) -> Failure:
    async with asked(reply) as endpoint:
        with pytest.raises(ProviderError) as caught:
            await endpoint.refresh(GIVEN)
    assert "canary" not in f"{caught.value!r} {caught.value.failure!r} {caught.value.__cause__!r}"
    return caught.value.failure


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "system"),
    [
        (saying(500, refused(2)), "token_endpoint_unavailable", True, True),
        (saying(400, refused(2)), "token_endpoint_unavailable", True, True),
        (saying(400, refused(7, is_transient=True)), "token_endpoint_unavailable", True, True),
        (saying(503, b"<html>canary"), "token_endpoint_unavailable", True, True),
        (saying(400, refused(4)), "token_endpoint_throttled", True, False),
        (saying(400, refused(17)), "token_endpoint_throttled", True, False),
        (saying(429, b""), "token_endpoint_throttled", True, False),
        (saying(400, refused(101, message="canary")), "token_refused", False, False),
        (saying(400, refused(-3)), "token_refused", False, False),
        (saying(400, {"error": "canary"}), "token_refused", False, False),
        (saying(400, {}), "token_answer_invalid", True, False),
        (saying(302, {}), "token_answer_invalid", True, False),
        (saying(200, b"<html>canary"), "token_answer_invalid", True, False),
        (saying(200, b"[]"), "token_answer_invalid", True, False),
        (saying(200, {}), "token_answer_invalid", True, False),
        (saying(200, {"access_token": "a b", "expires_in": 5}), "token_answer_invalid", True, False),
        (saying(200, {"access_token": "EAA", "expires_in": 0}), "token_answer_invalid", True, False),
        (saying(200, {"access_token": "EAA", "token_type": "mac"}), "token_answer_invalid", True, False),
        (saying(200, b'{"access_token": "' + b"x" * 70_000), "token_answer_invalid", True, False),
    ],
)
async def test_answers_that_bring_no_token(reply: Answer, code: str, retryable: bool, system: bool) -> None:
    found = await failure(reply)
    assert (found.code, found.retryable, found.system) == (code, retryable, system)


async def test_nobody_there_tells_nothing_of_the_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def gone(_form: dict[str, str]) -> web.Response:
        raise ConnectionResetError

    found = await failure(gone)
    assert (found.code, found.error_class) == ("token_endpoint_unavailable", ErrorClass.PROVIDER_SYSTEM)
    async with aiohttp.ClientSession() as session:
        nowhere = MetaTokenEndpoint(
            "meta", "http://127.0.0.1:1/token", "id", "canary-secret", session=session, clock=SystemClock()
        )
        with pytest.raises(ProviderError) as caught:
            await nowhere.refresh(GIVEN)
    assert "canary" not in f"{caught.value!r}{caught.value.failure!r}{caught.value.__cause__!r}"
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp.")]
    assert "canary" not in "".join(ours), "the server's own log aside"


async def connected(lab: Lab, secret: str = GIVEN, kind: str = "refresh_token") -> ConnectorFacts:
    return await lab.connect(secret, kind=kind, account="act_4567", connector_type="META")


def exchanging(lab: Lab, lifetime_s: int = SIXTY_DAYS_S) -> Callable[[], list[str]]:
    """Makes the lab's server Meta: every living token is exchanged for the next. Gives the tokens it was asked with."""
    tokens: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.query["fb_exchange_token"])
        await asyncio.sleep(lab.server.delay_s)
        if tokens[-1] in lab.server.dead:
            return web.json_response(refused(190, 463), status=400)
        return web.json_response({"access_token": f"EAAcanary-{len(tokens)}", "expires_in": lifetime_s})

    lab.server.get = answer
    return lambda: list(tokens)


async def secret_of(lab: Lab, facts: ConnectorFacts) -> Any:
    row = await PostgresGrantStore(lab.database()).read(facts.org_id, facts.grant_id)
    assert row is not None
    assert b"canary" not in row.ciphertext
    return orjson.loads(lab.vault.open(facts.org_id, facts.grant_id, row.key_id, row.ciphertext))


async def test_one_exchange_serves_all_workers_until_half_of_its_life(lab: Lab) -> None:
    facts, asked_with = await connected(lab), exchanging(lab)
    assert facts.account_id == "4567"
    lab.server.delay_s = 0.05
    sources = [lab.source() for _ in range(3)]
    found = await asyncio.gather(*[s.access_token(facts.org_id, facts.grant_id) for s in sources for _ in range(10)])
    assert (set(found), asked_with()) == ({"EAAcanary-1"}, [GIVEN])
    assert await secret_of(lab, facts) == {"refresh_token": "EAAcanary-1"}
    lab.clock.seconds += SIXTY_DAYS_S / 2 - DAY_S
    assert await sources[0].access_token(facts.org_id, facts.grant_id) == "EAAcanary-1"
    await renewed(sources[0])
    assert asked_with() == [GIVEN]


async def renewed(source: GrantTokenSource) -> None:
    """Waits for what is renewed in the background, however it ends."""
    await asyncio.gather(*vars(source)["_renewals"].values(), return_exceptions=True)


async def test_it_is_followed_by_the_next_long_before_its_end(lab: Lab) -> None:
    facts, asked_with, source = await connected(lab), exchanging(lab), lab.source()
    await source.access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 46 * DAY_S
    assert await source.access_token(facts.org_id, facts.grant_id) == "EAAcanary-1", "nobody waits for it"
    await renewed(source)
    assert await source.access_token(facts.org_id, facts.grant_id) == "EAAcanary-2"
    assert asked_with() == [GIVEN, "EAAcanary-1"]
    assert await secret_of(lab, facts) == {"refresh_token": "EAAcanary-2"}


async def test_an_exchange_that_fails_is_tried_again_a_day_later(lab: Lab) -> None:
    facts, asked_with, source = await connected(lab), exchanging(lab), lab.source()
    await source.access_token(facts.org_id, facts.grant_id)
    good, tries = lab.server.get, []

    async def away(request: web.Request) -> web.Response:
        tries.append(request)
        return web.Response(status=503)

    lab.server.get = away
    lab.clock.seconds += 46 * DAY_S
    for _ in range(3):
        assert await source.access_token(facts.org_id, facts.grant_id) == "EAAcanary-1"
        await renewed(source)
        lab.clock.seconds += 3_600
    assert len(tries) == 1
    lab.server.get = good
    lab.clock.seconds += DAY_S
    await source.access_token(facts.org_id, facts.grant_id)
    await renewed(source)
    assert len(asked_with()) == 2


async def test_a_token_that_nobody_used_for_too_long_ends_the_authorisation(lab: Lab) -> None:
    facts, source = await connected(lab), lab.source()
    exchanging(lab)
    await source.access_token(facts.org_id, facts.grant_id)
    lab.server.dead = {"EAAcanary-1"}
    lab.clock.seconds += SIXTY_DAYS_S
    found = await failing(source, facts)
    assert (found.code, found.retryable, found.error_class) == ("reauthorise", False, ErrorClass.AUTHORISATION)
    assert lab.refused == [(facts.org_id, facts.grant_id)]
    (stored,) = await PostgresConnectorStore(lab.database()).list_for(lab.org_id)
    assert stored.status == "revoked"


async def test_a_refused_token_is_exchanged_once_and_what_cannot_be_is_at_its_end(lab: Lab) -> None:
    facts, asked_with, source = await connected(lab), exchanging(lab), lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    lab.server.dead = {first}
    assert (await failing(source, facts, rejected=first)).code == "reauthorise"
    assert asked_with() == [GIVEN, first]
    assert (await failing(source, facts, rejected=first)).code == "reauthorise"
    assert len(asked_with()) == 2, "the end is known"


async def test_a_system_users_token_is_sent_as_it_is_and_refused_for_good(lab: Lab) -> None:
    facts, asked_with, source = await connected(lab, "EAAcanary-system", "api_key"), exchanging(lab), lab.source()
    assert await source.access_token(facts.org_id, facts.grant_id) == "EAAcanary-system"
    assert (await failing(source, facts, rejected="EAAcanary-system")).code == "reauthorise"
    assert lab.refused == [(facts.org_id, facts.grant_id)]
    assert asked_with() == []


async def test_the_sandbox_is_understood() -> None:
    async with running_sandbox() as sandbox, aiohttp.ClientSession(auto_decompress=False) as session:
        env = {key.removeprefix("CONNECTOR__PROVIDERS__META__"): value for key, value in sandbox.env.items()}
        endpoint = MetaTokenEndpoint(
            "meta", env["TOKEN_URL"], env["CLIENT_ID"], env["CLIENT_SECRET"], session=session, clock=SystemClock()
        )
        first = await endpoint.refresh(sandbox.meta_token("ana"))
        second = await endpoint.refresh(first.access_token)
        assert first.access_token != second.access_token == second.refresh_token
        assert second.lifetime_s == 5_183_944
        sandbox.faults.add("oauth.meta_token", "revoked", times=1)
        for _ in range(2):
            with pytest.raises(GrantRefused):
                await endpoint.refresh(second.access_token)
