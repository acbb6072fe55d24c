"""``GET /api/v1/connectors/requests/{request_id}``: what became of a request."""

from __future__ import annotations

from aiohttp import web

from api.rest.auth import Principal
from api.rest.problem import Problem
from api.rest.services import AWAY, SERVICES, RestServices
from app.domain.identity import normalise

JSON = {"Content-Type": "application/json"}
PATH = "/api/v1/connectors/requests/{request_id}"


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 with the state; 404 for an unknown id, another organisation's, and what is no id at all; 503 while nobody
    knows."""
    services: RestServices = request.app[SERVICES]
    request_id = normalise("req", request.match_info["request_id"])
    if request_id is None:
        raise Problem("not_found")
    try:
        view = await services.views.get(request_id)
    except AWAY:
        raise Problem("view_unavailable", retry_after_s=1) from None
    if view is None or view.org_id != principal.org_id:
        raise Problem("not_found")
    return web.Response(body=services.bodies.of(view), headers=JSON)
