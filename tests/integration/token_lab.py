"""Workers that share grants: what the tests of tokens are done with."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from app.config import Settings
from app.domain.errors import Failure, ProviderError
from app.domain.model import ConnectorFacts
from app.oauth.login_endpoint import LoginEndpoint
from app.oauth.meta_endpoint import MetaTokenEndpoint
from app.oauth.token_endpoint import TokenEndpoint
from app.oauth.tokens import GrantTokenSource
from app.oauth.vault import Vault
from app.ports import Kept
from app.services.connectors import add_connector
from app.storage.postgres.connectors import PostgresConnectorStore
from app.storage.postgres.database import Database
from app.storage.postgres.grants import PostgresGrantStore
from app.storage.redis_cache import RedisCache
from tests.integration.token_server import TokenServer

OLD, NEW = ("k1", b"1" * 32), ("k2", b"2" * 32)
SECRET = "1//canary-refresh"


class MovedClock:
    """Wall and monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.start_s = 1_795_000_000.0
        self.seconds = 0.0

    def now(self) -> int:
        return int((self.start_s + self.seconds) * 1000)

    def monotonic(self) -> float:
        return self.seconds


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
    logins: str = "http://127.0.0.1:1/"
    org_id: int = field(default_factory=lambda: uuid.uuid4().int % 2**31)

    def database(self, dsn: str | None = None) -> Database:
        opened = Database(Settings.load({"CONNECTOR__POSTGRES__DSN": dsn or self.dsn}).postgres)
        self.closers.append(opened.close)
        return opened

    def cache(self, url: str | None = None) -> RedisCache:
        opened = RedisCache(url or self.redis_url, self.clock, timeout_s=0.5)
        self.closers.append(opened.close)
        return opened

    def endpoint(self, timeout_s: float = 5.0, kind: type[TokenEndpoint] = TokenEndpoint) -> TokenEndpoint:
        return kind(
            "google" if kind is TokenEndpoint else "meta", self.server.url, "client-id", "canary-client",
            session=self.session, clock=self.clock, timeout_s=timeout_s,
        )  # fmt: skip

    def source(self, *, dsn: str | None = None, cache: Kept | None = None, timeout_s: float = 5.0) -> GrantTokenSource:
        async def on_refused(org_id: int, grant_id: str, _version: int) -> None:
            self.refused.append((org_id, grant_id))

        logins = LoginEndpoint("ttd", self.logins, session=self.session, clock=self.clock, timeout_s=timeout_s)
        meta = self.endpoint(timeout_s, MetaTokenEndpoint)
        endpoints = {"google": self.endpoint(timeout_s), "ttd": logins, "meta": meta}
        made = GrantTokenSource(
            PostgresGrantStore(self.database(dsn)), self.vault, endpoints, self.clock,
            cache=cache or self.cache(), on_refused=on_refused,
            observe=lambda _provider, outcome: self.outcomes.append(outcome),
        )  # fmt: skip
        self.closers.append(made.close)
        return made

    async def connect(
        self, secret: str = SECRET, *, kind: str = "refresh_token", account: str = "a1", connector_type: str = ""
    ) -> ConnectorFacts:
        chosen = connector_type or ("DV360" if kind == "refresh_token" else "TTD")
        return await self.connect_with({kind: secret}, kind=chosen, account=account)

    async def connect_with(
        self, credentials: dict[str, str], *, kind: str = "TTD", account: str = "a1"
    ) -> ConnectorFacts:
        async def publish(facts: ConnectorFacts) -> None:
            self.published.append(facts)

        return await add_connector(
            self.org_id, kind, account, credentials, currency="EUR",
            stores=PostgresConnectorStore(self.database()), vault=self.vault, publish=publish,
        )  # fmt: skip


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
