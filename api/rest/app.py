"""The REST application: the routes, and what is around every one of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

from aiohttp import hdrs, web

from api.rest import cancel, connectors, fetch, health, planner, queue, request_list, requests, schemas, write
from api.rest.auth import Principal, authenticate, known
from api.rest.body import WRITE_LIMIT_BYTES
from api.rest.problem import Problem, from_http
from api.rest.services import SERVICES, RestServices
from app.telemetry.metrics import Metrics

log = logging.getLogger(__name__)
GATHERED = 200
"""So many answers of one route and status are told to the metrics at once."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Secured = Callable[[web.Request, Principal], Awaitable[web.Response]]


def guarded(handler: Secured, scope: str) -> Handler:
    """The handler behind a bearer token that holds ``scope``."""

    async def checked(request: web.Request) -> web.StreamResponse:
        verifier, values = request.app[SERVICES].verifier, request.headers.getall(hdrs.AUTHORIZATION, [])
        principal = known(verifier, values, scope)
        if principal is None:
            principal = await authenticate(verifier, values, scope)
        return await handler(request, principal)

    return checked


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/api/v1/connectors/fetch", guarded(fetch.post, "fetch")),
    ("POST", write.PATH, guarded(write.post, "connectors:write")),
    ("GET", connectors.PATH, guarded(connectors.get, "connectors:read")),
    ("GET", queue.PATH, guarded(queue.get, "connectors:read")),
    ("GET", requests.PATH, guarded(requests.get, "connectors:read")),
    ("DELETE", requests.PATH, guarded(cancel.delete, "fetch")),
    ("GET", request_list.PATH, guarded(request_list.get, "connectors:read")),
    ("GET", planner.PATH, guarded(planner.get, "connectors:read")),
    ("GET", "/livez", health.livez),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
    ("GET", "/version", health.version),
    ("GET", "/schemas/{fingerprint}", schemas.schema),
    ("GET", "/problems/{slug}", schemas.problem),
)


def build_app(services: RestServices) -> web.Application:
    """The aiohttp application over these services; it opens nothing by itself."""
    app = web.Application(client_max_size=WRITE_LIMIT_BYTES)
    app[SERVICES] = services
    # Around each handler and not as a middleware, which costs a short answer a twentieth of its time.
    for method, path, handler in ROUTES:
        resource = app.router.add_resource(path)
        resource.add_route(method, _answering(handler, _Meter(services.metrics, resource.canonical)))
    app.router.add_route("*", "/{nowhere:.*}", _answering(_unmatched, _Meter(services.metrics, "none")))
    app.on_response_prepare.append(_dress)
    app.on_cleanup.append(_part_with_peers)
    return app


async def _unmatched(request: web.Request) -> web.StreamResponse:
    """Raises what the framework would of a request that no other route takes: 405 if its path takes other methods."""
    mine = request.match_info.route.resource
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource is not mine:
            allowed |= (await resource.resolve(request))[1]
    raise web.HTTPMethodNotAllowed(request.method, allowed) if allowed else web.HTTPNotFound()


async def _part_with_peers(app: web.Application) -> None:
    await app[SERVICES].peers.close()


def _answering(handler: Handler, meter: _Meter) -> Handler:
    """The handler with every error answered, and every answer counted."""

    async def answered(request: web.Request) -> web.StreamResponse:
        began = perf_counter()
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            response = _told(request, error).response()
        meter.count(response.status, perf_counter() - began)
        return response

    return answered


def _told(request: web.Request, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, web.HTTPException):
        return from_http(error)
    # The one place where an unforeseen error ends: logged whole, answered without a word of it.
    log.error("request failed", exc_info=error, extra={"method": request.method, "path": request.path[:200]})
    return Problem("internal")


class _Meter:
    """Counts the answers of one route. They are gathered and told to the metrics many at a time and before each scrape:
    telling each by itself costs more than a tenth of a short answer."""

    def __init__(self, metrics: Metrics, route: str) -> None:
        self._metrics, self._route = metrics, route
        self._gathered: dict[int, list[float]] = {}
        metrics.before_exposition(self._tell_all)

    def count(self, status: int, took_s: float) -> None:
        gathered = self._gathered.get(status)
        if gathered is None:
            gathered = self._gathered[status] = []
        gathered.append(took_s)
        if len(gathered) >= GATHERED:
            self._tell(status, gathered)

    def _tell_all(self) -> None:
        for status, gathered in self._gathered.items():
            self._tell(status, gathered)

    def _tell(self, status: int, gathered: list[float]) -> None:
        self._metrics.http_requests_total.labels(self._route, str(status)).inc(len(gathered))
        histogram = self._metrics.http_request_seconds.labels(self._route)
        for took_s in gathered:
            histogram.observe(took_s)
        gathered.clear()


async def _dress(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    headers = response.headers
    headers.popall(hdrs.SERVER, None)
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
