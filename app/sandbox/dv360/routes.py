"""HTTP of Bid Manager v2: queries and their reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.days import today_in
from app.sandbox.dv360 import state as dv360
from app.sandbox.dv360.figures import advertiser
from app.sandbox.dv360.links import sign_link
from app.sandbox.dv360.resources import query_json, report_json
from app.sandbox.dv360.state import Query, Report
from app.sandbox.dv360.validation import InvalidError, parse_query, resolve_range
from app.sandbox.google_errors import GOOGLE, google_error, invalid_argument, json_answer
from app.sandbox.google_oauth.routes import bearer_of, guard, identify
from app.sandbox.google_oauth.state import REPORTS_SCOPE
from app.sandbox.paging import page
from app.sandbox.world import CALL, FAULT, WORLD, Handler, Route, World

_ROOT = "/doubleclickbidmanager/v2/queries"
_QUERY = _ROOT + r"/{query_id:\d+}"
_LONG_AGO = date(1900, 1, 2)
_REPORT = _QUERY + r"/reports/{report_id:\d+}"


def routes() -> list[Route]:
    """The calls of Bid Manager that exist here."""
    check = guard(REPORTS_SCOPE)

    def route(name: str, method: str, path: str, handler: Handler) -> Route:
        return Route(f"reports.{name}", method, path, "dv360", "reports", handler, GOOGLE, identify, describe, check)

    return [
        route("create", "POST", _ROOT, _refusing(create)),
        route("queries", "GET", _ROOT, _refusing(list_queries)),
        route("query", "GET", _QUERY, _refusing(get_query)),
        route("delete", "DELETE", _QUERY, _refusing(delete)),
        route("run", "POST", _QUERY + ":run", _refusing(run)),
        route("list", "GET", _QUERY + "/reports", _refusing(list_reports)),
        route("status", "GET", _REPORT, _refusing(status)),
    ]


async def describe(world: World, request: web.Request, call: Call) -> None:
    """Note query, report, title, advertiser and days, as far as the caller's words or the provider's memory tell."""
    call.query_id = request.match_info.get("query_id")
    call.report_id = request.match_info.get("report_id")
    query = world.dv360.queries.get(int(call.query_id)) if call.query_id else None
    if query is not None:
        call.title, call.account = query.title, str(query.advertisers[0])
        report = world.dv360.reports[query.query_id].get(int(call.report_id or 0))
        if report is not None:
            call.days = f"{report.start}/{report.end}"
        elif call.route == "reports.run":
            body = await _body(request)
            own = not (isinstance(body, dict) and body.get("dataRange"))
            call.days = _custom_days(query.resource["metadata"] if own else body)
    elif call.route == "reports.create":
        body = await _body(request)
        metadata = body.get("metadata") if isinstance(body, dict) else None
        title = metadata.get("title") if isinstance(metadata, dict) else None
        call.title = title if isinstance(title, str) else None
        call.days = _custom_days(metadata)


def _custom_days(holder: Any) -> str | None:
    """The days of what holds a dataRange, if it names them."""
    asked = holder.get("dataRange") if isinstance(holder, dict) else None
    if not isinstance(asked, dict) or asked.get("range") != "CUSTOM_DATES":
        return None
    try:
        return "/".join(str(day) for day in resolve_range(asked, "dataRange", _LONG_AGO, 0))
    except (InvalidError, ValueError):
        return None


def _refusing(handler: Callable[[World, web.Request], Awaitable[web.Response]]) -> Handler:
    """The handler with refusals turned into answers: InvalidError and ValueError to 400, LookupError to 404."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request.app[WORLD], request)
        except InvalidError as refused:
            return invalid_argument(refused.violations)
        except LookupError:
            return google_error(404, "Requested entity was not found.")
        except ValueError as refused:
            return google_error(400, str(refused))

    return answer


async def create(world: World, request: web.Request) -> web.Response:
    """POST queries."""
    body = await _body(request)
    parsed = parse_query(body)
    resolve_range(body["metadata"]["dataRange"], "query.metadata.dataRange", *_limits(world, parsed.advertisers[0]))
    query = dv360.create_query(
        world.dv360, _user(world, request), body, parsed.advertisers, parsed.group_bys, parsed.metrics
    )
    call = request[CALL]
    call.query_id, call.account = str(query.query_id), str(query.advertisers[0])
    return json_answer(query_json(query))


async def run(world: World, request: web.Request) -> web.Response:
    """POST queries/{id}:run; a dataRange in the body stands in for the query's own."""
    query = _query(world, request)
    if request.query.get("synchronous", "false") != "false":
        raise ValueError("synchronous runs are not supported")
    body = await _body(request) or {}
    if not isinstance(body, dict) or set(body) - {"dataRange"}:
        raise InvalidError([("dataRange", "Unknown name: Cannot find field.")])
    asked = body.get("dataRange") or query.resource["metadata"]["dataRange"]
    start, end = resolve_range(asked, "dataRange", *_limits(world, query.advertisers[0]))
    report = dv360.run_query(world.dv360, query, start, end, _fate(request), world.settings.seed, world.now().unix)
    request[CALL].report_id = str(report.report_id)
    return json_answer(_shown(world, query, report))


def _fate(request: web.Request) -> str:
    fault = request.get(FAULT)
    fates = {"failed_report": dv360.FAILED, "stuck_report": dv360.RUNNING}
    return fates.get(fault.fault, dv360.DONE) if fault is not None else dv360.DONE


async def status(world: World, request: web.Request) -> web.Response:
    """GET queries/{id}/reports/{id}; counts as one poll."""
    query = _query(world, request)
    report_id = int(request.match_info["report_id"])
    report = dv360.report_of(world.dv360, query.user, query.query_id, report_id)
    if report is None:
        raise LookupError
    return json_answer(_shown(world, query, dv360.poll_report(world.dv360, report, world.now().unix)))


async def list_reports(world: World, request: web.Request) -> web.Response:
    """GET queries/{id}/reports."""
    query = _query(world, request)
    reports = list(world.dv360.reports[query.query_id].values())
    if _descending(request, "key.reportId"):
        reports.reverse()
    answer = page(reports, "reports", request.query, most=100, usual=100)
    if "reports" in answer:
        answer["reports"] = [_shown(world, query, report) for report in answer["reports"]]
    return json_answer(answer)


async def list_queries(world: World, request: web.Request) -> web.Response:
    """GET queries: those of this user."""
    user = _user(world, request)
    queries = [query for query in world.dv360.queries.values() if query.user == user]
    if _descending(request, "queryId"):
        queries.reverse()
    answer = page(queries, "queries", request.query, most=100, usual=100)
    if "queries" in answer:
        answer["queries"] = [query_json(query) for query in answer["queries"]]
    return json_answer(answer)


async def get_query(world: World, request: web.Request) -> web.Response:
    """GET queries/{id}."""
    return json_answer(query_json(_query(world, request)))


async def delete(world: World, request: web.Request) -> web.Response:
    """DELETE queries/{id}."""
    dv360.delete_query(world.dv360, _query(world, request))
    return json_answer({})


def today_of(world: World, advertiser_id: int) -> date:
    """The day it is now where the advertiser counts its days."""
    return today_in(advertiser(world.settings.seed, advertiser_id).time_zone, world.now().unix)


def _limits(world: World, advertiser_id: int) -> tuple[date, int]:
    return today_of(world, advertiser_id), world.settings.retention_months


def _shown(world: World, query: Query, report: Report) -> dict[str, Any]:
    now = world.now().unix
    expires = int(now + world.settings.link_seconds)
    link = sign_link(world.storage_url, world.settings.seed, report.query_id, report.report_id, expires)
    return report_json(query, report, link, now)


def _descending(request: web.Request, key: str) -> bool:
    order = request.query.get("orderBy", key)
    if order not in (key, f"{key} desc"):
        raise InvalidError([("orderBy", f"Expected {key}, optionally followed by desc.")])
    return order.endswith(" desc")


def _user(world: World, request: web.Request) -> str:
    access = bearer_of(world, request)
    if access is None:
        raise LookupError
    return access.user


def _query(world: World, request: web.Request) -> Query:
    query = dv360.query_of(world.dv360, _user(world, request), int(request.match_info["query_id"]))
    if query is None:
        raise LookupError
    return query


async def _body(request: web.Request) -> Any:
    """The JSON body, None when there is none or it cannot be read (which then fails validation)."""
    raw = await request.read()
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return None
