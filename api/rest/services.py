"""What REST needs from the rest of the house, in one value. Tests pass fakes, ``app.bootstrap`` the real ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiohttp import web

from api.rest.auth import TokenVerifier
from api.rest.peers import Peers
from app.domain.messages import Accept, RequestView
from app.domain.model import Catalogue, ConnectorFacts
from app.domain.tracing import traceparent_of
from app.ports import Clock, CommandPublisher, PlannerBoard, PlannerBoards, RequestViews, ViewUnavailable
from app.services.parts import LastHeard
from app.services.status import Check, published_body, status_body
from app.streams.wire import encode_avro, schema_text
from app.telemetry.metrics import Metrics

AWAY = (ViewUnavailable, ConnectionError)
"""What a look-up raises while its source is away; a ``ConnectionError`` is what the stores' own errors are."""

ConnectorLookup = Callable[[str], Awaitable[ConnectorFacts | None]]
"""Facts of a connector by id, None for an unknown one. Raises one of ``AWAY`` while nobody can know."""

OwnConnectors = Callable[[int], Awaitable[Sequence[ConnectorFacts]]]
"""An organisation's connectors that are not deleted, in order of id. Raises one of ``AWAY`` while nobody can know."""


def fetch_command_as_avro(record: Mapping[str, Any]) -> bytes:
    """A plain fetch command record as a value of the command topic."""
    return encode_avro("FetchCommand", record)


def write_command_as_avro(record: Mapping[str, Any]) -> bytes:
    """A plain write command record as a value of the command topic."""
    return encode_avro("WriteCommand", record)


def cancel_command_as_avro(record: Mapping[str, Any]) -> bytes:
    """A plain cancel command record as a value of the command topic."""
    return encode_avro("CancelCommand", record)


FRESH_S = 0.05
"""How long the body of a live request is this moment's; its ``as_of`` stays that of when it was read."""


@dataclass(slots=True)
class _Living:
    """A live request's body: what is committed, and all of it as it was last written."""

    view: RequestView
    committed: dict[str, Any]
    body: bytes = b""
    fresh_until: float = 0.0


class StatusBodies:
    """Written answers of request states. People and programs ask again and again for what has not changed since."""

    def __init__(self, most: int = 10_000, most_living: int = 2_000) -> None:
        self._most, self._most_living = most, most_living
        self._written: OrderedDict[str, tuple[RequestView, bytes]] = OrderedDict()
        self._living: OrderedDict[str, _Living] = OrderedDict()

    def of(self, view: RequestView) -> bytes:
        """The JSON body for this view; written anew when anything in the view is different."""
        found = self._written.get(view.request_id)
        if found is not None and (found[0] is view or found[0] == view):
            return found[1]
        body = orjson.dumps(status_body(view))
        self._written[view.request_id] = (view, body)
        if len(self._written) > self._most:
            self._written.popitem(last=False)
        return body

    def written(self, view: RequestView, now: float) -> bytes | None:
        """The JSON body that was written for this very view, if it is still true. ``now`` as for ``fresh``."""
        found = self._written.get(view.request_id)
        return found[1] if found is not None and found[0] is view else self.fresh(view, now)

    def fresh(self, view: RequestView, now: float) -> bytes | None:
        """The JSON body of a live request, if it was written a moment ago. ``now``: seconds of the monotonic clock."""
        found = self._living.get(view.request_id)
        return found.body if found is not None and found.view is view and now < found.fresh_until else None

    def living(self, view: RequestView, moving: Mapping[str, Any], now: float | None = None) -> bytes:
        """The JSON body of a live request: what is true of it at this moment over what is committed. Without ``now`` it
        is nobody's word of this moment, and is not fresh."""
        found = self._living.get(view.request_id)
        if found is None or (found.view is not view and found.view != view):
            found = self._living[view.request_id] = _Living(view, status_body(view))
            if len(self._living) > self._most_living:
                self._living.popitem(last=False)
        body = orjson.dumps({**found.committed, **moving})
        if now is not None:
            found.view, found.body, found.fresh_until = view, body, now + FRESH_S
        return body


class Published:
    """Requests that this process has published and whose view it has not seen yet; the oldest are forgotten first."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._accepted: OrderedDict[str, Accept] = OrderedDict()

    def note(self, accept: Accept) -> None:
        """The broker has it. The first command with an id counts, as it does on the topic."""
        # Without the rows of a write: ten thousand of those would be ten gigabytes.
        bare = accept if accept.write is None else replace(accept, write=replace(accept.write, rows=""))
        self._accepted.setdefault(accept.request_id, bare)
        if len(self._accepted) > self._most:
            self._accepted.popitem(last=False)

    def forget(self, request_id: str) -> None:
        """The request has a view: that says more."""
        self._accepted.pop(request_id, None)

    def body(self, request_id: str, org_id: int) -> bytes | None:
        """The JSON body of a request that nobody has decided on; None for an unknown id and for another
        organisation's."""
        accept = self.accept(request_id, org_id)
        return None if accept is None else orjson.dumps(published_body(accept))

    def accept(self, request_id: str, org_id: int) -> Accept | None:
        """The command of a request that nobody has decided on; None as for ``body``."""
        accept = self._accepted.get(request_id)
        return None if accept is None or accept.connector.org_id != org_id else accept

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._accepted


class NoBoards:
    """``ports.PlannerBoards`` of a process without a planner that knows no other."""

    def here(self, connector_type: str) -> PlannerBoard | None:  # noqa: ARG002
        return None

    def owner(self, connector_type: str) -> str | None:  # noqa: ARG002
        return None


async def no_connectors(org_id: int) -> Sequence[ConnectorFacts]:  # noqa: ARG001
    """``OwnConnectors`` where there are none."""
    return ()


@dataclass(frozen=True)
class RestServices:
    """``encode`` writes a plain command record as a value of ``connector.commands``; ``schema`` finds an Avro
    schema's text by fingerprint (16 hex digits); ``alive`` is False only when the planner is stuck while the broker
    answers; ``decide_within_s`` is how long a command waits for the planner's decision before it answers 202;
    ``boards`` and ``peers`` are where live answers come from, ``heard`` what they were last."""

    publisher: CommandPublisher
    views: RequestViews
    connector: ConnectorLookup
    readiness: Callable[[], Awaitable[Sequence[Check]]]
    metrics: Metrics
    verifier: TokenVerifier
    clock: Clock
    catalogue: Catalogue
    writers: AbstractSet[str] = frozenset()
    """Connector types that can be written to."""
    connectors_of: OwnConnectors = no_connectors
    boards: PlannerBoards = field(default_factory=NoBoards)
    peers: Peers = field(default_factory=Peers)
    heard: LastHeard = field(default_factory=LastHeard)
    schema: Callable[[str], str | None] = schema_text
    encode: Callable[[Mapping[str, Any]], bytes] = fetch_command_as_avro
    encode_write: Callable[[Mapping[str, Any]], bytes] = write_command_as_avro
    alive: Callable[[], bool] = lambda: True
    version: str = "0.1.0"
    decide_within_s: float = 2.0
    bodies: StatusBodies = field(default_factory=StatusBodies)
    published: Published = field(default_factory=Published)
    deciding: set[str] = field(default_factory=set)
    """Requests with an Idempotency-Key that are on their way through this process right now."""


SERVICES = web.AppKey("services", RestServices)


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is ``body`` as JSON. Its keys may be words of an enumeration, as connector types are."""
    content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=content, status=status, content_type="application/json", headers=headers)


def trace_of(request: web.Request) -> Sequence[tuple[str, bytes]]:
    """The headers of a command record that continue the caller's trace."""
    given = traceparent_of(request.headers.get("traceparent"))
    return [] if given is None else [("traceparent", given.encode("ascii"))]
