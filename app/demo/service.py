"""The service as its users reach it: REST with a token, and the command topic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

import aiohttp

from app.cli.issuer import DevelopmentIssuer
from app.config import Settings
from app.demo.story import Asked
from app.domain.model import ConnectorFacts
from app.streams import kafka
from app.streams.kafka import Publisher, Record
from app.streams.topics import Names

_SCOPES = ("fetch", "connectors:read")


class Service:
    """``connectors``: account name -> connector. Use as an async context manager."""

    def __init__(self, settings: Settings, issuer: DevelopmentIssuer, connectors: Mapping[str, ConnectorFacts]) -> None:
        self._settings, self._issuer, self._connectors = settings, issuer, connectors
        self._base = f"http://127.0.0.1:{settings.http.port}/api/v1/connectors"
        self._publisher = Publisher(kafka.broker_of(settings))

    async def __aenter__(self) -> Self:
        await self._publisher.start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._publisher.stop()

    async def publish(self, asked: Iterable[Asked]) -> None:
        """Puts commands on ``connector.commands``, as any upstream service does."""
        topic = Names(self._settings.streams.topic_prefix).commands
        records = [one.record(self._connectors[one.account.name].connector_id) for one in asked]
        await self._publisher.send(Record(topic, json.dumps(r).encode(), r["connector_id"].encode()) for r in records)

    async def fetch(self, asked: Asked) -> dict[str, Any]:
        """The same over REST, which makes the request's id itself; the answer."""
        record = asked.record(self._connectors[asked.account.name].connector_id)
        body = {name: value for name, value in record.items() if name not in ("type", "request_id", "org_id")}
        return await self._call("POST", "/fetch", asked.account.org_id, body)

    async def status(self, asked: Asked) -> dict[str, Any]:
        """What is told of a request now."""
        return await self._call("GET", f"/requests/{asked.request_id}", asked.account.org_id)

    async def queue(self, org_id: int) -> dict[str, Any]:
        """What is told of the queue now."""
        return await self._call("GET", "/queue", org_id)

    async def _call(self, method: str, path: str, org_id: int, body: Any = None) -> dict[str, Any]:
        token = self._issuer.token(org_id, _SCOPES, subject="demo", valid_s=600, now_s=int(time.time()))
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, self._base + path, json=body, headers=headers) as answer:
            content: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path} was answered {answer.status}: {content.get('detail') or content}")
            return content
