"""What REST needs from the rest of the house, in one value. Tests pass fakes, ``app.bootstrap`` the real ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from api.rest.auth import TokenVerifier
from app.domain.messages import Accept, RequestView
from app.domain.model import Catalogue, ConnectorFacts
from app.ports import Clock, CommandPublisher, RequestViews, ViewUnavailable
from app.services.status import Check, published_body, status_body
from app.streams.wire import encode_avro, schema_text
from app.telemetry.metrics import Metrics

AWAY = (ViewUnavailable, ConnectionError)
"""What a look-up raises while its source is away; a ``ConnectionError`` is what the stores' own errors are."""

ConnectorLookup = Callable[[str], Awaitable[ConnectorFacts | None]]
"""Facts of a connector by id, None for an unknown one. Raises one of ``AWAY`` while nobody can know."""


def fetch_command_as_avro(record: Mapping[str, Any]) -> bytes:
    """A plain fetch command record as a value of the command topic."""
    return encode_avro("FetchCommand", record)


class StatusBodies:
    """Written answers of request states. People and programs ask again and again for what has not changed since."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._written: OrderedDict[str, tuple[RequestView, bytes]] = OrderedDict()

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


class Published:
    """Requests that this process has published and whose view it has not seen yet; the oldest are forgotten first."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._accepted: OrderedDict[str, Accept] = OrderedDict()

    def note(self, accept: Accept) -> None:
        """The broker has it. The first command with an id counts, as it does on the topic."""
        self._accepted.setdefault(accept.request_id, accept)
        if len(self._accepted) > self._most:
            self._accepted.popitem(last=False)

    def forget(self, request_id: str) -> None:
        """The request has a view: that says more."""
        self._accepted.pop(request_id, None)

    def body(self, request_id: str, org_id: int) -> bytes | None:
        """The JSON body of a request that nobody has decided on; None for an unknown id and for another
        organisation's."""
        accept = self._accepted.get(request_id)
        if accept is None or accept.connector.org_id != org_id:
            return None
        return orjson.dumps(published_body(accept))

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._accepted


@dataclass(frozen=True)
class RestServices:
    """``encode`` writes a plain command record as a value of ``connector.commands``; ``schema`` finds an Avro
    schema's text by fingerprint (16 hex digits); ``alive`` is False only when the planner is stuck while the broker
    answers; ``decide_within_s`` is how long a fetch command waits for the planner's decision before it answers 202."""

    publisher: CommandPublisher
    views: RequestViews
    connector: ConnectorLookup
    readiness: Callable[[], Awaitable[Sequence[Check]]]
    metrics: Metrics
    verifier: TokenVerifier
    clock: Clock
    catalogue: Catalogue
    schema: Callable[[str], str | None] = schema_text
    encode: Callable[[Mapping[str, Any]], bytes] = fetch_command_as_avro
    alive: Callable[[], bool] = lambda: True
    version: str = "0.1.0"
    decide_within_s: float = 2.0
    bodies: StatusBodies = field(default_factory=StatusBodies)
    published: Published = field(default_factory=Published)
    deciding: set[str] = field(default_factory=set)
    """Requests with an Idempotency-Key that are on their way through this process right now."""


SERVICES = web.AppKey("services", RestServices)


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is ``body`` as JSON."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
