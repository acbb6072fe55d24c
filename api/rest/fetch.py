"""``POST /api/v1/connectors/fetch``: publishes the same command that upstream publishes, and waits a little for the
answer.

REST refuses what Kafka refuses, by the same functions, only sooner. Nothing is queued here: the record on the command
topic is the request, so a call that dies after the broker's acknowledgement has lost nothing but its answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from uuid_utils import uuid7

from api.rest import dry_run, parameters
from api.rest.auth import Principal
from api.rest.body import read_object
from api.rest.problem import Problem, refusal
from api.rest.services import AWAY, SERVICES, RestServices, json_response, trace_of
from app.domain.commands import FETCH_FIELDS, FetchCommand, nearest, parse, shown
from app.domain.errors import Fault
from app.domain.identity import body_hash, idempotent_request_id
from app.domain.intake import Refused, judge, today_at
from app.domain.messages import Accept, Cancel, RequestView
from app.domain.model import Priority
from app.ports import BrokerUnavailable
from app.services.status import fetch_body

_OURS = ("type", "request_id", "org_id")
BODY_FIELDS = tuple(name for name in FETCH_FIELDS if name not in _OURS)
"""What a body may hold; the rest of a command comes from the token and the headers."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Command:
    """A command that may be published: its parsed form, its record, and whether its id can have been used before."""

    parsed: FetchCommand
    record: Mapping[str, Any]
    request_id: str
    hash: str
    repeatable: bool


async def post(request: web.Request, principal: Principal) -> web.Response:
    """200 with the place in the queue when the planner decides in time, else 202; every fault of the body at once,
    422. With ``dry_run=true`` 200 with the plan."""
    services: RestServices = request.app[SERVICES]
    dry = parameters.truth("dry_run", parameters.given(request, ("dry_run",)).get("dry_run"))
    key = _idempotency_key(request)
    body = await read_object(request)
    command = _command(body, principal.org_id, key, services.clock.now())
    accept = await _check(services, command)
    if dry:
        await _refuse_other_body(services, command)
        return await dry_run.plan(request, accept)
    if not command.repeatable:
        return await _submit(services, command, accept, request)
    return await _once(services, command, accept, request)


def _idempotency_key(request: web.Request) -> str | None:
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise Problem("invalid_parameter", "Idempotency-Key must be 1 to 255 printable ASCII characters, given once")
    return values[0]


def _command(body: dict[str, Any], org_id: int, key: str | None, now: int) -> _Command:
    request_id = idempotent_request_id(org_id, key) if key else _new_request_id(now)
    given = {name: value for name, value in body.items() if value is not None and name not in _OURS}
    record = {"priority": Priority.NORMAL.value} | given | {"type": "fetch", "org_id": org_id, "request_id": request_id}
    faults, parsed = _foreign_fields(body), parse(record)
    if isinstance(parsed, FetchCommand) and not faults:
        return _Command(parsed, record, request_id, body_hash(parsed), key is not None)
    raise refusal(faults + (parsed if isinstance(parsed, tuple) else ()))


def _foreign_fields(body: Mapping[str, Any]) -> tuple[Fault, ...]:
    return tuple(
        Fault("unknown_field", f"/{name}", f"there is no field {shown(name)}{nearest(name, BODY_FIELDS)}")
        for name in body
        if name in _OURS
    )


def _new_request_id(now: int) -> str:
    return f"req_{uuid7(nanoseconds=now * 1_000_000).hex}"


async def _check(services: RestServices, command: _Command) -> Accept:
    try:
        connector = await services.connector(command.parsed.connector_id)
    except AWAY:
        raise Problem("view_unavailable", retry_after_s=1) from None
    now = services.clock.now()
    verdict = judge(
        command.parsed,
        request_id=command.request_id,
        accepted_at=now,
        connector=connector,
        catalogue=services.catalogue,
        today=today_at(now),
    )
    if isinstance(verdict, Refused):
        raise refusal(verdict.faults)
    assert not isinstance(verdict, Cancel)  # a fetch command is judged
    return verdict


async def _once(services: RestServices, command: _Command, accept: Accept, request: web.Request) -> web.Response:
    """A command whose id follows from its key: answered from the request it already is, one at a time in this
    process."""
    if command.request_id in services.deciding:
        raise Problem("request_in_progress", retry_after_s=1, request_id=command.request_id)
    services.deciding.add(command.request_id)
    try:
        known = await _known(services, command.request_id)
        return await _submit(services, command, accept, request) if known is None else _answer(command, known)
    finally:
        services.deciding.discard(command.request_id)


async def _known(services: RestServices, request_id: str) -> RequestView | None:
    try:
        return await services.views.get(request_id)
    except AWAY:
        # Publishing again is harmless: the planner knows the id and answers for the request it already has.
        return None


async def _refuse_other_body(services: RestServices, command: _Command) -> None:
    """Raises ``Problem`` when the key of a command was used for another body."""
    known = await _known(services, command.request_id) if command.repeatable else None
    if known is not None and known.body_hash != command.hash:
        raise Problem("idempotency_mismatch", request_id=command.request_id)


async def _submit(services: RestServices, command: _Command, accept: Accept, request: web.Request) -> web.Response:
    try:
        value = services.encode(command.record)
        await services.publisher.publish(command.parsed.connector_id, value, trace_of(request))
    except BrokerUnavailable:
        raise Problem("broker_unavailable", retry_after_s=5, request_id=command.request_id) from None
    services.published.note(accept)
    view = await services.views.wait_for(command.request_id, services.decide_within_s)
    if view is not None:
        services.published.forget(command.request_id)
    return _answer(command, view)


def _answer(command: _Command, view: RequestView | None) -> web.Response:
    if view is not None and view.body_hash != command.hash:
        raise Problem("idempotency_mismatch", request_id=command.request_id)
    if view is not None and view.error is not None and view.error.get("code") == "queue_full":
        raise Problem("queue_full", retry_after_s=30, request_id=command.request_id)
    location = {"Location": f"/api/v1/connectors/requests/{command.request_id}"}
    return json_response(fetch_body(command.request_id, view), status=202 if view is None else 200, headers=location)
