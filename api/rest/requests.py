"""``GET /api/v1/connectors/requests/{request_id}``: what became of a request."""

from __future__ import annotations

from aiohttp import web

from api.rest import parameters
from api.rest.auth import Principal
from api.rest.live import REQUESTS, body_of, unheard
from api.rest.problem import Problem
from api.rest.services import AWAY, SERVICES, RestServices
from app.domain.identity import normalise, uuid7_millis
from app.domain.messages import RequestView

JSON = {"Content-Type": "application/json"}
YOUNG_MS = 60_000
WAIT_S = 1.0
"""How long an unknown id that was made a moment ago is waited for: another worker may have accepted it just now, and
the view is still on its way to this one."""
PATH = REQUESTS + "/{request_id}"


async def get(request: web.Request, principal: Principal) -> web.Response:
    """200 with the state, also of what was published here and is not decided on; 404 for an unknown id, another
    organisation's, and what is no id at all; 503 while nobody knows."""
    services: RestServices = request.app[SERVICES]
    if request.query_string:
        parameters.given(request)
    request_id = asked_id(request)
    view = services.views.held(request_id)
    if view is not None and view.org_id == principal.org_id:
        # Nearly every answer: what this worker has in memory and has just written, without waiting for anybody.
        written = services.bodies.written(view, services.clock.monotonic())
        if written is not None:
            return web.Response(body=written, headers=JSON)
    if view is None:
        view = await find(services, request_id)
    if view is None:
        body = services.published.body(request_id, principal.org_id)
        if body is None and request_id not in services.published:
            body = await unheard(request, request_id)
    else:
        services.published.forget(request_id)
        body = await body_of(request, view) if view.org_id == principal.org_id else None
    if body is None:
        raise Problem("not_found")
    return web.Response(body=body, headers=JSON)


def asked_id(request: web.Request) -> str:
    """The request id in the path. Raises ``Problem`` 404 for what is none."""
    request_id = normalise("req", request.match_info["request_id"])
    if request_id is None:
        raise Problem("not_found")
    return request_id


async def find(services: RestServices, request_id: str) -> RequestView | None:
    """A request of any organisation. None: it is unknown, or published here and not decided on. Raises ``Problem``
    503."""
    try:
        view = await services.views.get(request_id)
    except AWAY:
        raise Problem("view_unavailable", retry_after_s=1) from None
    if view is None and request_id not in services.published and _young(request_id, services.clock.now()):
        return await services.views.wait_for(request_id, WAIT_S)
    return view


def _young(request_id: str, now: int) -> bool:
    """Made within the last minute, by a clock that may be ahead of ours as well."""
    made = uuid7_millis(request_id)
    return made is not None and abs(now - made) < YOUNG_MS
