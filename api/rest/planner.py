"""``GET /internal/planner/{connector_type}``: what this worker's planner says, for other workers that are asked."""

from __future__ import annotations

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.parts import PLANNER, own_connectors, part_here
from api.rest.problem import Problem
from api.rest.services import SERVICES, json_response

PATH = PLANNER + "{connector_type}"


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 with the part of the token's organisation; 404 where the planner is not owned."""
    parameters.given(request)
    services, name = request.app[SERVICES], request.match_info["connector_type"]
    if services.boards.here(name) is None:
        raise Problem("not_found")
    mine = await own_connectors(services, principal.org_id)
    # It may have moved while PostgreSQL was asked.
    part = part_here(services, principal.org_id, name, mine)
    if part is None:
        raise Problem("not_found")
    return json_response(part)
