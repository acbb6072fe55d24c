"""What every command given over REST has in common: it is judged as it would be from Kafka, published as the same
record, and waited for a little.

Nothing is queued here: the record on the command topic is the request, so a call that dies after the broker's
acknowledgement has lost nothing but its answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from uuid_utils import uuid7

from api.rest.problem import Problem, refusal
from api.rest.services import AWAY, RestServices, json_response, trace_of
from app.domain.commands import FetchCommand, WriteCommand, nearest, shown
from app.domain.errors import Fault
from app.domain.intake import Refused, judge, today_at
from app.domain.messages import Accept, Cancel, RequestView
from app.ports import BrokerUnavailable
from app.services.status import fetch_body

OURS = ("type", "request_id", "org_id")
"""Fields of a command that a body does not have: they come from the token, the path and the headers."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Given:
    """A command that may be published: its parsed form, its record, and whether its id can have been used before."""

    parsed: FetchCommand | WriteCommand
    record: Mapping[str, Any]
    request_id: str
    hash: str
    repeatable: bool


def idempotency_key(request: web.Request) -> str | None:
    """The caller's key. Raises ``Problem`` ``invalid_parameter``."""
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    if len(values) > 1 or not _KEY.fullmatch(values[0]):
        raise Problem("invalid_parameter", "Idempotency-Key must be 1 to 255 printable ASCII characters, given once")
    return values[0]


def new_request_id(now: int) -> str:
    """An id that nobody has used; ``now`` in ms."""
    return f"req_{uuid7(nanoseconds=now * 1_000_000).hex}"


def foreign_fields(body: Mapping[str, Any], not_here: Sequence[str], known: Sequence[str]) -> tuple[Fault, ...]:
    """A fault for each field that a command has and this body may not."""
    return tuple(
        Fault("unknown_field", f"/{name}", f"there is no field {shown(name)}{nearest(name, known)}")
        for name in body
        if name in not_here
    )


async def check(services: RestServices, command: Given) -> Accept:
    """The command as intake would accept it now. Raises ``Problem`` for what intake would refuse."""
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
        writers=services.writers,
    )
    if isinstance(verdict, Refused):
        raise refusal(verdict.faults)
    assert not isinstance(verdict, Cancel)  # a cancel is not given here
    return verdict


async def publish(services: RestServices, command: Given, accept: Accept, request: web.Request) -> web.Response:
    """200 with the place in the queue when the planner decides in time, else 202. Raises ``Problem``."""
    if not command.repeatable:
        return await _submit(services, command, accept, request)
    return await _once(services, command, accept, request)


async def _once(services: RestServices, command: Given, accept: Accept, request: web.Request) -> web.Response:
    """A command whose id may be known: answered from the request it already is, one at a time in this process."""
    if command.request_id in services.deciding:
        raise Problem("request_in_progress", retry_after_s=1, request_id=command.request_id)
    services.deciding.add(command.request_id)
    try:
        view = await known(services, command.request_id)
        return await _submit(services, command, accept, request) if view is None else _answer(command, view)
    finally:
        services.deciding.discard(command.request_id)


async def known(services: RestServices, request_id: str) -> RequestView | None:
    """The request that has this id already, if one can be found now."""
    try:
        return await services.views.get(request_id)
    except AWAY:
        # Publishing again is harmless: the planner knows the id and answers for the request it already has.
        return None


async def _submit(services: RestServices, command: Given, accept: Accept, request: web.Request) -> web.Response:
    encode = services.encode if isinstance(command.parsed, FetchCommand) else services.encode_write
    try:
        await services.publisher.publish(command.parsed.connector_id, encode(command.record), trace_of(request))
    except BrokerUnavailable:
        raise Problem("broker_unavailable", retry_after_s=5, request_id=command.request_id) from None
    services.published.note(accept)
    view = await services.views.wait_for(command.request_id, services.decide_within_s)
    if view is not None:
        services.published.forget(command.request_id)
    return _answer(command, view)


def _answer(command: Given, view: RequestView | None) -> web.Response:
    if view is not None and view.body_hash != command.hash:
        raise Problem("idempotency_mismatch", request_id=command.request_id)
    if view is not None and view.error is not None and view.error.get("code") == "queue_full":
        raise Problem("queue_full", retry_after_s=30, request_id=command.request_id)
    location = {"Location": f"/api/v1/connectors/requests/{command.request_id}"}
    return json_response(fetch_body(command.request_id, view), status=202 if view is None else 200, headers=location)
