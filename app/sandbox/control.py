"""The sandbox's own doors under ``/_sandbox/``: what arrived, what is true, and what shall go wrong. Never logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import calls_since
from app.sandbox.dv360 import doors as dv360
from app.sandbox.faults import parse_rule
from app.sandbox.google_ads import doors as google_ads
from app.sandbox.google_errors import json_answer
from app.sandbox.meta import doors as meta
from app.sandbox.quotas import change_rule, snapshot
from app.sandbox.sheets import doors as sheets
from app.sandbox.ttd import doors as ttd
from app.sandbox.world import WORLD, World, reset_world

Door = Callable[[World, web.Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Provider:
    """What one provider does at the doors that all have in common."""

    truth: Callable[[World, Mapping[str, str]], Awaitable[list[dict[str, Any]]]]
    restate: Callable[[World, Mapping[str, Any], date, date], None]
    figures: Callable[[World, Mapping[str, Any], int], None]


_PROVIDERS: Mapping[str, _Provider] = {
    "dv360": _Provider(dv360.truth, dv360.restate_days, dv360.figures),
    "google_ads": _Provider(google_ads.truth, google_ads.restate_days, google_ads.figures),
    "ttd": _Provider(ttd.truth, ttd.restate_days, ttd.figures),
    "meta": _Provider(meta.truth, meta.restate_days, meta.figures),
    "sheets": _Provider(sheets.truth, sheets.restate_days, sheets.figures),
}


def _provider(name: str | None) -> _Provider:
    """DV360 unless another is named, as before there was another."""
    return _PROVIDERS[name or "dv360"]


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
    """``?provider=&start=&end=`` and whose: the rows as they are now; what else it takes is the provider's affair."""
    return {"rows": await _provider(request.query.get("provider")).truth(world, request.query)}


async def reports(world: World, _request: web.Request) -> Any:
    """Every report of DV360, oldest first."""
    return {"reports": dv360.reports(world)}


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
    """``{"provider"?, "start", "end"}`` and whose: these days' figures change for whoever asks from now on."""
    body = await _record(request)
    start, end = date.fromisoformat(body["start"]), date.fromisoformat(body["end"])
    _provider(body.get("provider")).restate(world, body, start, end)
    return {"days": end.toordinal() - start.toordinal() + 1}


async def durations(world: World, request: web.Request) -> Any:
    """``reports``: {seconds} | {polls} | {median_s, sigma}; ``expires_in``, ``link_seconds``, ``latency_s`` seconds."""
    body = await _record(request)
    if unknown := set(body) - {"reports", "expires_in", "link_seconds", "latency_s"}:
        raise ValueError(f"unknown: {sorted(unknown)}")
    if "reports" in body:
        duration = dv360.duration_of(body["reports"])
        world.dv360.duration = world.ttd.duration = world.meta.duration = duration
    world.oauth.expires_in = int(body.get("expires_in", world.oauth.expires_in))
    spans: dict[str, Any] = {key: float(body[key]) for key in ("link_seconds", "latency_s") if key in body}
    world.settings = replace(world.settings, **spans)
    return {"reports": asdict(world.dv360.duration), "expires_in": world.oauth.expires_in} | spans


async def figures(world: World, request: web.Request) -> Any:
    """``{"provider"?, "campaigns": n}`` and whose?: how many campaigns all accounts, or that one, have."""
    body = await _record(request)
    count = int(body["campaigns"])
    _provider(body.get("provider")).figures(world, body, count)
    return {"campaigns": count}


async def quirks(world: World, request: web.Request) -> Any:
    """``{"dash"?, "unknown"?, "threshold"?}``: oddities of DV360's cells, all of them as said here."""
    return dv360.quirks(world, await _record(request))


async def reset(world: World, _request: web.Request) -> Any:
    """Back to an empty provider."""
    reset_world(world)
    return {}


async def _record(request: web.Request) -> dict[str, Any]:
    body = orjson.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("expected an object")
    return body
