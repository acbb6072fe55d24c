"""HTTP of the Marketing API: make a run, ask how it stands, read its rows, or read them without one; and the list of ad
accounts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.days import today_in
from app.sandbox.meta import rows, state
from app.sandbox.meta.accounts import account_of, listed
from app.sandbox.meta.errors import META, json_answer, refusal, usage_headers
from app.sandbox.meta.oauth import ROOT, bearer_of, guard, identify
from app.sandbox.meta.state import Question, Run, is_ready, make_run, poll_run, run_of, snapshot
from app.sandbox.meta.validation import InvalidParameter, parse_question
from app.sandbox.world import CALL, FAULT, WORLD, Handler, Route, World

_RUN = ROOT + r"/{run_id:\d+}"
_MOST_LIMIT = 5_000
"""What a page may be asked for. The provider names no number; it asks for less when it is too much."""
_MOST_CELLS = 20_000
"""Days times campaigns that are answered without a run. The provider names no number; the call runs into its time."""
_FATES = {"failed_report": state.FAILED, "stuck_report": state.RUNNING, "skipped_report": state.SKIPPED}
_LESS = "Please reduce the amount of data you're asking for, then retry your request"


def routes() -> list[Route]:
    """The calls that exist here."""

    def route(
        name: str, method: str, path: str, handler: Callable[[World, web.Request], Awaitable[web.Response]]
    ) -> Route:
        group = "meta_entities" if name == "accounts" else "insights"
        return Route(
            f"meta.{name}", method, path, "meta", group, _answering(handler), META, identify=_identify, guard=guard
        )

    return [
        route("create", "POST", ROOT + r"/act_{account_id:\d+}/insights", create),
        route("sync", "GET", ROOT + r"/act_{account_id:\d+}/insights", sync),
        route("status", "GET", _RUN, status),
        route("page", "GET", _RUN + "/insights", page),
        route("accounts", "GET", ROOT + "/me/adaccounts", accounts),
    ]


def _identify(world: World, request: web.Request, call: Call) -> None:
    """The account is that of the path, or of the run in it."""
    identify(world, request, call)
    call.account, call.report_id = request.match_info.get("account_id"), request.match_info.get("run_id")
    run = world.meta.runs.get(int(call.report_id)) if call.report_id else None
    if run is not None:
        call.account = str(run.question.account_id)


def _answering(handler: Callable[[World, web.Request], Awaitable[web.Response]]) -> Handler:
    """The handler with refusals turned into answers, and the usage of the quotas in the head of each."""

    async def answer(request: web.Request) -> web.StreamResponse:
        world = request.app[WORLD]
        try:
            found = await handler(world, request)
        except (InvalidParameter, ValueError) as refused:
            found = refusal(100, None, f"(#100) {refused}")
        except LookupError:
            text = "Unsupported get request. Object does not exist, or cannot be loaded due to missing permissions."
            found = refusal(100, 33, text)
        found.headers.update(usage_headers(world, request[CALL]))
        return found

    return answer


async def create(world: World, request: web.Request) -> web.Response:
    """POST act_<id>/insights, a form."""
    user = _user(world, request)
    question = _question(world, request, {name: str(value) for name, value in (await request.post()).items()})
    fault = request.get(FAULT)
    fate = _FATES.get(fault.fault, state.COMPLETED) if fault is not None else state.COMPLETED
    run = make_run(world.meta, user, question, fate, world.settings.seed, world.now().unix)
    request[CALL].report_id = str(run.run_id)
    return json_answer({"report_run_id": str(run.run_id)})


async def sync(world: World, request: web.Request) -> web.Response:
    """GET act_<id>/insights: some of the rows as they are now, of what is small enough."""
    user = _user(world, request)
    question = _question(world, request, request.query)
    found = snapshot(world.meta, user, question, world.now().unix)
    width = found.campaigns if question.level == "campaign" else 1
    if width * (question.end.toordinal() - question.start.toordinal() + 1) > _MOST_CELLS:
        return refusal(2, 1_504_038, "The request timed out. Try a smaller date range, or an asynchronous job.", 500)
    return _rows(world, request, found)


def _question(world: World, request: web.Request, asked: Mapping[str, str]) -> Question:
    account_id = int(request.match_info["account_id"])
    if account_id == 0:
        raise LookupError
    today = today_in(account_of(world.settings.seed, account_id).time_zone, world.now().unix)
    return parse_question(account_id, asked, today)


async def status(world: World, request: web.Request) -> web.Response:
    """GET <run>; counts as one poll."""
    run = poll_run(world.meta, _run(world, request))
    shown, percent = state.state_of(run, world.now().unix)
    body: dict[str, Any] = {
        "id": str(run.run_id),
        "account_id": str(run.question.account_id),
        "time_ref": int(run.created_at),
        "async_status": shown,
        "async_percent_completion": percent,
        "date_start": run.question.start.isoformat(),
        "date_stop": run.question.end.isoformat(),
    }
    if run.takes_s is not None and state.progress_of(run, world.now().unix) >= 1.0:
        body["time_completed"] = int(run.created_at + run.takes_s)
    if shown == state.FAILED:
        # The one pair that is documented for runs alone; negative codes are the provider's own affair.
        body |= {"error_code": -2, "error_subcode": 2_490_547, "error_message": "The report could not be made."}
        body |= {"error_user_title": "Report Failed", "error_user_msg": "Try again later."}
    return json_answer(body)


async def page(world: World, request: web.Request) -> web.Response:
    """GET <run>/insights: some rows. Of a run that is not ready those that are there, and nothing says so."""
    return _rows(world, request, _run(world, request))


def _rows(world: World, request: web.Request, run: Run) -> web.Response:
    """The page of a run that the query names."""
    limit = int(request.query.get("limit", rows.USUAL))
    if not 1 <= limit <= _MOST_LIMIT:
        raise InvalidParameter("limit is out of range")
    fault = request.get(FAULT)
    if fault is not None and fault.fault == "less_data":
        return refusal(1, None, _LESS, 500)
    start = rows.place_of(request.query.get("after", "")) + 1
    whole = is_ready(run, world.now().unix)
    found, cursors, following = rows.page(rows.cells(world.settings.seed, run, start, whole), limit)
    return json_answer(_listed(world, request, found, dict(cursors), more=following is not None, limit=limit))


async def accounts(world: World, request: web.Request) -> web.Response:
    """GET me/adaccounts."""
    limit = int(request.query.get("limit", rows.USUAL))
    start = rows.place_of(request.query.get("after", "")) + 1
    fields = request.query.get("fields", "id").split(",")
    known = listed(world.settings.advertisers)
    shown = known[start : start + limit]
    ends = {"before": rows.cursor(start), "after": rows.cursor(start + len(shown) - 1)} if shown else {}
    found = [_account(world, number, standing, fields) for number, standing in shown]
    return json_answer(_listed(world, request, found, ends, more=start + limit < len(known), limit=limit))


def _account(world: World, account_id: int, standing: int, fields: list[str]) -> dict[str, Any]:
    account = account_of(world.settings.seed, account_id)
    known: dict[str, Any] = {
        "account_id": str(account_id),
        "name": account.name,
        "currency": account.currency,
        "timezone_name": account.time_zone,
        "account_status": standing,
    }
    return {"id": f"act_{account_id}"} | {name: known[name] for name in fields if name in known}


def _listed(
    world: World, request: web.Request, found: list[Any], cursors: dict[str, str], *, more: bool, limit: int
) -> dict[str, Any]:
    """A page. The link to the next one holds the caller's token, as the provider's does."""
    if not found:
        return {"data": []}
    paging: dict[str, Any] = {"cursors": cursors}
    if more:
        token = request.headers.get("Authorization", "").partition(" ")[2]
        query = urlencode({**request.query, "limit": limit, "after": cursors["after"], "access_token": token})
        paging["next"] = f"{world.api_url}{request.path}?{query}"
    return {"data": found, "paging": paging}


def _user(world: World, request: web.Request) -> str:
    access = bearer_of(world, request)
    if access is None:
        raise LookupError
    return access.user


def _run(world: World, request: web.Request) -> Run:
    run = run_of(world.meta, _user(world, request), int(request.match_info["run_id"]))
    if run is None:
        raise LookupError
    return run
