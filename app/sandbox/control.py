"""The sandbox's own doors under ``/_sandbox/``: what arrived, what is true, and what shall go wrong. Never logged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import calls_since
from app.sandbox.dv360 import state as dv360
from app.sandbox.dv360.figures import TruthRow, truth_rows
from app.sandbox.dv360.state import Duration, Fixed, Lognormal, Polls, Quirks, Report
from app.sandbox.faults import parse_rule
from app.sandbox.google_errors import json_answer
from app.sandbox.quotas import change_rule, snapshot
from app.sandbox.world import WORLD, World, reset_world

Door = Callable[[World, web.Request], Awaitable[Any]]
_ROWS_PER_TURN = 2_000


def doors() -> list[web.RouteDef]:
    """All control routes."""
    listed: list[tuple[str, str, Door]] = [
        ("GET", "calls", calls),
        ("GET", "quotas", quotas),
        ("POST", "quotas", change_quotas),
        ("GET", "truth", truth),
        ("GET", "reports", reports),
        ("GET", "faults", faults),
        ("POST", "faults", add_faults),
        ("DELETE", "faults", clear_faults),
        ("POST", "restate", restate),
        ("POST", "durations", durations),
        ("POST", "figures", figures),
        ("POST", "quirks", quirks),
        ("POST", "reset", reset),
    ]
    return [web.route(method, f"/_sandbox/{name}", _open(door)) for method, name, door in listed]


def _open(door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return json_answer(await door(request.app[WORLD], request))
        except (KeyError, TypeError, ValueError) as wrong:
            return json_answer({"error": f"{type(wrong).__name__}: {wrong}"}, 400)

    return answer


async def calls(world: World, request: web.Request) -> Any:
    """``?since=N``: calls numbered after N; ``status`` null for those still under way."""
    return {"calls": calls_since(world.log, int(request.query.get("since", "0")))}


async def quotas(world: World, _request: web.Request) -> Any:
    """Per bucket: limit, period, fullest window so far, calls over it."""
    return {"quotas": snapshot(world.quotas)}


async def change_quotas(world: World, request: web.Request) -> Any:
    """``{"quotas": {name: {"limit": n | null, "period_s"?}}, "dialect"?: "429" | "403", "enforce"?: bool}``."""
    body = await _record(request)
    unknown = set(body.get("quotas", {})) - set(world.quotas.rules)
    if unknown or set(body) - {"quotas", "dialect", "enforce"} or body.get("dialect", "429") not in ("429", "403"):
        raise ValueError(f"unknown: {sorted(unknown) or sorted(body)}; quotas are {sorted(world.quotas.rules)}")
    for name, change in body.get("quotas", {}).items():
        change_rule(world.quotas, name, _limit(change["limit"]), change.get("period_s"))
    known = {key: body[key] for key in ("dialect", "enforce") if key in body}
    world.settings = replace(world.settings, **known)
    return {"quotas": {name: asdict(rule) for name, rule in world.quotas.rules.items()}}


def _limit(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and value >= 0):
        return value
    raise ValueError("limit must be a whole number or null")


async def truth(world: World, request: web.Request) -> Any:
    """``?advertiser_id=&start=&end=``: the rows as they are now; with ``&report_id=`` as that report was run with."""
    advertiser_id = int(request.query["advertiser_id"])
    start, end = (date.fromisoformat(request.query[name]) for name in ("start", "end"))
    report = _report(world, int(request.query["report_id"])) if "report_id" in request.query else None
    if report is not None:
        count = report.campaigns.get(advertiser_id, 0)
    else:
        count = world.dv360.campaigns_of.get(advertiser_id, world.dv360.campaigns)

    def revision(day: int) -> int:
        known = world.dv360.revisions if report is None else report.revisions
        return known.get((advertiser_id, day), 0)

    rows = []
    for at, row in enumerate(truth_rows(world.settings.seed, advertiser_id, start, end, count, revision)):
        rows.append(truth_json(row))
        if at % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return {"rows": rows}


def truth_json(row: TruthRow) -> dict[str, Any]:
    """One true row; decimals as text."""
    return {
        "date": row.day.isoformat(),
        "advertiser_id": str(row.advertiser_id),
        "currency": row.currency,
        "campaign_id": str(row.campaign_id),
        "campaign_name": row.campaign_name,
        "impressions": row.impressions,
        "clicks": row.clicks,
        "conversions": f"{row.conversions:f}",
        "spend": f"{row.revenue:f}",
        "media_cost": f"{row.media_cost:f}",
        "billable_impressions": row.billable_impressions,
    }


def _report(world: World, report_id: int) -> Report:
    for known in world.dv360.reports.values():
        if report_id in known:
            return known[report_id]
    raise KeyError("report_id")


async def reports(world: World, _request: web.Request) -> Any:
    """Every report, oldest first."""
    now = world.now().unix
    return {"reports": [report_row(one, now) for known in world.dv360.reports.values() for one in known.values()]}


def report_row(report: Report, now: float) -> dict[str, Any]:
    """What the checker wants to know of a report."""
    return {
        "query_id": str(report.query_id),
        "report_id": str(report.report_id),
        "title": report.title,
        "user": report.user,
        "start": report.start.isoformat(),
        "end": report.end.isoformat(),
        "state": dv360.state_of(report, now),
        "created": datetime.fromtimestamp(report.created_at, UTC).isoformat(),
        "created_at": report.created_at,
        "polls": report.polls,
    }


async def faults(world: World, _request: web.Request) -> Any:
    """The faults that are on, with their counts."""
    return {"faults": [asdict(rule) for rule in world.faults]}


async def add_faults(world: World, request: web.Request) -> Any:
    """One fault or a list of them, after those that are on."""
    body = orjson.loads(await request.read())
    rules = [parse_rule(one, world.now().monotonic) for one in (body if isinstance(body, list) else [body])]
    world.faults = (*world.faults, *rules)
    return await faults(world, request)


async def clear_faults(world: World, _request: web.Request) -> Any:
    """All faults off."""
    world.faults = ()
    return {"faults": []}


async def restate(world: World, request: web.Request) -> Any:
    """``{"advertiser_id", "start", "end"}``: these days' figures change for reports run from now on."""
    body = await _record(request)
    start, end = date.fromisoformat(body["start"]), date.fromisoformat(body["end"])
    dv360.restate(world.dv360, int(body["advertiser_id"]), start, end)
    return {"days": end.toordinal() - start.toordinal() + 1}


async def durations(world: World, request: web.Request) -> Any:
    """``reports``: {seconds} | {polls} | {median_s, sigma}; ``expires_in``, ``link_seconds``, ``latency_s`` seconds."""
    body = await _record(request)
    if unknown := set(body) - {"reports", "expires_in", "link_seconds", "latency_s"}:
        raise ValueError(f"unknown: {sorted(unknown)}")
    if "reports" in body:
        world.dv360.duration = duration_of(body["reports"])
    world.oauth.expires_in = int(body.get("expires_in", world.oauth.expires_in))
    spans: dict[str, Any] = {key: float(body[key]) for key in ("link_seconds", "latency_s") if key in body}
    world.settings = replace(world.settings, **spans)
    return {"reports": asdict(world.dv360.duration), "expires_in": world.oauth.expires_in} | spans


def duration_of(body: dict[str, Any]) -> Duration:
    """A duration from its JSON; TypeError or ValueError when it is none."""
    match sorted(body):
        case ["seconds"]:
            return Fixed(float(body["seconds"]))
        case ["polls"]:
            return Polls(int(body["polls"]))
        case ["median_s", "sigma"]:
            return Lognormal(float(body["median_s"]), float(body["sigma"]))
    raise ValueError("reports takes seconds, polls, or median_s with sigma")


async def figures(world: World, request: web.Request) -> Any:
    """``{"campaigns": n, "advertiser_id"?}``: how many campaigns all advertisers, or that one, have."""
    body = await _record(request)
    count = int(body["campaigns"])
    if not 0 <= count < 1_000_000:
        raise ValueError("campaigns must be below a million")
    if "advertiser_id" in body:
        world.dv360.campaigns_of[int(body["advertiser_id"])] = count
    else:
        world.dv360.campaigns = count
    return {"campaigns": count}


async def quirks(world: World, request: web.Request) -> Any:
    """``{"dash"?, "unknown"?, "threshold"?}``: oddities of cells, all of them as said here."""
    world.dv360.quirks = Quirks(**await _record(request))
    return asdict(world.dv360.quirks)


async def reset(world: World, _request: web.Request) -> Any:
    """Back to an empty provider."""
    reset_world(world)
    return {}


async def _record(request: web.Request) -> dict[str, Any]:
    body = orjson.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("expected an object")
    return body
