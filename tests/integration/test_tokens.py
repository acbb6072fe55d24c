"""Tokens among several workers: each ``source`` here is one worker, sharing nothing but PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
import orjson
import pytest
from aiohttp import web
from redis.asyncio import Redis

from app.config import Settings
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.model import ConnectorFacts
from app.oauth import tokens as tokens_module
from app.oauth.access import NoCache, TokenCache, cache_key
from app.oauth.rotation import rotate
from app.oauth.token_endpoint import TokenEndpoint
from app.oauth.tokens import GrantTokenSource
from app.oauth.vault import Vault
from app.services.connectors import add_connector
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.storage.postgres.grants import PostgresGrantStore
from app.storage.postgres.migrations import migrate
from app.storage.redis_cache import RedisCache
from deploy.local import Stack, databases
from tests.integration.token_server import TokenServer, always, issued, refusal, token_server

OLD, NEW = ("k1", b"1" * 32), ("k2", b"2" * 32)
SECRET = "1//canary-refresh"


class MovedClock:
    """Wall and monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return int((1_795_000_000 + self.seconds) * 1000)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def schema(stack: Stack) -> Iterator[str]:
    """One migrated database for this file; every test makes grants of its own."""
    dsn = databases.create(stack.endpoints.postgres, f"test_{uuid.uuid4().hex[:16]}")
    asyncio.run(migrate(dsn))
    yield dsn
    databases.drop(stack.endpoints.postgres, dsn.rsplit("/", 1)[1])


@dataclass
class Lab:
    """Workers over one token endpoint."""

    server: TokenServer
    dsn: str
    redis_url: str
    session: aiohttp.ClientSession
    clock: MovedClock = field(default_factory=MovedClock)
    vault: Vault = field(default_factory=lambda: Vault([OLD]))
    refused: list[tuple[int, str]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    published: list[ConnectorFacts] = field(default_factory=list)
    closers: list[Callable[[], object]] = field(default_factory=list)
    org_id: int = field(default_factory=lambda: uuid.uuid4().int % 2**31)

    def database(self, dsn: str | None = None) -> Database:
        opened = Database(Settings.load({"CONNECTOR__POSTGRES__DSN": dsn or self.dsn}).postgres)
        self.closers.append(opened.close)
        return opened

    def cache(self, url: str | None = None) -> RedisCache:
        opened = RedisCache(url or self.redis_url, self.clock, timeout_s=0.5)
        self.closers.append(opened.close)
        return opened

    def endpoint(self, timeout_s: float = 5.0) -> TokenEndpoint:
        return TokenEndpoint(
            "google", self.server.url, "client-id", "canary-client", session=self.session, clock=self.clock,
            timeout_s=timeout_s,
        )  # fmt: skip

    def source(
        self, *, dsn: str | None = None, cache: TokenCache | None = None, timeout_s: float = 5.0
    ) -> GrantTokenSource:
        async def on_refused(org_id: int, grant_id: str) -> None:
            self.refused.append((org_id, grant_id))

        made = GrantTokenSource(
            PostgresGrantStore(self.database(dsn)), self.vault, {"google": self.endpoint(timeout_s)}, self.clock,
            cache=cache or self.cache(), on_refused=on_refused, observe=self.outcomes.append,
        )  # fmt: skip
        self.closers.append(made.close)
        return made

    async def connect(
        self, secret: str = SECRET, *, kind: str = "refresh_token", account: str = "a1"
    ) -> ConnectorFacts:
        async def publish(facts: ConnectorFacts) -> None:
            self.published.append(facts)

        return await add_connector(
            self.org_id, "TTD" if kind == "api_key" else "DV360", account, {kind: secret}, currency="EUR",
            stores=PostgresConnectorStore(self.database()), vault=self.vault, publish=publish,
        )  # fmt: skip


@pytest.fixture
async def lab(stack: Stack, schema: str) -> AsyncIterator[Lab]:
    async with token_server() as server, aiohttp.ClientSession(auto_decompress=False) as session:
        made = Lab(server, schema, stack.endpoints.redis, session)
        yield made
        for close in reversed(made.closers):
            await close()  # type: ignore[misc]


async def failing(source: GrantTokenSource, facts: ConnectorFacts, rejected: str | None = None) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await source.access_token(facts.org_id, facts.grant_id, rejected=rejected)
    assert "canary" not in f"{caught.value!s} {caught.value!r} {caught.value.failure!r} {caught.value.__context__!r}"
    return caught.value.failure


async def everybody(
    sources: list[GrantTokenSource], facts: ConnectorFacts, callers: int, rejected: str | None = None
) -> set[str]:
    found = await asyncio.gather(
        *[s.access_token(facts.org_id, facts.grant_id, rejected=rejected) for s in sources for _ in range(callers)]
    )
    return set(found)


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


async def test_an_api_key_is_sent_as_it_is(lab: Lab) -> None:
    facts, source = await lab.connect("canary-key", kind="api_key"), lab.source()
    assert await source.access_token(facts.org_id, facts.grant_id) == "canary-key"
    assert (await failing(source, facts, rejected="canary-key")).code == "reauthorise"
    await lab.connect("canary-new", kind="api_key")
    assert await source.access_token(facts.org_id, facts.grant_id, rejected="canary-key") == "canary-new"
    assert lab.server.calls == []


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
