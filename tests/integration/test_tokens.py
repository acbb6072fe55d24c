"""Tokens among several workers: each ``source`` here is one worker, sharing nothing but PostgreSQL and Redis.

Who refreshes and when, and who waits; credentials themselves are the matter of ``test_tokens_grants.py``.
"""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from app.domain.errors import ErrorClass
from app.oauth import tokens as tokens_module
from app.oauth.access import NoCache
from app.oauth.tokens import GrantTokenSource
from app.storage.postgres.grants import PostgresGrantStore
from tests.integration.token_lab import Lab, everybody, failing
from tests.integration.token_server import always, issued


async def test_one_refresh_per_expiry_for_all_workers(lab: Lab) -> None:
    facts, sources = await lab.connect(), [lab.source() for _ in range(5)]
    lab.server.delay_s = 0.1
    for expiry in range(1, 6):
        assert len(await everybody(sources, facts, 200)) == 1
        assert len(lab.server.calls) == expiry
        lab.clock.seconds += 3600
    assert lab.server.most_at_once["all"] == 1
    assert lab.outcomes == ["ok"] * 5


async def test_a_refused_token_is_replaced_once_for_all(lab: Lab) -> None:
    facts, sources = await lab.connect(), [lab.source() for _ in range(3)]
    (first,) = await everybody(sources, facts, 1)
    lab.server.delay_s = 0.05
    (second,) = await everybody(sources, facts, 50, rejected=first)
    assert second != first
    assert len(lab.server.calls) == 2
    assert await everybody(sources, facts, 1) == {second}


async def test_a_fresh_token_that_is_refused_too_is_not_replaced_without_end(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    second = await source.access_token(facts.org_id, facts.grant_id, rejected=first)
    for _ in range(5):
        found = await failing(source, facts, rejected=second)
        assert (found.code, found.error_class) == ("token_rejected", ErrorClass.AUTHORISATION)
    assert len(lab.server.calls) == 2
    lab.clock.seconds += 61
    assert await source.access_token(facts.org_id, facts.grant_id, rejected=second) not in (first, second)


async def test_a_failed_refresh_can_be_tried_again_at_once_by_anybody(lab: Lab) -> None:
    facts = await lab.connect()
    lab.server.answers = [always(lambda: web.Response(status=503))]
    found = await failing(lab.source(), facts)
    assert (found.code, found.retryable, found.system) == ("token_endpoint_unavailable", True, True)
    async with asyncio.timeout(1):
        await lab.source().access_token(facts.org_id, facts.grant_id)
    assert lab.outcomes == ["failed", "ok"]


async def test_a_bad_answer_never_replaces_a_token_that_works(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 3545
    lab.server.answers = [always(lambda: issued("bad token"))]
    assert await source.access_token(facts.org_id, facts.grant_id) == first
    assert len(lab.server.calls) == 2
    lab.clock.seconds += 60
    assert await source.access_token(facts.org_id, facts.grant_id) != first


async def test_a_token_is_renewed_before_its_end_and_nobody_waits(lab: Lab) -> None:
    facts, source, other = await lab.connect(), lab.source(), lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 3535
    gate = asyncio.Event()

    async def slow(_form: dict[str, str]) -> web.Response:
        await gate.wait()
        return issued("renewed")

    lab.server.answers = [slow]
    async with asyncio.timeout(1):
        assert await source.access_token(facts.org_id, facts.grant_id) == first
        assert await source.access_token(facts.org_id, facts.grant_id) == first
        assert await other.access_token(facts.org_id, facts.grant_id) == first
        while await lab.server.arrivals.get() < 2:
            continue
        gate.set()
        await asyncio.gather(*source._renewals.values(), return_exceptions=True)
        assert await source.access_token(facts.org_id, facts.grant_id) == "renewed"
    lab.clock.seconds += 5
    assert await other.access_token(facts.org_id, facts.grant_id) in (first, "renewed")
    assert len(lab.server.calls) == 2


async def test_a_worker_that_asks_seldom_renews_ahead_too(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 3535
    assert await source.access_token(facts.org_id, facts.grant_id) == first
    async with asyncio.timeout(2):
        while await lab.server.arrivals.get() < 2:
            continue
    await asyncio.gather(*source._renewals.values())


async def test_without_redis_each_worker_refreshes_for_itself(lab: Lab) -> None:
    facts, sources = await lab.connect(), [lab.source(cache=NoCache()) for _ in range(2)]
    assert len(await everybody(sources, facts, 20)) == 2
    assert len(lab.server.calls) == 2
    lab.clock.seconds += 5
    assert len(await everybody(sources, facts, 20)) == 2
    assert len(lab.server.calls) == 2
    assert lab.server.most_at_once["all"] == 1


async def test_a_redis_that_is_gone_costs_little(lab: Lab) -> None:
    facts = await lab.connect()
    source = lab.source(cache=lab.cache("redis://:canary@127.0.0.1:1/0"))
    async with asyncio.timeout(2):
        await source.access_token(facts.org_id, facts.grant_id)


async def test_without_postgresql_known_tokens_are_used_on(lab: Lab) -> None:
    facts = await lab.connect()
    first = await lab.source().access_token(facts.org_id, facts.grant_id)
    cut_off = lab.source(dsn="postgresql://127.0.0.1:1/x")
    assert await cut_off.access_token(facts.org_id, facts.grant_id) == first
    lab.clock.seconds += 6
    assert await cut_off.access_token(facts.org_id, facts.grant_id) == first
    lab.clock.seconds += 3600
    found = await failing(cut_off, facts)
    assert (found.code, found.retryable, found.retry_after_s) == ("grant_store_unavailable", True, 15.0)


async def test_a_silent_store_does_not_hold_up_a_token_that_is_good(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = await lab.connect()
    source = lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    asked: list[str] = []

    async def silent(_org_id: int, grant_id: str) -> None:
        asked.append(grant_id)
        await asyncio.sleep(5)

    monkeypatch.setattr(source._grants, "read", silent)
    lab.clock.seconds += 6
    async with asyncio.timeout(2):
        assert await source.access_token(facts.org_id, facts.grant_id) == first
    assert asked == [facts.grant_id]


async def test_a_worker_that_died_between_call_and_end_delays_but_does_not_block(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "_CLAIM_SLACK_S", 0.3)
    facts, grants = await lab.connect(), PostgresGrantStore(lab.database())
    row = await grants.read(facts.org_id, facts.grant_id)
    assert row is not None
    assert await grants.claim(facts.org_id, facts.grant_id, row.version, 1.0) is not None
    sources = [lab.source(timeout_s=0.5) for _ in range(2)]
    began = asyncio.get_running_loop().time()
    assert len(await everybody(sources, facts, 10)) == 1
    assert asyncio.get_running_loop().time() - began > 0.5
    assert len(lab.server.calls) == 1


async def test_a_waiter_gives_up_after_the_longest_claim(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, grants = await lab.connect(), PostgresGrantStore(lab.database())
    row = await grants.read(facts.org_id, facts.grant_id)
    assert row is not None
    await grants.claim(facts.org_id, facts.grant_id, row.version, 1.0)
    monkeypatch.setattr(GrantTokenSource, "_patience", lambda self, *, wait: (0.01, 0.01))
    found = await failing(lab.source(), facts)
    assert (found.code, found.retryable) == ("token_wait", True)
    assert lab.server.calls == []


async def test_callers_that_give_up_do_not_stop_the_refresh(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    lab.server.delay_s = 0.2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.access_token(facts.org_id, facts.grant_id)
    await source.access_token(facts.org_id, facts.grant_id)
    assert len(lab.server.calls) == 1


async def test_closing_gives_the_claim_back(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    lab.server.delay_s = 5
    waiting = asyncio.create_task(source.access_token(facts.org_id, facts.grant_id))
    await lab.server.arrivals.get()
    await source.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lab.server.delay_s = 0
    async with asyncio.timeout(1):
        await lab.source().access_token(facts.org_id, facts.grant_id)
