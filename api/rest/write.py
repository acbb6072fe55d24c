"""``POST /api/v1/connectors/{connector_id}/write``: publishes the same write command that upstream publishes, and waits
a little for the answer (``commanding``)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from api.rest import commanding, parameters
from api.rest.auth import Principal
from api.rest.body import WRITE_LIMIT_BYTES, read_object
from api.rest.commanding import Given
from api.rest.problem import Problem, refusal
from api.rest.services import SERVICES, RestServices
from app.domain.commands import WRITE_FIELDS, WriteCommand, parse
from app.domain.identity import body_hash, idempotent_request_id, normalise
from app.domain.model import Priority

PATH = "/api/v1/connectors/{connector_id}/write"
_NOT_HERE = ("type", "org_id", "connector_id")
BODY_FIELDS = tuple(name for name in WRITE_FIELDS if name not in _NOT_HERE)
"""What a body may hold; the rest of a command comes from the token and the path."""


async def post(request: web.Request, principal: Principal) -> web.Response:
    """200 with the place in the queue when the planner decides in time, else 202; every fault of the body at once,
    422; 501 for a connector that can only be read."""
    services: RestServices = request.app[SERVICES]
    parameters.given(request)
    connector_id = normalise("conn", request.match_info["connector_id"])
    if connector_id is None:
        raise Problem("not_found")
    key = commanding.idempotency_key(request)
    body = await read_object(request, WRITE_LIMIT_BYTES)
    command = _command(body, principal.org_id, connector_id, key, services.clock.now())
    accept = await commanding.check(services, command)
    return await commanding.publish(services, command, accept, request)


def _command(body: dict[str, Any], org_id: int, connector_id: str, key: str | None, now: int) -> Given:
    given = {name: value for name, value in body.items() if value is not None and name not in _NOT_HERE}
    own = given.get("request_id")
    if own is not None and key is not None:
        raise Problem("invalid_parameter", "give a request_id or an Idempotency-Key, not both")
    made = idempotent_request_id(org_id, key) if key else commanding.new_request_id(now)
    ours = {"type": "write", "org_id": org_id, "connector_id": connector_id}
    record = {"priority": Priority.NORMAL.value, "request_id": made} | given | ours
    faults, parsed = commanding.foreign_fields(body, _NOT_HERE, BODY_FIELDS), parse(record)
    if not isinstance(parsed, WriteCommand) or faults or parsed.request_id is None:
        raise refusal(faults + (parsed if isinstance(parsed, tuple) else ()))
    repeatable = own is not None or key is not None
    named = record | {"request_id": parsed.request_id}
    return Given(parsed, named, parsed.request_id, body_hash(parsed), repeatable)
