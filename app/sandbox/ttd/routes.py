"""HTTP of the API v3: login, lists, templates, schedules, executions, and the view of a finished report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.ttd import state as ttd
from app.sandbox.ttd.errors import TTD, ForbiddenError, InvalidError, invalid, json_answer, said, unauthorised
from app.sandbox.ttd.figures import FIRST_ADVERTISER, PARTNER_ID, advertiser
from app.sandbox.ttd.files import file_answer, signed_link
from app.sandbox.ttd.state import Schedule
from app.sandbox.ttd.tokens import is_living, log_in, user_of
from app.sandbox.ttd.validation import SCHEDULE_PROPERTIES, advertisers_of, parse_schedule
from app.sandbox.world import CALL, FAULT, WORLD, Handler, Route, World

ROOT = "/ttd/v3"
MOST_PAGE = 1_000
_PAGING = frozenset({"PageStartIndex", "PageSize"})
_REPORTS = ROOT + "/myreports"
_JSON = "application/json"

Answer = Callable[[World, web.Request, Mapping[str, Any]], Awaitable[web.StreamResponse]]


def routes() -> list[Route]:
    """The calls of the API that exist here."""

    def route(name: str, method: str, path: str, group: str, handler: Handler) -> Route:
        guard = None if name == "authentication" else _guard
        return Route(f"ttd.{name}", method, path, "ttd", f"ttd_{group}", handler, TTD, identify, _describe, guard)

    def post(name: str, path: str, group: str, known: frozenset[str], handler: Answer) -> Route:
        return route(name, "POST", path, group, _json(known, handler))

    execution_properties = _PAGING | {"AdvertiserIds", "ReportScheduleIds"}
    login_properties = frozenset({"Login", "Password", "TokenExpirationInMinutes"})
    return [
        post("authentication", f"{ROOT}/authentication", "authentication", login_properties, authenticate),
        post("partners", f"{ROOT}/partner/query", "partners", _PAGING, partners),
        post("advertisers", f"{ROOT}/advertiser/query/partner", "advertisers", _PAGING | {"PartnerId"}, advertisers),
        post("template", f"{_REPORTS}/reporttemplateheader/query", "templates", _PAGING | {"NameContains"}, templates),
        post("schedule", f"{_REPORTS}/reportschedule", "schedules", SCHEDULE_PROPERTIES, schedule),
        route(
            "unschedule",
            "DELETE",
            _REPORTS + r"/reportschedule/{schedule_id:\d+}",
            "schedules",
            _json(None, unschedule),
        ),
        post(
            "executions",
            f"{_REPORTS}/reportexecution/query/advertisers",
            "executions",
            execution_properties,
            executions,
        ),
        route("view", "GET", _REPORTS + r"/view/{schedule_id:\d+}", "views", _json(None, view)),
    ]


def identify(world: World, request: web.Request, call: Call) -> None:
    """Note whose token it is; calls without a readable one are counted for nobody in particular."""
    token = request.headers.get("TTD-Auth")
    call.authorization = call.authorization or token is not None
    call.application, call.user = "ttd", user_of(world.ttd.tokens, token or "") or "unauthenticated"


async def _describe(world: World, request: web.Request, call: Call) -> None:
    """Note advertiser, schedule and name, as far as path and body tell. Nothing else of a body is kept."""
    try:
        body = await _object(request)
    except InvalidError:
        return
    call.query_id = request.match_info.get("schedule_id")
    listed = body.get("ReportScheduleIds")
    if isinstance(listed, list) and listed and isinstance(listed[0], int):
        call.query_id = str(listed[0])
    known = world.ttd.schedules.get(int(call.query_id)) if call.query_id else None
    name = known.name if known is not None else body.get("ReportScheduleName")
    call.title = name if isinstance(name, str) else None
    accounts = body.get("AdvertiserFilters") or body.get("AdvertiserIds")
    if isinstance(accounts, list) and accounts and isinstance(accounts[0], str):
        call.account = accounts[0]


def _guard(world: World, request: web.Request) -> web.Response | None:
    """The gateway's check. A token in ``Authorization`` is none."""
    token = request.headers.get("TTD-Auth", "")
    if user_of(world.ttd.tokens, token) is None or not is_living(world.ttd.tokens, token, world.now().unix):
        return unauthorised()
    return None


def _json(known: frozenset[str] | None, handler: Answer) -> Handler:
    """The handler with its body read and refusals turned into answers; ``known`` properties, None for no body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        if known is not None and request.content_type != _JSON:
            return said(415, "The media type must be application/json.")
        try:
            body = await _object(request)
            if unknown := sorted(set(body) - known) if known is not None else []:
                if request.headers.get("TTD-Strict-Mode", "").lower() == "true":
                    raise InvalidError([(name, "is not a property of this request") for name in unknown])
                world.ttd.ignored.update(unknown)
            return await handler(world, request, body)
        except InvalidError as refused:
            return invalid(refused)
        except ForbiddenError:
            return said(403, "You do not have access to this entity, or it does not exist.")

    return answer


async def authenticate(world: World, _request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST authentication: a token of at most a day."""
    login, password, minutes = (body.get(name) for name in ("Login", "Password", "TokenExpirationInMinutes"))
    if not isinstance(login, str) or not isinstance(password, str) or not isinstance(minutes, int) or minutes < 1:
        raise InvalidError([("Login", "login, password and minutes are required")])
    now = world.now().unix
    issued = log_in(world.ttd.tokens, login, password, minutes, now)
    if issued is None:
        return unauthorised()
    token, until = issued
    # Under which of two names the end comes differs between what is written of it; so it does here.
    name = "ExpirationDateUtc" if world.ttd.tokens.issued % 2 else "ExpirationDate"
    shown = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json_answer({"Token": token, name: shown})


async def partners(_world: World, _request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST partner/query."""
    return _page([{"PartnerId": PARTNER_ID, "PartnerName": "Sandbox partner"}], body)


async def advertisers(world: World, _request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST advertiser/query/partner."""
    if body.get("PartnerId") != PARTNER_ID:
        raise ForbiddenError
    known = [advertiser(world.settings.seed, FIRST_ADVERTISER + at) for at in range(world.settings.advertisers)]
    listed = [
        {"AdvertiserId": one.advertiser_id, "AdvertiserName": one.name, "CurrencyCode": one.currency} for one in known
    ]
    return _page(listed, body)


async def templates(world: World, _request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST myreports/reporttemplateheader/query: all whose name holds what is asked, cases alike."""
    part = str(body.get("NameContains", "")).lower()
    found = [one for one in world.ttd.templates if part in one.name.lower()]
    return _page([{"ReportTemplateId": one.template_id, "Name": one.name} for one in found], body)


async def schedule(world: World, request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST myreports/reportschedule."""
    asked = parse_schedule(body, world.ttd.templates, world.now().unix, world.settings.retention_months)
    fates = {"failed_report": ttd.FAILED, "stuck_report": ttd.PENDING}
    fault = request.get(FAULT)
    fate = fates.get(fault.fault, ttd.COMPLETE) if fault is not None else ttd.COMPLETE
    call = request[CALL]
    made = ttd.make_schedule(world.ttd, call.user or "", asked, fate, world.settings.seed, world.now().unix)
    call.query_id = str(made.schedule_id)
    return json_answer({"ReportScheduleId": made.schedule_id})


async def unschedule(world: World, request: web.Request, _body: Mapping[str, Any]) -> web.Response:
    """DELETE myreports/reportschedule/{id}: 240, a success without content."""
    del world.ttd.schedules[_own(world, request).schedule_id]
    return web.Response(status=240)


async def executions(world: World, _request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """POST myreports/reportexecution/query/advertisers; counts as one poll of each schedule that is asked for."""
    wanted, ids = advertisers_of(body, "AdvertiserIds"), body.get("ReportScheduleIds")
    now, found = world.now().unix, []
    for one in list(world.ttd.schedules.values()):
        if set(one.advertisers) & set(wanted) and (not isinstance(ids, list) or one.schedule_id in ids):
            counted = ttd.polled(world.ttd, one)
            if ttd.state_of(counted, now) != ttd.UNSEEN:
                found.append(_execution(world, counted, now))
    return _page(found, body)


def _execution(world: World, made: Schedule, now: float) -> dict[str, Any]:
    state = ttd.state_of(made, now)
    shown = {
        "ReportExecutionId": made.schedule_id * 10,
        "ReportScheduleId": made.schedule_id,
        "ReportScheduleName": made.name,
        "ReportExecutionState": state,
        "ReportStartDateInclusive": f"{made.start.isoformat()}T00:00:00",
        "ReportEndDateExclusive": f"{(made.end + timedelta(days=1)).isoformat()}T00:00:00",
        "ReportDeliveries": [],
    }
    if state == ttd.COMPLETE:
        shown["ReportDeliveries"] = [{"DownloadURL": _link(world, made, now), **_delivered(made)}]
    return shown


def _delivered(made: Schedule) -> dict[str, str]:
    """When the file was there, if time decides that."""
    if made.takes_s is None:
        return {}
    return {"DeliveredUTC": datetime.fromtimestamp(made.created_at + made.takes_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")}


def _link(world: World, made: Schedule, now: float) -> str:
    kind = world.ttd.links if world.ttd.links != "both" else ("view", "signed")[made.schedule_id % 2]
    if kind == "view":
        return f"{world.api_url}{_REPORTS}/view/{made.schedule_id}"
    return signed_link(world, made.schedule_id, int(now + world.settings.link_seconds))


async def view(world: World, request: web.Request, _body: Mapping[str, Any]) -> web.StreamResponse:
    """GET myreports/view/{id}: the file, for whoever has a token."""
    made = _own(world, request)
    if ttd.state_of(made, world.now().unix) != ttd.COMPLETE:
        return said(404, "There is no such report.")
    return await file_answer(world, request, made)


def _own(world: World, request: web.Request) -> Schedule:
    """Assumed: a schedule is seen by the user who made it alone."""
    made = world.ttd.schedules.get(int(request.match_info["schedule_id"]))
    if made is None or made.user != request[CALL].user:
        raise ForbiddenError
    return made


def _page(items: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> web.Response:
    """One page: ``PageStartIndex`` is the index of a row."""
    start, size = body.get("PageStartIndex"), body.get("PageSize")
    faults = [("PageStartIndex", "must be 0 or more")] if not isinstance(start, int) or start < 0 else []
    if not isinstance(size, int) or not 1 <= size <= MOST_PAGE:
        faults.append(("PageSize", f"must be 1 to {MOST_PAGE}"))
    if faults or not isinstance(start, int) or not isinstance(size, int):
        raise InvalidError(faults)
    shown = items[start : start + size]
    counts = {"TotalFilteredCount": len(items), "TotalUnfilteredCount": len(items)}
    return json_answer({"Result": shown, "ResultCount": len(shown), **counts})


async def _object(request: web.Request) -> Mapping[str, Any]:
    raw = await request.read()
    try:
        body = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        raise InvalidError([("", "the body is no JSON")]) from None
    if not isinstance(body, dict):
        raise InvalidError([("", "the body is no object")])
    return body
