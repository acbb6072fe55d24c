"""A sandbox inside the test's own process, with short ways to what a test asks and switches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from app.sandbox import server
from app.sandbox.books import campaigns_in, restate, revision_of
from app.sandbox.call_log import Call
from app.sandbox.clock import Clock, system_clock
from app.sandbox.csv_https.routes import TruthRow as CsvTruthRow
from app.sandbox.csv_https.routes import truth_rows as csv_truth
from app.sandbox.dv360 import doors as dv360
from app.sandbox.dv360.figures import TruthRow, truth_rows
from app.sandbox.dv360.state import Duration
from app.sandbox.faults import FaultRule, parse_rule
from app.sandbox.google_ads.figures import TruthRow as AdsTruthRow
from app.sandbox.google_ads.figures import truth_rows as ads_truth
from app.sandbox.meta import doors as meta
from app.sandbox.meta.figures import TruthRow as MetaTruthRow
from app.sandbox.quotas import change_rule, snapshot
from app.sandbox.settings import SandboxSettings, provider_env
from app.sandbox.sheets.spreadsheets import Sheet, spreadsheet
from app.sandbox.ttd import doors as ttd
from app.sandbox.ttd.figures import TruthRow as TtdTruthRow
from app.sandbox.ttd.tokens import long_lived
from app.sandbox.world import World, reset_world


@dataclass(frozen=True, slots=True)
class Faults:
    """Switches of one sandbox's faults."""

    world: World

    def add(self, route: str, fault: str, **narrowed: Any) -> None:
        """Switch a fault on; the keyword arguments are the keys of ``POST /_sandbox/faults``."""
        rule = parse_rule({"route": route, "fault": fault, **narrowed}, self.world.now().monotonic)
        self.world.faults = (*self.world.faults, rule)

    def clear(self) -> None:
        """Switch all off."""
        self.world.faults = ()

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """Those that are on, with how often they struck."""
        return self.world.faults


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """What a test holds. The same is to be had over HTTP under ``/_sandbox/``."""

    api_url: str
    storage_url: str
    world: World
    faults: Faults

    @property
    def env(self) -> dict[str, str]:
        """The environment that points a worker here."""
        return provider_env(self.api_url, self.storage_url)

    def calls(self, route: str | None = None) -> list[Call]:
        """Calls so far in order of arrival, all or those of one route."""
        return [call for call in self.world.log.calls if route in (None, call.route)]

    async def arrived(self, route: str, count: int = 1, timeout_s: float = 10.0) -> list[Call]:
        """Wait until ``count`` calls of a route have arrived, answered or not; TimeoutError when they do not come."""
        async with asyncio.timeout(timeout_s):
            while len(self.calls(route)) < count:
                self.world.log.changed.clear()
                await self.world.log.changed.wait()
        return self.calls(route)

    def quotas(self) -> list[dict[str, Any]]:
        """One row per bucket."""
        return snapshot(self.world.quotas)

    def set_quota(self, name: str, limit: int | None, period_s: float | None = None) -> None:
        """Another limit from now on; None lifts it."""
        change_rule(self.world.quotas, name, limit, period_s)

    def set_duration(self, duration: Duration) -> None:
        """How long reports run from now on take."""
        self.world.dv360.duration = self.world.ttd.duration = self.world.meta.duration = duration

    def restate(self, advertiser_id: int, start: date, end: date) -> None:
        """Change the figures of these days, both included."""
        restate(self.world.dv360, advertiser_id, start, end)

    def restate_ads(self, customer_id: int, start: date, end: date) -> None:
        """The same of a Google Ads account."""
        restate(self.world.ads, customer_id, start, end)

    def restate_meta(self, account_id: int, start: date, end: date) -> None:
        """The same of a Meta ad account."""
        restate(self.world.meta, account_id, start, end)

    def reports(self) -> list[dict[str, Any]]:
        """Every report, as ``GET /_sandbox/reports`` shows it."""
        return dv360.reports(self.world)

    def truth(self, advertiser_id: int, start: date, end: date) -> list[TruthRow]:
        """The rows as they are now."""
        known, seed = self.world.dv360, self.world.settings.seed
        count = campaigns_in(known, advertiser_id)
        return list(truth_rows(seed, advertiser_id, start, end, count, partial(revision_of, known, advertiser_id)))

    def ads_truth(self, customer_id: int, start: date, end: date) -> list[AdsTruthRow]:
        """The rows of a Google Ads account as they are now."""
        return list(ads_truth(self.world.ads, self.world.settings.seed, customer_id, start, end))

    def meta_truth(self, account_id: int, start: date, end: date) -> list[MetaTruthRow]:
        """The rows of a Meta ad account as they are now."""
        return list(meta.rows_now(self.world, account_id, start, end))

    def meta_token(self, user: str) -> str:
        """A Meta token of that user, which works as it is and may be exchanged."""
        return f"EAAsandbox-{user}"

    def ttd_truth(self, advertiser_id: str, time_zone: str, start: date, end: date) -> list[TtdTruthRow]:
        """The rows of an advertiser of The Trade Desk as they are now, by days of that zone."""
        return list(ttd.true_rows(self.world, advertiser_id, time_zone, start, end))

    def restate_ttd(self, advertiser_id: str, start: date, end: date) -> None:
        """Change the figures of these days, both included."""
        ttd.restate_days(self.world, {"advertiser_id": advertiser_id}, start, end)

    def sheet(self, spreadsheet_id: str, title: str) -> Sheet:
        """A sheet as it is now; what a test sets in its cells is there for whoever reads next."""
        found = spreadsheet(self.world.sheets, self.world.settings.seed, spreadsheet_id).sheet(title)
        assert found is not None, title
        return found

    def ttd_token(self, user: str) -> str:
        """The long-lived token of that user."""
        return long_lived(self.world.ttd.tokens, user)

    def csv_truth(self, account: str, report: str, start: date, end: date) -> list[CsvTruthRow]:
        """The rows of an account of the CSV server."""
        return list(csv_truth(self.world, account, report, start, end))

    def csv_token(self, user: str) -> str:
        """The CSV server's token of that user."""
        return f"sandbox-csv-{user}"

    def refresh_token(self, user: str) -> str:
        """The consent of that user."""
        return f"1//sandbox-{user}"

    def reset(self) -> None:
        """Back to an empty provider."""
        reset_world(self.world)


@asynccontextmanager
async def running_sandbox(
    settings: SandboxSettings | None = None, clock: Clock = system_clock
) -> AsyncIterator[RunningSandbox]:
    """Start a sandbox on free ports, stop it at the end."""
    running = await server.start_sandbox(settings or SandboxSettings(), clock)
    try:
        yield RunningSandbox(running.api_url, running.storage_url, running.world, Faults(running.world))
    finally:
        await running.stop()
