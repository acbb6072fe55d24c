"""``/livez`` ``/readyz`` ``/metrics`` ``/version``: for machines that run and watch the service; no token, no tenant
data."""

from __future__ import annotations

import platform

from aiohttp import web

from api.rest.services import SERVICES, json_response
from app.services.status import readiness_body


async def livez(request: web.Request) -> web.Response:
    """200 as long as this process should not be restarted."""
    alive = request.app[SERVICES].alive()
    return json_response({"status": "alive" if alive else "stuck"}, status=200 if alive else 503)


async def readyz(request: web.Request) -> web.Response:
    """200 when this worker can serve, also when it is ``degraded``; 503 with ``Retry-After`` when it cannot."""
    ready, body = readiness_body(await request.app[SERVICES].readiness())
    return json_response(body, status=200 if ready else 503, headers=None if ready else {"Retry-After": "1"})


async def metrics(request: web.Request) -> web.Response:
    """The metrics in the scraper's wished text format."""
    body, content_type = request.app[SERVICES].metrics.exposition(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def version(request: web.Request) -> web.Response:
    """Which version answers."""
    return json_response({"version": request.app[SERVICES].version, "python": platform.python_version()})
