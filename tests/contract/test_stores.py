"""The stores keep the ports' promises; Redis keeps the cache's; connecting an account keeps its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import ports
from app.clock import SystemClock
from app.domain.model import ConnectorFacts
from app.oauth import tokens
from app.oauth.access import NoCache
from app.oauth.credentials import secret_of
from app.oauth.rotation import SealedGrants
from app.oauth.vault import Vault
from app.services.connectors import BadConnector, ConnectorStores, add_connector
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.storage.postgres.grants import PostgresGrantStore
from app.storage.postgres.requests import PostgresRequestHistory
from app.storage.postgres.usage import PostgresUsage
from app.storage.redis_cache import CacheUnavailable, RedisCache
from deploy.local import Stack


def test_adapters_have_the_shape_of_their_ports() -> None:
    """Checked by mypy: each assignment is an error when a signature drifts."""

    def shapes(database: Database, source: tokens.GrantTokenSource, redis: RedisCache) -> Sequence[object]:
        clock: ports.Clock = SystemClock()
        connectors: ports.ConnectorStore = PostgresConnectorStore(database)
        stores: ConnectorStores = PostgresConnectorStore(database)
        history: ports.RequestHistory = PostgresRequestHistory(database)
        usage: ports.UsageLog = PostgresUsage(database)
        grants: tokens.Grants = PostgresGrantStore(database)
        sealed: SealedGrants = PostgresGrantStore(database)
        token_source: ports.TokenSource = source
        caches: tuple[ports.Kept, ...] = (redis, NoCache())
        return clock, connectors, stores, history, usage, grants, sealed, token_source, caches

    assert callable(shapes)


def test_the_clock_tells_milliseconds_and_monotonic_seconds() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time() * 1000) < 1000
    first = clock.monotonic()
    assert clock.monotonic() >= first


@asynccontextmanager
async def opened(url: str, timeout_s: float = 1.0) -> AsyncIterator[RedisCache]:
    cache = RedisCache(url, SystemClock(), timeout_s=timeout_s)
    yield cache
    await cache.close()


async def test_redis_keeps_bytes_for_their_time(stack: Stack) -> None:
    async with opened(stack.endpoints.redis) as cache:
        assert await cache.get("stores:a") is None
        assert await cache.put("stores:a", b"\x00\xff", 60)
        assert await cache.get("stores:a") == b"\x00\xff"
        assert await cache.drop("stores:a")
        assert await cache.get("stores:a") is None
        assert await cache.put("stores:b", b"x", 0.05)
        await asyncio.sleep(0.1)
        assert await cache.get("stores:b") is None
        assert not await cache.put("stores:c", b"x", 0)
        assert await cache.get("stores:c") is None
        await cache.check()


@asynccontextmanager
async def pretending(answer: bytes | None) -> AsyncIterator[str]:
    """A server that gives one answer to everything, or none."""

    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        mine = ended[-1]
        while await reader.read(4096):
            if answer is not None:
                writer.write(answer)
        writer.close()
        await writer.wait_closed()
        mine.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://:canary@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    async with asyncio.timeout(5):
        await asyncio.gather(*[one.wait() for one in ended])
    await server.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [None, b"-OOM command not allowed\r\n", b"-READONLY replica\r\n", b"-LOADING\r\n", b"garbage\r\n", b"$-5\r\n"],
)
async def test_a_redis_in_trouble_is_no_cache_and_costs_little(answer: bytes | None) -> None:
    async with pretending(answer) as url, opened(url, timeout_s=0.2) as cache:
        began = time.monotonic()
        assert await cache.get("a") is None
        for _ in range(50):
            assert await cache.get("a") is None
            assert not await cache.put("a", b"b", 60)
            assert not await cache.drop("a")
        assert time.monotonic() - began < 1.0
        with pytest.raises(CacheUnavailable) as caught:
            await cache.check()
        assert "canary" not in f"{caught.value!s}{caught.value.__cause__!r}"


async def test_redis_is_found_again_when_it_is_back() -> None:
    class Hurried(SystemClock):
        moved = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.moved

    clock = Hurried()
    async with pretending(None) as url:
        cache = RedisCache(url, clock, timeout_s=0.1)
        assert await cache.get("a") is None
        assert not cache._redis.connection_pool._in_use_connections
        clock.moved = 1.1
        began = time.monotonic()
        assert await cache.get("a") is None
        assert time.monotonic() - began > 0.09
        await cache.close()


class Stored:
    """A connector store that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.sealed: tuple[str, bytes] = ("", b"")

    async def add(self, *, seal: Callable[[str], tuple[str, bytes]], **given: Any) -> list[ConnectorFacts]:
        self.given.append(given)
        self.sealed = seal("grant_x")
        facts = ConnectorFacts("conn_x", given["org_id"], given["connector_type"], given["account_id"], "grant_x", "s")
        return [facts, ConnectorFacts("conn_y", given["org_id"], "SHEETS", "b", "grant_x", "s")]


async def connect(stored: Stored, credentials: object, **changes: Any) -> tuple[ConnectorFacts, list[ConnectorFacts]]:
    published: list[ConnectorFacts] = []

    async def publish(facts: ConnectorFacts) -> None:
        published.append(facts)

    given = {"org_id": 7, "connector_type": "DV360", "account_id": "123", **changes}
    vault = Vault([("k1", b"1" * 32)])
    facts = await add_connector(
        given.pop("org_id"), given.pop("connector_type"), given.pop("account_id"), credentials,
        stores=stored, vault=vault, publish=publish, **given,
    )  # fmt: skip
    return facts, published


async def test_an_account_is_connected_and_published() -> None:
    stored = Stored()
    facts, published = await connect(
        stored, {"refresh_token": "1//canary", "subject": "ann", "scopes": ["a"]}, currency="EUR"
    )
    assert [one.connector_id for one in published] == ["conn_x", "conn_y"]
    assert facts is published[0]
    (given,) = stored.given
    assert (given["provider"], given["kind"], given["subject"], given["scopes"]) == (
        "google",
        "refresh_token",
        "ann",
        ("a",),
    )
    assert b"canary" not in stored.sealed[1]
    vault = Vault([("k1", b"1" * 32)])
    assert vault.open(7, "grant_x", *stored.sealed) == b'{"refresh_token":"1//canary"}'


async def test_one_secret_has_one_fingerprint() -> None:
    stored = Stored()
    for secret in ("1//a", "1//a", "1//b"):
        await connect(stored, {"refresh_token": secret})
    first, second, third = (given["fingerprint"] for given in stored.given)
    assert first == second != third
    assert "1//a" not in first


@pytest.mark.parametrize(("connector_type", "provider"), [("TTD", "ttd"), ("CSV_HTTPS", "csv_https")])
async def test_these_accounts_take_a_key(connector_type: str, provider: str) -> None:
    stored = Stored()
    await connect(stored, {"api_key": "canary"}, connector_type=connector_type)
    assert (stored.given[0]["provider"], stored.given[0]["kind"]) == (provider, "api_key")


@pytest.mark.parametrize("kind", ["refresh_token", "api_key"])
async def test_a_meta_account_takes_a_users_token_or_a_systems_and_is_kept_by_its_digits(kind: str) -> None:
    stored = Stored()
    for account in ("4567", "act_4567"):
        await connect(stored, {kind: "EAAcanary"}, connector_type="META", account_id=account)
    assert {(given["provider"], given["kind"], given["account_id"]) for given in stored.given} == {
        ("meta", kind, "4567")
    }


async def test_a_spreadsheet_is_kept_by_its_id_however_it_is_named() -> None:
    stored = Stored()
    address = "https://docs.google.com/spreadsheets"
    for account in (
        "1a_B-c",
        f"{address}/d/1a_B-c",
        f"{address}/d/1a_B-c/edit#gid=0",
        f"{address}/u/1/d/1a_B-c/edit?x=1",
    ):
        await connect(stored, {"refresh_token": "1//canary"}, connector_type="SHEETS", account_id=account)
    assert [(given["provider"], given["account_id"]) for given in stored.given] == [("google", "1a_B-c")] * 4


@pytest.mark.parametrize(
    "text",
    ["", "1a/b", "1a b", "1a\n", "https://docs.google.com/document/d/1a/edit", "https://x.example/spreadsheets/d/1a",
     "http://docs.google.com/spreadsheets/d/1a", "https://docs.google.com/spreadsheets/d/", "1" * 129],
)  # fmt: skip
async def test_other_texts_name_no_spreadsheet(text: str) -> None:
    found = await refused({"refresh_token": "1//x"}, connector_type="SHEETS", account_id=text)
    assert found == {("invalid_account_id", "/account_id")}


@pytest.mark.parametrize("text", ["", "act_", "act_45x", "ACT_4567", "act_act_4567", "4567\n", "shop", "1" * 33])
async def test_other_texts_name_no_meta_account(text: str) -> None:
    found = await refused({"refresh_token": "EAA"}, connector_type="META", account_id=text)
    assert found == {("invalid_account_id", "/account_id")}


@pytest.mark.parametrize(
    ("credentials", "fault"),
    [
        ({}, ("invalid_credentials", "/credentials/refresh_token")),
        ({"api_key": "can ary"}, ("invalid_credentials", "/credentials/api_key")),
        ({"api_key": "EAA", "refresh_token": "EAA"}, ("unknown_field", "/credentials")),
    ],
)
async def test_meta_credentials_of_another_form_are_refused(credentials: object, fault: tuple[str, str]) -> None:
    assert await refused(credentials, connector_type="META", account_id="4567") == {fault}


async def test_a_trade_desk_account_takes_a_login() -> None:
    stored = Stored()
    login = {"login": "ann@example.com", "password": "canary with \u00fc", "subject": "ann"}
    await connect(stored, login, connector_type="TTD", account_id="adv1")
    assert (stored.given[0]["provider"], stored.given[0]["kind"], stored.given[0]["subject"]) == ("ttd", "login", "ann")
    assert b"canary" not in stored.sealed[1]
    assert "canary" not in repr(stored.given)
    opened = secret_of("login", Vault([("k1", b"1" * 32)]).open(7, "grant_x", *stored.sealed))
    assert json.loads(opened) == {"login": "ann@example.com", "password": "canary with \u00fc"}


@pytest.mark.parametrize(
    ("credentials", "faults"),
    [
        ({}, {("invalid_credentials", "/credentials/api_key")}),
        ({"api_key": "can ary"}, {("invalid_credentials", "/credentials/api_key")}),
        ({"login": "canary"}, {("invalid_credentials", "/credentials/password")}),
        ({"password": "canary"}, {("invalid_credentials", "/credentials/login")}),
        ({"login": "a", "password": "canary\n"}, {("invalid_credentials", "/credentials/password")}),
        (
            {"login": "", "password": 1},
            {("invalid_credentials", f"/credentials/{one}") for one in ("login", "password")},
        ),
        ({"api_key": "canary", "login": "a", "password": "b"}, {("unknown_field", "/credentials")}),
        (
            {"refresh_token": "canary"},
            {("invalid_credentials", "/credentials/api_key"), ("unknown_field", "/credentials")},
        ),
    ],
)
async def test_trade_desk_credentials_of_another_form_are_refused(
    credentials: object, faults: set[tuple[str, str]]
) -> None:
    assert await refused(credentials, connector_type="TTD") == faults


async def test_only_the_trade_desk_takes_a_login() -> None:
    assert await refused({"login": "a", "password": "canary"}) == {
        ("invalid_credentials", "/credentials/refresh_token"),
        ("unknown_field", "/credentials"),
    }


async def refused(credentials: object, **changes: Any) -> set[tuple[str, str]]:
    stored = Stored()
    with pytest.raises(BadConnector) as caught:
        await connect(stored, credentials, **changes)
    assert stored.given == []
    assert "canary" not in f"{caught.value!s} {caught.value.faults!r}"
    return {(fault.code, fault.pointer) for fault in caught.value.faults}


async def test_every_fault_is_told_at_once() -> None:
    found = await refused(
        {"refresh_token": "can ary", "canary_key": 1, "subject": "", "scopes": "all"},
        org_id=0, account_id=" x", time_zone="Mars/Base", currency="euro",
    )  # fmt: skip
    assert found == {
        ("invalid_org_id", "/org_id"),
        ("invalid_account_id", "/account_id"),
        ("unknown_time_zone", "/time_zone"),
        ("invalid_currency", "/currency"),
        ("invalid_credentials", "/credentials/refresh_token"),
        ("unknown_field", "/credentials"),
        ("invalid_subject", "/credentials/subject"),
        ("invalid_scopes", "/credentials/scopes"),
    }


@pytest.mark.parametrize(
    ("credentials", "fault"),
    [
        (None, ("invalid_credentials", "/credentials")),
        (["canary"], ("invalid_credentials", "/credentials")),
        ({}, ("invalid_credentials", "/credentials/refresh_token")),
        ({"refresh_token": "canary\n"}, ("invalid_credentials", "/credentials/refresh_token")),
        ({"refresh_token": None}, ("invalid_credentials", "/credentials/refresh_token")),
        ({"refresh_token": "1//a", "canary": 1}, ("unknown_field", "/credentials")),
    ],
)
async def test_credentials_of_another_form_are_refused(credentials: object, fault: tuple[str, str]) -> None:
    assert await refused(credentials) == {fault}


async def test_an_unknown_type_is_refused() -> None:
    assert await refused({"refresh_token": "1//a"}, connector_type="BING") == {
        ("unsupported_connector_type", "/connector_type")
    }


async def test_a_google_ads_account_is_kept_by_its_ten_digits() -> None:
    stored = Stored()
    for account, manager in (("1234567890", None), ("123-456-7890", "987-654-3210"), ("1234567890", "9876543210")):
        await connect(
            stored, {"refresh_token": "1//a"}, connector_type="GOOGLE_ADS", account_id=account, manager_id=manager
        )
    assert {given["account_id"] for given in stored.given} == {"1234567890"}
    assert [given["manager_id"] for given in stored.given] == [None, "9876543210", "9876543210"]


@pytest.mark.parametrize(
    "text", ["", "123456789", "12345678901", "12-3456-7890", "١٢٣٤٥٦٧٨٩٠", "1234567890\n", "agency"]
)
async def test_other_texts_name_no_google_ads_account(text: str) -> None:
    found = await refused({"refresh_token": "1//a"}, connector_type="GOOGLE_ADS", account_id=text, manager_id=text)
    assert found == {("invalid_account_id", "/account_id"), ("invalid_manager_id", "/manager_id")}


async def test_only_google_ads_has_managers() -> None:
    assert await refused({"refresh_token": "1//a"}, manager_id="9876543210") == {
        ("unexpected_manager_id", "/manager_id")
    }


@pytest.mark.parametrize("zone", ["", "../etc/passwd", "/etc/passwd", "Europe", "x" * 999, "a\0b"])
async def test_no_text_is_taken_for_a_time_zone(zone: str) -> None:
    assert await refused({"refresh_token": "1//a"}, time_zone=zone) == {("unknown_time_zone", "/time_zone")}
