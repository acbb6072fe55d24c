"""The server: two origins over one world, and the way every call takes through them.

    arrival noted -> who calls -> quotas counted -> faults -> token checked -> quota refused -> the route's own answer

Adding a provider is one folder with ``routes()`` and one line in ``API_ROUTES`` (or ``STORAGE_ROUTES``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.sandbox import bodies
from app.sandbox.call_log import Call, begin_call, close_log, end_call
from app.sandbox.clock import Clock, Instant, system_clock
from app.sandbox.control import doors
from app.sandbox.csv_https import routes as csv_https
from app.sandbox.dv360 import entities, storage
from app.sandbox.dv360 import routes as dv360
from app.sandbox.faults import AFTER, BEFORE, FaultRule, choose
from app.sandbox.google_ads.routes import routes as google_ads_routes
from app.sandbox.google_errors import GOOGLE
from app.sandbox.google_oauth import routes as google_oauth
from app.sandbox.meta import oauth as meta_oauth
from app.sandbox.meta import routes as meta
from app.sandbox.quotas import count_call
from app.sandbox.settings import SandboxSettings
from app.sandbox.sheets import routes as sheets
from app.sandbox.ttd import files as ttd_files
from app.sandbox.ttd import graphql as ttd_graphql
from app.sandbox.ttd import routes as ttd
from app.sandbox.world import CALL, FAULT, WORLD, Dialect, Route, World, new_world

API_ROUTES: tuple[Callable[[], list[Route]], ...] = (
    google_oauth.routes,
    dv360.routes,
    entities.routes,
    google_ads_routes,
    ttd.routes,
    ttd_graphql.routes,
    meta_oauth.routes,
    meta.routes,
    csv_https.routes,
    sheets.routes,
)
STORAGE_ROUTES: tuple[Callable[[], list[Route]], ...] = (storage.routes, ttd_files.routes)
_CONTROL = "/_sandbox/"
_STOP_SECONDS = 0.5


def build_app(world: World, routes: list[Route], control: bool) -> web.Application:
    """One origin over ``world``; ``control`` adds the sandbox's own doors."""
    known = {route.name: route for route in routes}
    app = web.Application(middlewares=[_arrivals(world, known)], client_max_size=4 << 20)
    app[WORLD] = world
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler, name=route.name)
    if control:
        app.add_routes(doors())
    return app


def _arrivals(world: World, known: dict[str, Route]) -> Middleware:
    spoken = {route.path.split("/")[1]: route.dialect for route in known.values()}

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_CONTROL):
            return await handler(request)
        route = known.get(request.match_info.route.name or "")
        call = begin_call(world.log, request.method, request.path, "Authorization" in request.headers, world.now())
        request[CALL] = call
        status = 0
        try:
            if route is None:
                answer = await _unrouted(request, handler, spoken.get(request.path.split("/")[1], GOOGLE))
            else:
                answer = await _take(world, route, request, handler)
            if not answer.prepared:
                # Whoever compares it with an instant in a body needs both of one clock.
                answer.headers.setdefault("Date", formatdate(world.now().unix, usegmt=True))
            status = 0 if request.transport is None or request.transport.is_closing() else answer.status
            return answer
        finally:
            end_call(world.log, call, status, world.now())

    return serve


async def _take(world: World, route: Route, request: web.Request, handler: Handler) -> web.StreamResponse:
    """One call from arrival to answer."""
    call = request[CALL]
    await _group(world, route, request, call)
    _count(world, route, request, call)
    if route.describe is not None:
        await route.describe(world, request, call)
    rule = _strike(world, call)
    if rule is not None:
        request[FAULT] = rule
    await _wait(world, rule)
    if rule is not None and rule.fault in BEFORE:
        return route.dialect.fault(world, rule, call) or await bodies.replaced(request, rule)
    answer = await _answer(world, route, request, call, handler)
    if rule is not None and rule.fault in AFTER and isinstance(answer, web.Response):
        return await bodies.damaged(request, answer, rule)
    return answer


async def _group(world: World, route: Route, request: web.Request, call: Call) -> None:
    """Which quotas it spends from. Where the body decides, a call has arrived when that is there: calls must be counted
    in the order of the instants they are counted at."""
    call.provider, call.route, call.quota_group = route.provider, route.name, route.quota_group
    if route.regroup is not None:
        call.quota_group = await route.regroup(request)
        call.arrived_at, call.monotonic = world.now()


def _count(world: World, route: Route, request: web.Request, call: Call) -> None:
    if route.identify is not None:
        route.identify(world, request, call)
    application, user = call.application or "unknown", call.user or "unknown"
    arrived = Instant(call.arrived_at, call.monotonic)
    call.over = count_call(world.quotas, call.quota_group, application, user, call.account, arrived)
    call.over_quota = bool(call.over)


def _strike(world: World, call: Call) -> FaultRule | None:
    if not world.faults:
        return None
    now = world.now().monotonic
    rule, world.faults = choose(world.faults, call.route, call.user, call.account, call.title, now)
    call.fault = rule.fault if rule is not None else None
    return rule


async def _wait(world: World, rule: FaultRule | None) -> None:
    slow = (rule.seconds or 0.0) if rule is not None and rule.fault == "slow" else 0.0
    if world.settings.latency_s + slow > 0:
        await asyncio.sleep(world.settings.latency_s + slow)


async def _answer(world: World, route: Route, request: web.Request, call: Call, handler: Handler) -> web.StreamResponse:
    refused = route.guard(world, request) if route.guard is not None else None
    if refused is not None:
        return refused
    if call.over and world.settings.enforce:
        return route.dialect.throttled(world, call)
    try:
        return await handler(request)
    except web.HTTPException as error:
        return route.dialect.unexpected(error.status, error.reason)


async def _unrouted(request: web.Request, handler: Handler, dialect: Dialect) -> web.StreamResponse:
    """What no route takes is refused as the provider refuses whose path begins like it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return dialect.unexpected(error.status, error.reason)


@dataclass(slots=True)
class Sandbox:
    """A running simulator; ``stop`` ends it."""

    world: World
    runners: tuple[web.AppRunner, ...]

    @property
    def api_url(self) -> str:
        """Origin of the APIs, the token endpoint and the control doors, without a trailing slash."""
        return self.world.api_url

    @property
    def storage_url(self) -> str:
        """Origin of the signed report links."""
        return self.world.storage_url

    async def stop(self) -> None:
        """Close both origins; calls still under way are logged with status 0."""
        for runner in self.runners:
            await runner.cleanup()
        close_log(self.world.log, self.world.now())


async def start_sandbox(settings: SandboxSettings, clock: Clock = system_clock) -> Sandbox:
    """Listen on both ports and return; OSError when one is taken."""
    world = new_world(settings, clock)
    api = await _listen(build_app(world, [one for part in API_ROUTES for one in part()], control=True))
    world.api_url = await _serve(api, settings.host, settings.port)
    files = await _listen(build_app(world, [one for part in STORAGE_ROUTES for one in part()], control=False))
    world.storage_url = await _serve(files, settings.host, settings.storage_port)
    return Sandbox(world, (api, files))


async def _listen(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS, handler_cancellation=True)
    await runner.setup()
    return runner


async def _serve(runner: web.AppRunner, host: str, port: int) -> str:
    site = web.TCPSite(runner, host, port)
    await site.start()
    found = runner.addresses[0]
    return f"http://{found[0]}:{found[1]}"
