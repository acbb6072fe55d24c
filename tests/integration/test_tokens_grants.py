"""Credentials behind the tokens: replaced, refused, deleted, encrypted anew and changed by a stranger; nobody sees one.

Each ``source`` here is one worker, sharing nothing but PostgreSQL and Redis with the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

import orjson
import pytest
from aiohttp import web
from redis.asyncio import Redis

from app.domain.errors import ErrorClass, ProviderError
from app.oauth.access import cache_key
from app.oauth.rotation import rotate
from app.oauth.vault import Vault
from app.sandbox.fixture import running_sandbox
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.grants import PostgresGrantStore
from tests.integration.token_lab import NEW, OLD, SECRET, Lab, everybody, failing
from tests.integration.token_server import always, issued, refusal


async def test_a_dead_grant_is_found_dead_once(lab: Lab) -> None:
    facts, other = await lab.connect(), await lab.connect(account="a2")
    sources = [lab.source() for _ in range(3)]
    lab.server.dead, lab.server.delay_s = {SECRET}, 0.05
    found = await asyncio.gather(*[failing(s, facts) for s in sources for _ in range(20)])
    assert {(f.code, f.retryable, f.error_class) for f in found} == {("reauthorise", False, ErrorClass.AUTHORISATION)}
    await failing(lab.source(), other)
    assert len(lab.server.calls) == 1
    assert lab.refused == [(facts.org_id, facts.grant_id)]
    stored = await PostgresConnectorStore(lab.database()).list_for(lab.org_id)
    assert [one.status for one in stored] == ["revoked", "revoked"]


async def test_new_credentials_bring_a_dead_grant_back(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    lab.server.dead = {SECRET}
    await failing(source, facts)
    again = await lab.connect("1//canary-second")
    assert (again.grant_id, again.status) == (facts.grant_id, "connected")
    assert "1//canary-second" in await source.access_token(facts.org_id, facts.grant_id)


async def test_replaced_credentials_are_in_use_within_five_seconds(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    old = await source.access_token(facts.org_id, facts.grant_id)
    await lab.connect("1//canary-second")
    lab.clock.seconds += 5
    new = await source.access_token(facts.org_id, facts.grant_id)
    assert SECRET in old
    assert "1//canary-second" in new


async def test_credentials_replaced_during_the_call_win(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()

    async def replaced_meanwhile(form: dict[str, str]) -> web.Response:
        await lab.connect("1//canary-second")
        return issued(f"canary-old-{form['refresh_token']}")

    lab.server.answers = [replaced_meanwhile]
    assert "1//canary-second" in await source.access_token(facts.org_id, facts.grant_id)
    assert "1//canary-second" in await lab.source().access_token(facts.org_id, facts.grant_id)


async def test_a_refusal_of_replaced_credentials_refuses_nothing(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()

    async def replaced_meanwhile(_form: dict[str, str]) -> web.Response:
        await lab.connect("1//canary-second")
        return refusal("invalid_grant")

    lab.server.answers = [replaced_meanwhile]
    assert "1//canary-second" in await source.access_token(facts.org_id, facts.grant_id)
    assert lab.refused == []


async def test_a_deleted_connectors_token_is_gone_within_five_seconds(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    await source.access_token(facts.org_id, facts.grant_id)
    await PostgresConnectorStore(lab.database()).delete(facts.org_id, facts.connector_id)
    lab.clock.seconds += 5
    assert (await failing(source, facts)).code == "reauthorise"


async def test_another_organisation_gets_nothing(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    await source.access_token(facts.org_id, facts.grant_id)
    with pytest.raises(ProviderError) as caught:
        await source.access_token(facts.org_id + 1, facts.grant_id)
    assert caught.value.failure.code == "grant_unknown"


async def test_a_new_refresh_token_is_stored_encrypted_and_used(lab: Lab) -> None:
    facts, source = await lab.connect(), lab.source()
    lab.server.answers = [always(lambda: issued("canary-a", refresh_token="1//canary-rotated"))]
    await source.access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 3600
    assert "1//canary-rotated" in await source.access_token(facts.org_id, facts.grant_id)
    row = await PostgresGrantStore(lab.database()).read(facts.org_id, facts.grant_id)
    assert row is not None
    assert b"canary" not in row.ciphertext
    assert "canary" not in repr(row)
    assert orjson.loads(lab.vault.open(facts.org_id, facts.grant_id, row.key_id, row.ciphertext)) == {
        "refresh_token": "1//canary-rotated"
    }


async def test_an_api_key_is_sent_as_it_is(lab: Lab) -> None:
    facts, source = await lab.connect("canary-key", kind="api_key"), lab.source()
    assert await source.access_token(facts.org_id, facts.grant_id) == "canary-key"
    found = await failing(source, facts, rejected="canary-key")
    assert (found.code, found.provider_code, found.retryable) == ("reauthorise", "401", False)
    assert lab.refused == [(facts.org_id, facts.grant_id)]
    assert (await failing(source, facts)).code == "reauthorise"
    await lab.connect("canary-new", kind="api_key")
    assert await source.access_token(facts.org_id, facts.grant_id, rejected="canary-key") == "canary-new"
    assert lab.server.calls == []


async def test_a_key_that_is_refused_is_stopped_once(lab: Lab) -> None:
    facts, source = await lab.connect("canary-key", kind="api_key"), lab.source()
    for asked in (source, source, lab.source()):
        assert (await failing(asked, facts, rejected="canary-key")).code == "reauthorise"
    assert lab.refused == [(facts.org_id, facts.grant_id)]
    stopped = await PostgresConnectorStore(lab.database()).find(facts.connector_id)
    assert stopped is not None
    assert stopped.status == "revoked"


async def test_a_refused_key_that_was_replaced_stops_nothing(lab: Lab) -> None:
    facts, source = await lab.connect("canary-key", kind="api_key"), lab.source()
    assert await source.access_token(facts.org_id, facts.grant_id) == "canary-key"
    await lab.connect("canary-new", kind="api_key")
    assert await everybody([source], facts, callers=5, rejected="canary-key") == {"canary-new"}
    assert lab.refused == []


async def test_a_login_is_made_when_there_is_no_token(lab: Lab) -> None:
    """The name and the password lie encrypted; what is sent is the token that they make, shared by all workers."""
    async with running_sandbox() as sandbox:
        lab.logins = f"{sandbox.env['CONNECTOR__PROVIDERS__TTD__API_URL']}authentication"
        lab.clock.start_s = time.time()
        given = {"login": "ana@sandbox", "password": "sandbox-ana"}
        facts, sources = await lab.connect_with(given), [lab.source(), lab.source()]
        (token,) = await everybody(sources, facts, callers=5)
        row = await PostgresGrantStore(lab.database()).read(facts.org_id, facts.grant_id)
        assert row is not None
        assert (row.kind, row.provider) == ("login", "ttd")
        assert b"sandbox-ana" not in row.ciphertext
        assert len(sandbox.calls("ttd.authentication")) == 1
        (again,) = await everybody(sources, facts, callers=5, rejected=token)
        assert again != token
        assert len(sandbox.calls("ttd.authentication")) == 2
        sandbox.faults.add("ttd.authentication", "revoked")
        lab.clock.seconds += 86_400
        assert (await failing(lab.source(), facts)).code == "reauthorise"
        assert lab.refused == [(facts.org_id, facts.grant_id)]


async def test_keys_are_rotated_while_workers_run(lab: Lab) -> None:
    facts, grants = await lab.connect(), PostgresGrantStore(lab.database())
    before = lab.source()
    await before.access_token(facts.org_id, facts.grant_id)
    lab.vault = Vault([NEW, OLD])
    await rotate(grants, lab.vault)
    row = await grants.read(facts.org_id, facts.grant_id)
    assert row is not None
    assert row.key_id == "k2"
    lab.clock.seconds += 3600
    await lab.source().access_token(facts.org_id, facts.grant_id)
    lab.clock.seconds += 3600
    found = await failing(before, facts)
    assert (found.code, found.retryable) == ("vault_unknown_key", False)


async def test_a_row_swapped_or_changed_is_noticed_and_costs_no_call(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    facts, other = await lab.connect(), await lab.connect("1//canary-other", account="a2")
    swap = """UPDATE grants SET ciphertext = (SELECT ciphertext FROM grants WHERE id = $1) WHERE id = $2"""
    ids = [uuid.UUID(one.grant_id.removeprefix("grant_")) for one in (other, facts)]
    await lab.database().run(lambda c: c.execute(swap, *ids))
    with caplog.at_level(logging.DEBUG):
        assert (await failing(lab.source(), facts)).code == "vault_tampered"
    assert facts.grant_id in caplog.text
    assert "canary" not in caplog.text
    assert lab.server.calls == []
    await lab.source().access_token(other.org_id, other.grant_id)


async def test_the_cache_holds_no_plain_token_and_is_never_believed(lab: Lab) -> None:
    facts, other = await lab.connect(), await lab.connect("1//canary-other", account="a2")
    source = lab.source()
    first = await source.access_token(facts.org_id, facts.grant_id)
    await source.access_token(other.org_id, other.grant_id)
    redis = Redis.from_url(lab.redis_url)
    value = await redis.get(cache_key(facts.grant_id))
    assert isinstance(value, bytes)
    assert b"canary" not in value
    remaining = await redis.ttl(cache_key(facts.grant_id))
    assert 3535 <= remaining <= 3540
    swapped = await redis.get(cache_key(other.grant_id))
    assert isinstance(swapped, bytes)
    for poison in (swapped, b"", b"k1:", b"k9:" + value[3:], value[:-1], b"\xff\xfe:x"):
        await redis.set(cache_key(facts.grant_id), poison)
        assert await lab.source().access_token(facts.org_id, facts.grant_id) != first
    await redis.aclose()


async def test_nothing_of_a_secret_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        facts, source = await lab.connect(), lab.source()
        await source.access_token(facts.org_id, facts.grant_id)
        lab.server.answers = [always(lambda: web.Response(text="canary", status=500))]
        lab.clock.seconds += 3600
        await failing(source, facts)
    assert "canary" not in caplog.text
    assert all("canary" not in repr(facts) for facts in lab.published)
