"""The body of a request: as it is committed when it has ended, with its place and wait of this moment while it lives.

A place moves when others leave, without a record of its own; so it is read from the planner, here or at its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from api.rest.peers import forwarded
from api.rest.problem import Problem
from api.rest.services import SERVICES, RestServices
from app.domain.lifecycle import TERMINAL
from app.domain.messages import RequestView

REQUESTS = "/api/v1/connectors/requests"
_COMMITTED: Final[Mapping[str, Any]] = {"as_of": None}
"""Nobody says how it stands now: what is committed, and of when is not known."""


async def body_of(request: web.Request, view: RequestView) -> bytes:
    """The status body of a request of the caller's organisation."""
    services = request.app[SERVICES]
    body = body_here(services, view)
    if body is not None:
        return body
    owner = services.boards.owner(view.connector_type)
    if owner is not None and not forwarded(request):
        told = await services.peers.ask(request, owner, f"{REQUESTS}/{view.request_id}")
        if told is not None and told.body.get("request_id") == view.request_id and "status" in told.body:
            return told.raw
    return committed(services, view)


async def unheard(request: web.Request, request_id: str) -> bytes | None:
    """The body of a request that this worker has not heard of: whoever owns a planner may have, and only owners know
    that there is none (None). Raises ``Problem`` 503 while one has no owner that answers."""
    services = request.app[SERVICES]
    if forwarded(request):
        return None
    names = [name for name in services.catalogue if services.boards.here(name) is None]
    owners = {services.boards.owner(name) for name in names}
    asked = [services.peers.reach(request, one, f"{REQUESTS}/{request_id}") for one in owners if one is not None]
    told = await asyncio.gather(*asked)
    for _, answer in told:
        if answer is not None and answer.body.get("request_id") == request_id and "status" in answer.body:
            return answer.raw
    if None in owners or any(status != HTTPStatus.NOT_FOUND for status, _ in told):
        raise Problem("view_unavailable", retry_after_s=1)
    return None


def body_here(services: RestServices, view: RequestView) -> bytes | None:
    """The same without asking another worker; None where the planner is not owned."""
    if view.state in TERMINAL:
        return services.bodies.of(view)
    now = services.clock.monotonic()
    fresh = services.bodies.fresh(view, now)
    if fresh is not None:
        return fresh
    board = services.boards.here(view.connector_type)
    if board is None:
        return None
    moving = board.live(view.request_id)
    return committed(services, view) if moving is None else services.bodies.living(view, moving, now)


def committed(services: RestServices, view: RequestView) -> bytes:
    """The body of a live request as it is committed."""
    return services.bodies.living(view, _COMMITTED)
