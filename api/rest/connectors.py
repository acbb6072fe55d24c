"""``GET /api/v1/connectors``: the organisation's accounts, how their calls go, and what is left of their quotas."""

from __future__ import annotations

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.parts import own_connectors, parts_of
from api.rest.services import SERVICES, json_response
from app.services.parts import connectors_body

PATH = "/api/v1/connectors"


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 with all of them, in order of id; what an owner does not tell is as it was last known here. 503 while nobody
    knows which connectors there are."""
    parameters.given(request)
    mine = await own_connectors(request.app[SERVICES], principal.org_id)
    parts = await parts_of(request, principal, (c.connector_type for c in mine), mine)
    return json_response(connectors_body(mine, parts))
