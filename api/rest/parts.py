"""What the planners say of themselves to one caller: from this worker's own, and from other workers all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from api.rest.auth import Principal
from api.rest.peers import forwarded
from api.rest.problem import Problem
from api.rest.services import AWAY, SERVICES, RestServices
from app.domain.model import ConnectorFacts
from app.services.parts import Part, readable

PLANNER = "/internal/planner/"


async def own_connectors(services: RestServices, org_id: int) -> Sequence[ConnectorFacts]:
    """The organisation's connectors, in order of id. Raises ``Problem`` 503."""
    try:
        return await services.connectors_of(org_id)
    except AWAY:
        raise Problem("view_unavailable", retry_after_s=1) from None


async def parts_of(
    request: web.Request, principal: Principal, types: Iterable[str], connectors: Sequence[ConnectorFacts]
) -> Mapping[str, Part]:
    """The part of each connector type, in order of name; who does not tell it within a second is quoted as it was last
    heard."""
    services = request.app[SERVICES]
    names = sorted(set(types))
    told = await asyncio.gather(*(_told(request, principal.org_id, name, connectors) for name in names))
    heard = services.heard
    return {name: heard.part(principal.org_id, name, part) for name, part in zip(names, told, strict=True)}


async def _told(
    request: web.Request, org_id: int, connector_type: str, connectors: Sequence[ConnectorFacts]
) -> Mapping[str, Any] | None:
    services = request.app[SERVICES]
    here = part_here(services, org_id, connector_type, connectors)
    if here is not None:
        return here
    owner = services.boards.owner(connector_type)
    if owner is None or forwarded(request):
        return None
    answer = await services.peers.ask(request, owner, PLANNER + connector_type)
    return None if answer is None else readable(answer.body)


def part_here(
    services: RestServices, org_id: int, connector_type: str, connectors: Sequence[ConnectorFacts]
) -> Mapping[str, Any] | None:
    """The part of a planner that this worker owns."""
    board = services.boards.here(connector_type)
    if board is None:
        return None
    return board.part(org_id, [c.connector_id for c in connectors if c.connector_type == connector_type])
