"""``POST /api/v1/connectors/fetch``: publishes the same command that upstream publishes, and waits a little for the
answer.

REST refuses what Kafka refuses, by the same functions, only sooner (``commanding``).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from api.rest import commanding, dry_run, parameters
from api.rest.auth import Principal
from api.rest.body import read_object
from api.rest.commanding import OURS, Given
from api.rest.problem import Problem, refusal
from api.rest.services import SERVICES, RestServices
from app.domain.commands import FETCH_FIELDS, FetchCommand, parse
from app.domain.identity import body_hash, idempotent_request_id
from app.domain.model import Priority

BODY_FIELDS = tuple(name for name in FETCH_FIELDS if name not in OURS)
"""What a body may hold; the rest of a command comes from the token and the headers."""


async def post(request: web.Request, principal: Principal) -> web.Response:
    """200 with the place in the queue when the planner decides in time, else 202; every fault of the body at once,
    422. With ``dry_run=true`` 200 with the plan."""
    services: RestServices = request.app[SERVICES]
    dry = parameters.truth("dry_run", parameters.given(request, ("dry_run",)).get("dry_run"))
    key = commanding.idempotency_key(request)
    body = await read_object(request)
    command = _command(body, principal.org_id, key, services.clock.now())
    accept = await commanding.check(services, command)
    if dry:
        await _refuse_other_body(services, command)
        return await dry_run.plan(request, accept)
    return await commanding.publish(services, command, accept, request)


def _command(body: dict[str, Any], org_id: int, key: str | None, now: int) -> Given:
    request_id = idempotent_request_id(org_id, key) if key else commanding.new_request_id(now)
    given = {name: value for name, value in body.items() if value is not None and name not in OURS}
    record = {"priority": Priority.NORMAL.value} | given | {"type": "fetch", "org_id": org_id, "request_id": request_id}
    faults, parsed = commanding.foreign_fields(body, OURS, BODY_FIELDS), parse(record)
    if isinstance(parsed, FetchCommand) and not faults:
        return Given(parsed, record, request_id, body_hash(parsed), key is not None)
    raise refusal(faults + (parsed if isinstance(parsed, tuple) else ()))


async def _refuse_other_body(services: RestServices, command: Given) -> None:
    """Raises ``Problem`` when the key of a command was used for another body."""
    view = await commanding.known(services, command.request_id) if command.repeatable else None
    if view is not None and view.body_hash != command.hash:
        raise Problem("idempotency_mismatch", request_id=command.request_id)
