"""GraphQL beside the API v3: figures at once, of UTC's days, and errors at status 200."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.books import campaigns_in, revision_of
from app.sandbox.call_log import Call
from app.sandbox.days import months_before, today_in
from app.sandbox.faults import FaultRule
from app.sandbox.figures import campaign_name
from app.sandbox.ttd.errors import TTD, json_answer, said, unauthorised
from app.sandbox.ttd.figures import Advertiser, TruthRow, advertiser, campaign_rows, number_of, sum_of, truth_rows
from app.sandbox.ttd.graphql_query import QueryError, Selection, parse_query
from app.sandbox.ttd.routes import identify
from app.sandbox.ttd.tokens import is_living, user_of
from app.sandbox.world import WORLD, Route, World

_MOST_FIRST = 1_000
_MONTHS = 12
_CAMPAIGN = re.compile(r"c([1-9][0-9]{0,8})x([0-9]{1,6})")
_ZONE = "UTC"
_CODES: Mapping[str, tuple[str, str]] = {
    "403_rate": ("RESOURCE_LIMIT_EXCEEDED", "Too many requests."),
    "403_user_rate": ("RESOURCE_LIMIT_EXCEEDED", "Too many requests."),
    "403_daily": ("RESOURCE_LIMIT_EXCEEDED", "Too many requests."),
    "ads_temporary": ("RESOURCE_LIMIT_EXCEEDED", "Too many requests."),
    "ads_daily": ("RESOURCE_LIMIT_EXCEEDED", "Too many requests."),
    "403_permission": ("NOT_FOUND", "The entity does not exist, or you have no access to it."),
    "token_expired": ("AUTHENTICATION_FAILURE", "The token has expired."),
    "revoked": ("AUTHENTICATION_FAILURE", "The token has been revoked."),
    "500": ("INTERNAL_SERVER_ERROR", "Unexpected execution error."),
    "503": ("SERVICE_UNAVAILABLE", "The service is unavailable."),
}


class _MissingError(Exception):
    """NOT_FOUND."""


class GraphqlDialect:
    """Says no at status 200; the gateway before it, which counts the calls, with a status."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """429 with the true wait."""
        return TTD.throttled(world, call)

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """``internal`` comes with a part of the data beside it; what a code says is no gateway's."""
        plain = TTD.fault(world, rule, call)
        if rule.fault == "internal":
            return _refused("INTERNAL_SERVER_ERROR", "Unexpected execution error.", {"advertiser": None})
        return _refused(*_CODES[rule.fault]) if rule.fault in _CODES else plain

    def unexpected(self, status: int, reason: str) -> web.Response:
        """A path or method that no route takes."""
        return TTD.unexpected(status, reason)


def routes() -> list[Route]:
    """The one address."""
    return [
        Route(
            "ttd.graphql", "POST", "/ttd/graphql", "ttd", "ttd_graphql", answer, GraphqlDialect(), identify, _describe,
            _guard,
        )
    ]  # fmt: skip


async def _describe(_world: World, request: web.Request, call: Call) -> None:
    variables = _body(await request.read()).get("variables")
    named = variables.get("id") if isinstance(variables, dict) else None
    call.account = named if isinstance(named, str) else None


def _guard(world: World, request: web.Request) -> web.Response | None:
    """Without a token the gateway refuses; two, or a dead one, are refused behind it."""
    token = request.headers.get("TTD-Auth", "")
    if user_of(world.ttd.tokens, token) is None:
        return unauthorised()
    if "Authorization" in request.headers:
        return _refused("AUTHENTICATION_FAILURE", "TTD-Auth and Authorization exclude each other.")
    if not is_living(world.ttd.tokens, token, world.now().unix):
        return _refused("AUTHENTICATION_FAILURE", "The token is not valid.")
    return None


async def answer(request: web.Request) -> web.Response:
    """POST graphql."""
    world = request.app[WORLD]
    if request.content_type != "application/json":
        return said(415, "The media type must be application/json.")
    body = _body(await request.read())
    query, variables = body.get("query"), body.get("variables") or {}
    try:
        if not isinstance(query, str) or not isinstance(variables, dict) or set(body) - {"query", "variables"}:
            raise QueryError("a question is an object with query and variables")
        found = {asked.name: _entity(world, asked) for asked in parse_query(query, variables)}
    except QueryError as refused:
        return _refused("VALIDATION_FAILURE", str(refused))
    except _MissingError:
        return _refused("NOT_FOUND", _CODES["403_permission"][1], {"advertiser": None})
    return json_answer({"data": found})


def _body(raw: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(code: str, message: str, data: Any = None) -> web.Response:
    error = {"message": message, "extensions": {"code": code}}
    return json_answer({"errors": [error]} | ({} if data is None else {"data": data}))


def _entity(world: World, asked: Selection) -> dict[str, Any]:
    name = asked.arguments.get("id")
    if asked.name == "campaign":
        match = _CAMPAIGN.fullmatch(str(name))
        if match is None or int(match[2]) >= campaigns_in(world.ttd, int(match[1])):
            raise _MissingError
        return _campaign(world, advertiser(world.settings.seed, int(match[1])), int(match[2]), asked.fields)
    number = number_of(name)
    if number is None:
        raise _MissingError
    account = advertiser(world.settings.seed, number)
    known: dict[str, Any] = {"id": account.advertiser_id, "name": account.name}
    return {
        field.name: _campaigns(world, account, field)
        if field.name == "campaigns"
        else _reporting(world, account, None, field.fields)
        if field.name == "reporting"
        else known[field.name]
        for field in asked.fields
    }


def _campaigns(world: World, account: Advertiser, asked: Selection) -> dict[str, Any]:
    """A page of campaigns; a cursor is the number of the last one."""
    first, after = asked.arguments.get("first"), asked.arguments.get("after")
    if not isinstance(first, int) or not 1 <= first <= _MOST_FIRST:
        raise QueryError(f"first must be 1 to {_MOST_FIRST}")
    if after is not None and not re.fullmatch(r"k[0-9]{1,7}", str(after)):
        raise QueryError("after is no cursor of this list")
    begin = 0 if after is None else int(str(after)[1:]) + 1
    count = campaigns_in(world.ttd, account.number)
    end = min(begin + first, count)
    page = {"hasNextPage": end < count, "endCursor": f"k{end - 1}" if end > begin else None}
    return {
        field.name: [_campaign(world, account, index, field.fields) for index in range(begin, end)]
        if field.name == "nodes"
        else {one.name: page[one.name] for one in field.fields}
        for field in asked.fields
    }


def _campaign(world: World, account: Advertiser, index: int, fields: tuple[Selection, ...]) -> dict[str, Any]:
    known = {"id": f"c{account.number}x{index}", "name": campaign_name(index)}
    return {
        field.name: _reporting(world, account, index, field.fields) if field.name == "reporting" else known[field.name]
        for field in fields
    }


def _reporting(world: World, account: Advertiser, index: int | None, fields: tuple[Selection, ...]) -> dict[str, Any]:
    """The figures of a campaign, or without ``index`` of the whole account, as they are now."""
    return {asked.name: _figures(world, account, index, asked) for asked in fields}


def _figures(world: World, account: Advertiser, index: int | None, asked: Selection) -> dict[str, Any]:
    start, end = _range(world, asked.arguments.get("where"))
    rows = list(_rows(world, account, index, start, end))
    page = {"hasNextPage": False, "endCursor": None}
    return {
        field.name: [_day(row, field.fields) for row in rows]
        if field.name == "nodes"
        else {one.name: page[one.name] for one in field.fields}
        for field in asked.fields
    }


def _rows(world: World, account: Advertiser, index: int | None, start: date, end: date) -> Iterator[TruthRow]:
    seed, revisions = world.settings.seed, partial(revision_of, world.ttd, account.number)
    if index is not None:
        yield from campaign_rows(seed, account, _ZONE, start, end, index, revisions)
        return
    rows = truth_rows(seed, account, _ZONE, start, end, campaigns_in(world.ttd, account.number), revisions)
    for _, of_day in groupby(rows, key=lambda row: row.day):
        yield sum_of(list(of_day))


def _day(row: TruthRow, fields: tuple[Selection, ...]) -> dict[str, Any]:
    """Decimals as the numbers they are, exactly."""
    values: dict[str, Any] = {
        "day": f"{row.day.isoformat()}T00:00:00.000Z",
        "impressions": row.impressions,
        "clicks": row.clicks,
        "conversions": orjson.Fragment(f"{row.conversions:f}"),
        "advertiserCurrency": orjson.Fragment(f"{row.cost:f}"),
    }

    def shown(asked: Selection) -> Any:
        return {one.name: shown(one) for one in asked.fields} if asked.fields else values[asked.name]

    return {asked.name: shown(asked) for asked in fields}


def _range(world: World, where: Any) -> tuple[date, date]:
    """The days whose midnight is in the range, both ends of it included."""
    dates = where.get("date") if isinstance(where, dict) and set(where) == {"date"} else None
    if not isinstance(dates, dict) or set(dates) != {"gte", "lte"}:
        raise QueryError("where must be a date with gte and lte")
    begin, until = _instant(dates["gte"]), _instant(dates["lte"])
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight.date() if midnight == begin else midnight.date() + timedelta(days=1)
    if start > until.date():
        raise QueryError("gte must not be after lte")
    if start < months_before(today_in(_ZONE, world.now().unix), _MONTHS):
        raise QueryError("days are kept for a year")
    return start, until.date()


def _instant(text: Any) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise QueryError("a DateTime has a zone")
    return at.astimezone(UTC)
