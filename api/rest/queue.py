"""``GET /api/v1/connectors/queue``: who waits, the caller's places and waits, and the tightest quotas."""

from __future__ import annotations

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.parts import own_connectors, parts_of
from api.rest.services import SERVICES, json_response
from app.services.parts import queue_body

PATH = "/api/v1/connectors/queue"


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 over all connector types; what an owner does not tell is as it was last known here. 503 while nobody knows
    which connectors there are."""
    parameters.given(request)
    services = request.app[SERVICES]
    mine = await own_connectors(services, principal.org_id)
    # Everybody's requests are counted, so every type that can have some is asked.
    types = {*services.catalogue, *(c.connector_type for c in mine)}
    return json_response(queue_body(mine, await parts_of(request, principal, types, mine)))
