"""HTTP of Google Ads: search, searchStream, and the list of accessible customers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.bodies import send_blocks
from app.sandbox.books import revision_of
from app.sandbox.call_log import Call
from app.sandbox.days import today_in
from app.sandbox.google_ads import accounts, answers
from app.sandbox.google_ads.accounts import Customer
from app.sandbox.google_ads.errors import ADS, ADS_STREAM, AdsDialect, AdsError, request_id
from app.sandbox.google_ads.figures import campaign_count
from app.sandbox.google_ads.gaql import parse
from app.sandbox.google_ads.plan import Plan, plan_of
from app.sandbox.google_ads.rows import Facts, Rows, rows_of
from app.sandbox.google_errors import JSON_TYPE, google_error, json_answer
from app.sandbox.google_oauth import routes as google_oauth
from app.sandbox.google_oauth.state import ADS_SCOPE
from app.sandbox.world import CALL, FAULT, WORLD, Handler, Route, World

_ROOT = "/googleads/v26"
_SERVICE = _ROOT + "/customers/{customer_id}/googleAds"
_FREE = "pages"
"""The quota group of a search's further pages: no rule counts it."""


def routes() -> list[Route]:
    """The calls of Google Ads that exist here."""

    def route(
        name: str, method: str, path: str, handler: Callable[[World, web.Request], Awaitable[web.StreamResponse]]
    ) -> Route:
        dialect = ADS_STREAM if name == "search_stream" else ADS
        return Route(
            f"ads.{name}",
            method,
            path,
            "google_ads",
            "operations",
            _refusing(handler, dialect),
            dialect,
            identify=_identify,
            guard=_guard(dialect),
            regroup=_regroup if name == "search" else None,
        )

    return [
        route("search_stream", "POST", _SERVICE + ":searchStream", search_stream),
        route("search", "POST", _SERVICE + ":search", search),
        route("accessible", "GET", _ROOT + "/customers:listAccessibleCustomers", list_accessible),
    ]


def _identify(world: World, request: web.Request, call: Call) -> None:
    google_oauth.identify(world, request, call)
    call.account = request.match_info.get("customer_id")


def _guard(dialect: AdsDialect) -> Callable[[World, web.Request], web.Response | None]:
    check = google_oauth.guard(ADS_SCOPE)

    def checked(world: World, request: web.Request) -> web.Response | None:
        refused = check(world, request)
        return None if refused is None else dialect.shaped(refused)

    return checked


async def _regroup(request: web.Request) -> str:
    """Further pages of a search belong to the operation of the first."""
    try:
        body = orjson.loads(await request.read())
    except (orjson.JSONDecodeError, web.HTTPException):
        return "operations"
    token = body.get("pageToken") if isinstance(body, dict) else None
    return _FREE if isinstance(token, str) and answers.read_token(token) else "operations"


def _refusing(handler: Callable[[World, web.Request], Awaitable[web.StreamResponse]], dialect: AdsDialect) -> Handler:
    """The handler with refusals turned into answers: AdsError as itself, ValueError to the bare 400."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request.app[WORLD], request)
        except AdsError as refused:
            return dialect.refused(refused, request[CALL])
        except ValueError as refused:
            return dialect.shaped(google_error(400, str(refused)))

    return answer


async def search_stream(world: World, request: web.Request) -> web.StreamResponse:
    """POST customers/{id}/googleAds:searchStream."""
    account = _customer(world, request)
    body = await _body(request, {"query", "summaryRowSetting"})
    if body.get("summaryRowSetting", "NO_SUMMARY_ROW") != "NO_SUMMARY_ROW":
        raise ValueError("summary rows are not simulated")
    plan, rows = _answerable(world, account, _text(body, "query"))
    call = request[CALL]
    headers = {"Content-Type": JSON_TYPE, "Cache-Control": "private", "request-id": request_id(call)}
    blocks = answers.stream(plan, rows, request_id(call))
    if rows.count <= answers.PAGE_ROWS:
        return web.Response(body="".join(blocks).encode(), headers=headers)
    expected = answers.block_count(rows)
    return await send_blocks(request, headers, _encoded(blocks), request.get(FAULT), expected)


async def search(world: World, request: web.Request) -> web.StreamResponse:
    """POST customers/{id}/googleAds:search."""
    account = _customer(world, request)
    body = await _body(request, {"query", "pageToken", "pageSize", "searchSettings"})
    if "pageSize" in body:
        text = "Setting the page size is not supported. Search responses have a fixed page size of 10000 rows."
        raise AdsError("requestError", "PAGE_SIZE_NOT_SUPPORTED", text)
    settings = body.get("searchSettings", {})
    if not isinstance(settings, dict) or set(settings) - {"returnTotalResultsCount"}:
        raise ValueError("of searchSettings only returnTotalResultsCount is simulated")
    query = _text(body, "query")
    plan, rows = _answerable(world, account, query)
    digest = answers.digest_of(account.customer_id, query)
    at = answers.position_of(_text(body, "pageToken"), digest)
    text = answers.page(plan, rows, at, digest, total=settings.get("returnTotalResultsCount") is True)
    headers = {"Content-Type": JSON_TYPE, "Cache-Control": "private", "request-id": request_id(request[CALL])}
    return web.Response(body=text.encode(), headers=headers)


async def list_accessible(world: World, _request: web.Request) -> web.StreamResponse:
    """GET customers:listAccessibleCustomers."""
    known = accounts.accessible(world.settings.advertisers)
    return json_answer({"resourceNames": [f"customers/{one}" for one in known]})


def _customer(world: World, request: web.Request) -> Customer:
    """The account that is asked, once it is sure that the caller may."""
    shown, login = request.match_info["customer_id"], request.headers.get("login-customer-id")
    customer_id = accounts.parse_id(shown)
    if customer_id is None:
        raise AdsError("requestError", "INVALID_CUSTOMER_ID", f"Invalid customer ID '{shown}'.")
    login_id = customer_id if login is None else accounts.parse_id(login)
    if login_id is None:
        raise AdsError("headerError", "INVALID_LOGIN_CUSTOMER_ID", f"Invalid login customer ID '{login}'.")
    if not accounts.exists(customer_id):
        # A 401, although no other token would help: so it is in recorded answers (REST v15).
        text = "No customer found for the provided customer id."
        raise AdsError("authenticationError", "CUSTOMER_NOT_FOUND", text)
    if not accounts.reaches(login_id, customer_id):
        raise AdsError(
            "authorizationError",
            "USER_PERMISSION_DENIED",
            "User doesn't have permission to access customer. Note: If you're accessing a client customer, the "
            "manager's customer id must be set in the 'login-customer-id' header.",
        )
    return accounts.customer(world.settings.seed, customer_id)


def _answerable(world: World, account: Customer, text: str) -> tuple[Plan, Rows]:
    if not text.strip():
        raise AdsError("requestError", "REQUIRED_FIELD_MISSING", "Required field is missing: query.")
    plan = plan_of(parse(text), account, today_in(account.time_zone, world.now().unix))
    revision = partial(revision_of, world.ads, account.customer_id)
    facts = Facts(world.settings.seed, account, campaign_count(world.ads, account.customer_id), revision)
    return plan, rows_of(plan, facts)


async def _body(request: web.Request, known: set[str]) -> Mapping[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise ValueError("Invalid JSON payload received.") from None
    if not isinstance(body, dict):
        raise ValueError("Invalid JSON payload received. Expected an object.")
    if unknown := sorted(set(body) - known):
        raise ValueError(f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"Invalid value at '{name}' (TYPE_STRING).")
    return value


def _encoded(blocks: Iterator[str]) -> Iterator[bytes]:
    return (block.encode() for block in blocks)
