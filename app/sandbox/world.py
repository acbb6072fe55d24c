"""Everything one running sandbox holds, and what a provider's folder gives the server: a list of routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from aiohttp import web

from app.sandbox.books import Books
from app.sandbox.call_log import Call, CallLog, open_log
from app.sandbox.clock import Clock, Instant, system_clock
from app.sandbox.dv360.state import Dv360State
from app.sandbox.dv360.state import new_state as new_dv360
from app.sandbox.faults import FaultRule
from app.sandbox.google_oauth.state import OAuthState, new_oauth
from app.sandbox.meta.state import MetaState, new_meta
from app.sandbox.quotas import QuotaState, new_quotas
from app.sandbox.settings import SandboxSettings
from app.sandbox.sheets.spreadsheets import SheetsState
from app.sandbox.ttd import state as ttd_state


@dataclass(slots=True)
class World:
    """The one mutable thing routes share. ``settings`` is replaced when something is changed at run time; ``ads`` are
    the books of Google Ads, whose accounts are customers."""

    settings: SandboxSettings
    clock: Clock
    log: CallLog
    quotas: QuotaState
    oauth: OAuthState
    dv360: Dv360State
    ads: Books
    ttd: ttd_state.TtdState
    meta: MetaState
    meta_oauth: OAuthState
    sheets: SheetsState = field(default_factory=SheetsState)
    faults: tuple[FaultRule, ...] = ()
    api_url: str = ""
    storage_url: str = ""

    def now(self) -> Instant:
        """Both clocks, read now."""
        return self.clock()


def new_world(settings: SandboxSettings, clock: Clock = system_clock) -> World:
    """A fresh world; opens the log file if there is one."""
    return World(
        settings,
        clock,
        open_log(settings.log),
        new_quotas(settings.quotas),
        new_oauth(settings.seed, settings.clients, settings.expires_in),
        new_dv360(clock().unix, settings.campaigns, settings.report_duration, settings.quirks),
        Books(campaigns=settings.campaigns),
        ttd_state.new_state(settings.seed, clock().unix, settings.campaigns, settings.report_duration),
        new_meta(clock().unix, settings.campaigns, settings.report_duration),
        new_oauth(settings.seed, settings.clients, settings.meta_expires_in),
    )


def reset_world(world: World) -> None:
    """Forget queries, counts, faults, revocations, restatements and the calls in memory; settings stay as they are now.
    The log file and its numbering go on, and so do ids, so that nothing old can be mistaken for something new."""
    next_id, duration, quirks = world.dv360.next_id, world.dv360.duration, world.dv360.quirks
    world.quotas = new_quotas(tuple(world.quotas.rules.values()))
    world.oauth = new_oauth(world.settings.seed, world.settings.clients, world.oauth.expires_in)
    world.dv360 = replace(new_dv360(0, world.dv360.campaigns, duration, quirks), next_id=next_id)
    world.ads = Books(campaigns=world.ads.campaigns)
    world.ttd = ttd_state.emptied(world.ttd, world.settings.seed)
    world.meta = replace(new_meta(0, world.meta.campaigns, world.meta.duration), next_id=world.meta.next_id)
    world.meta_oauth = new_oauth(world.settings.seed, world.settings.clients, world.meta_oauth.expires_in)
    world.sheets = SheetsState(world.sheets.leads)
    world.faults = ()
    world.log.calls.clear()


WORLD = web.AppKey("world", World)
CALL: web.RequestKey[Call] = web.RequestKey("call", Call)
FAULT: web.RequestKey[FaultRule] = web.RequestKey("fault", FaultRule)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dialect(Protocol):
    """How a provider says no. Each method answers the same for every route of the provider."""

    def throttled(self, world: World, call: Call) -> web.Response:
        """The refusal of a call that exceeds the quotas in ``call.over``."""

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """The answer of an error fault; None when the provider knows no such error."""

    def unexpected(self, status: int, reason: str) -> web.Response:
        """The answer for a path, method or body that no route takes."""


@dataclass(frozen=True, slots=True)
class Route:
    """One call a provider offers. ``name`` is what faults are aimed at. ``identify`` notes who calls, from headers and
    path alone, before the quotas are counted; ``describe`` may read the body; ``guard`` refuses the unauthorised.
    ``regroup`` names the quota group in place of ``quota_group`` where the body decides it."""

    name: str
    method: str
    path: str
    provider: str
    quota_group: str
    handler: Handler
    dialect: Dialect
    identify: Callable[[World, web.Request, Call], None] | None = None
    describe: Callable[[World, web.Request, Call], Awaitable[None]] | None = None
    guard: Callable[[World, web.Request], web.Response | None] | None = None
    regroup: Callable[[web.Request], Awaitable[str]] | None = None
