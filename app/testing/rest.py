"""Doubles of what REST stands on: the command topic, the view of requests, the connectors, and an issuer of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey

from app.domain.commands import CancelCommand, FetchCommand, WriteCommand, parse
from app.domain.identity import body_hash
from app.domain.lifecycle import TERMINAL
from app.domain.messages import RequestView
from app.domain.model import PRIORITY_CLASS, ConnectorFacts
from app.ports import BrokerUnavailable, PageKey, ViewUnavailable, Wanted
from app.streams.wire import decode_command


@dataclass
class FakeRequestViews:
    """``ports.RequestViews`` over a dict of what is held and one of what is ``stored``. ``away`` makes nobody know;
    ``put`` wakes those who wait."""

    views: dict[str, RequestView] = field(default_factory=dict)
    stored: dict[str, RequestView] = field(default_factory=dict)
    away: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def get(self, request_id: str) -> RequestView | None:
        if self.away:
            raise ViewUnavailable
        return self.views.get(request_id) or self.stored.get(request_id)

    async def wait_for(self, request_id: str, timeout_s: float) -> RequestView | None:
        return await self._wait(lambda: request_id in self.views, request_id, timeout_s)

    async def wait_until_ended(self, request_id: str, timeout_s: float) -> RequestView | None:
        def ended() -> bool:
            view = self.views.get(request_id)
            return view is not None and view.state in TERMINAL

        return await self._wait(ended, request_id, timeout_s)

    async def _wait(self, until: Callable[[], bool], request_id: str, timeout_s: float) -> RequestView | None:
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(until)
            except TimeoutError:
                return None
            return self.views[request_id]

    def held(self, request_id: str) -> RequestView | None:
        return self.views.get(request_id)

    def newest(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        return newest_of(self.views, wanted, before, limit)

    async def page(self, wanted: Wanted, before: PageKey | None, limit: int) -> Sequence[RequestView]:
        if self.away:
            raise ViewUnavailable
        return newest_of(self.stored, wanted, before, limit)

    async def put(self, view: RequestView) -> None:
        """The planner has committed this view."""
        async with self._changed:
            self.views[view.request_id] = view
            self._changed.notify_all()


def newest_of(
    views: Mapping[str, RequestView], wanted: Wanted, before: PageKey | None, limit: int
) -> list[RequestView]:
    """The obvious page: looks at all of them."""
    fitting = [
        view
        for view in views.values()
        if view.org_id == wanted.org_id
        and wanted.status in (None, view.state)
        and wanted.connector_id in (None, view.connector_id)
        and (before is None or (view.accepted_at, view.request_id) < before)
    ]
    return sorted(fitting, key=lambda view: (view.accepted_at, view.request_id), reverse=True)[:limit]


@dataclass
class FakeCommandPublisher:
    """``ports.CommandPublisher`` that keeps records as (connector_id, value, headers). With ``decides`` the planner
    answers each new command at once with that view, filled in from the command; with ``cancels`` it cancels what
    lives as soon as it is told to."""

    views: FakeRequestViews
    decides: RequestView | None = None
    cancels: bool = True
    away: bool = False
    records: list[tuple[str, bytes, Sequence[tuple[str, bytes]]]] = field(default_factory=list)

    async def publish(self, connector_id: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        if self.away:
            raise BrokerUnavailable
        self.records.append((connector_id, value, headers))
        command = parse(decode_command(value))
        if isinstance(command, CancelCommand):
            await self._cancel(command)
            return
        if self.decides is None or isinstance(command, tuple) or command.request_id is None:
            return
        if command.request_id not in self.views.views:
            await self.views.put(answered(self.decides, command))

    async def _cancel(self, command: CancelCommand) -> None:
        view = self.views.views.get(command.request_id)
        if self.cancels and view is not None and view.state not in TERMINAL:
            ended = replace(view, state="cancelled", waiting=None, queue_position=None, estimated_wait_s=None)
            await self.views.put(replace(ended, revision=view.revision + 1))


def answered(pattern: RequestView, command: FetchCommand | WriteCommand) -> RequestView:
    """The view that a planner which decides like ``pattern`` gives this command."""
    if isinstance(command, WriteCommand):
        told = {"target": command.target, "mode": command.mode, "rows": len(command.rows), "sent": False}
        kind: dict[str, Any] = {"report_type": "", "start": 0, "end": 0, "fields": (), "write": told}
    else:
        kind = {"report_type": command.report_type, "start": command.start or 0, "end": command.end or 0}
        kind["fields"] = command.fields
    return replace(
        pattern,
        request_id=command.request_id or "",
        org_id=command.org_id,
        connector_id=command.connector_id,
        priority_class=PRIORITY_CLASS[command.priority],
        body_hash=body_hash(command),
        **kind,
    )


@dataclass
class FakeConnectors:
    """A lookup of connector facts, by id and by organisation."""

    facts: dict[str, ConnectorFacts] = field(default_factory=dict)
    away: bool = False

    def add(self, facts: ConnectorFacts) -> None:
        """Adds or replaces a connector."""
        self.facts[facts.connector_id] = facts

    async def __call__(self, connector_id: str) -> ConnectorFacts | None:
        if self.away:
            raise ViewUnavailable
        return self.facts.get(connector_id)

    async def of(self, org_id: int) -> Sequence[ConnectorFacts]:
        """The organisation's connectors that are not deleted, in order of id."""
        if self.away:
            raise ViewUnavailable
        mine = (facts for facts in self.facts.values() if facts.org_id == org_id and not facts.deleted)
        return sorted(mine, key=lambda facts: facts.connector_id)


@dataclass
class FakeIssuer:
    """Signs tokens like an identity provider; ``jwks`` is what it publishes."""

    issuer: str = "https://issuer.test"
    audience: str = "connector-service"
    kid: str = "k1"
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))

    def jwks(self) -> bytes:
        """Its JWK set, public parts only."""
        return orjson.dumps({"keys": [{**self.key.as_dict(private=False), "kid": self.kid, "use": "sig"}]})

    def token(
        self, org_id: int, scope: str, *, now: int, header: Mapping[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token valid for an hour from ``now`` (ms); claims given as None are left out."""
        usual = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": "someone",
            "org_id": org_id,
            "scope": scope,
            "exp": now // 1000 + 3600,
        }
        wanted = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": self.kid} | dict(header or {}), wanted, self.key)
