"""HTTP of Display & Video 360 v4: partners, advertisers, campaigns. Read only."""

from __future__ import annotations

from aiohttp import web

from app.sandbox.books import campaigns_in
from app.sandbox.call_log import Call
from app.sandbox.dv360.figures import advertiser
from app.sandbox.dv360.resources import PARTNER_ID, advertiser_json, campaign_json, partner_json
from app.sandbox.google_errors import GOOGLE, google_error, invalid_argument, json_answer
from app.sandbox.google_oauth.routes import guard, identify
from app.sandbox.google_oauth.state import ENTITIES_SCOPE
from app.sandbox.paging import page
from app.sandbox.world import WORLD, Handler, Route, World

_ROOT = "/displayvideo/v4"
_ADVERTISER = _ROOT + r"/advertisers/{advertiser_id:\d+}"
FIRST_ADVERTISER = 4_567
"""Advertisers in lists are numbered from here; any other id can be read as well, except 0."""


def routes() -> list[Route]:
    """The calls of API v4 that exist here."""
    check = guard(ENTITIES_SCOPE)

    def route(name: str, path: str, handler: Handler) -> Route:
        return Route(f"entities.{name}", "GET", path, "dv360", "entities", handler, GOOGLE, _identify, None, check)

    return [
        route("partners", _ROOT + "/partners", partners),
        route("advertisers", _ROOT + "/advertisers", advertisers),
        route("advertiser", _ADVERTISER, one_advertiser),
        route("campaigns", _ADVERTISER + "/campaigns", campaigns),
    ]


def _identify(world: World, request: web.Request, call: Call) -> None:
    identify(world, request, call)
    call.account = request.match_info.get("advertiser_id")


async def partners(request: web.Request) -> web.StreamResponse:
    """GET partners."""
    return _page(request, [partner_json()], "partners")


async def advertisers(request: web.Request) -> web.StreamResponse:
    """GET advertisers?partnerId=: the parameter is required, one partner a call."""
    settings = request.app[WORLD].settings
    partner = request.query.get("partnerId", "")
    if not partner.isdigit():
        return invalid_argument([("partner_id", "A partner id is required.")])
    count = settings.advertisers if int(partner) == PARTNER_ID else 0
    known = [advertiser_json(advertiser(settings.seed, FIRST_ADVERTISER + at)) for at in range(count)]
    return _page(request, known, "advertisers")


async def one_advertiser(request: web.Request) -> web.StreamResponse:
    """GET advertisers/{id}."""
    advertiser_id = int(request.match_info["advertiser_id"])
    if advertiser_id == 0:
        return google_error(404, "Requested entity was not found.")
    return json_answer(advertiser_json(advertiser(request.app[WORLD].settings.seed, advertiser_id)))


async def campaigns(request: web.Request) -> web.StreamResponse:
    """GET advertisers/{id}/campaigns."""
    world, advertiser_id = request.app[WORLD], int(request.match_info["advertiser_id"])
    account = advertiser(world.settings.seed, advertiser_id)
    count = campaigns_in(world.dv360, advertiser_id)
    return _page(request, [campaign_json(account, index) for index in range(count)], "campaigns")


def _page(request: web.Request, items: list[dict[str, object]], name: str) -> web.Response:
    try:
        return json_answer(page(items, name, request.query, most=200, usual=100))
    except ValueError as refused:
        return google_error(400, str(refused))
