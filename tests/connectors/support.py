"""What the tests of connectors share: offers, fakes of the ports they use, and a small server to call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from aiohttp import web

from app.connectors.base import Limits, ProviderHttp
from app.connectors.hosts import Hosts
from app.connectors.session import provider_session
from app.domain.errors import PermitDenied
from app.domain.messages import Offer
from app.domain.model import ConnectorFacts
from app.ports import Ended, Permit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
START = date(2026, 11, 1).toordinal()
END = date(2026, 11, 7).toordinal()
LINE_NAMES = ["Date", "Advertiser ID", "Advertiser Currency", "Campaign ID", "Campaign"]
HEADER = [*LINE_NAMES, "Impressions", "Clicks", "Total Conversions", "Revenue (Adv Currency)"]
FOOTER = "\nReport Time:,2026/11/08 10:00 GMT\nDate Range:,2026/11/01 to 2026/11/07\nGroup By:,Date\n"


def facts(**changes: Any) -> ConnectorFacts:
    known: dict[str, Any] = {
        "connector_id": "conn_" + "1" * 32,
        "org_id": 7,
        "connector_type": "DV360",
        "account_id": "4567",
        "grant_id": "grant_" + "2" * 32,
        "subject": "ana",
        "time_zone": "Europe/Madrid",
        "currency": "EUR",
    }
    return ConnectorFacts(**(known | changes))


def offer(step: str = "poll", **changes: Any) -> Offer:
    known: dict[str, Any] = {
        "batch_id": "bat_" + "a" * 32,
        "epoch": 3,
        "step_no": 1,
        "step": step,
        "run": 1,
        "connector": facts(),
        "report_type": "campaign_performance",
        "start": START,
        "end": END,
        "fields": (),
        "priority_class": 2,
        "remote": {"query_id": "11", "report_id": "22"} if step == "poll" else None,
    }
    return Offer(**(known | changes))


class TestClock:
    """Real time, plus what a test adds to it."""

    __test__ = False

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> int:
        return int((time.time() + self.ahead_s) * 1000)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class CountingPermits:
    """Grants everything: the first ``stale`` permits are too old already; ``denied`` refuses instead."""

    clock: TestClock
    stale: int = 0
    denied: PermitDenied | None = None
    asked: list[tuple[str, bool]] = field(default_factory=list)
    outstanding: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    ends: list[Ended | None] = field(default_factory=list)

    async def take(self, charge: str, *, data: bool = False) -> Permit:
        if self.denied is not None:
            raise self.denied
        self.asked.append((charge, data))
        ask_id = f"ask-{len(self.asked)}"
        self.outstanding.append(ask_id)
        spare = 0.0 if len(self.asked) <= self.stale else 10.0
        return Permit(ask_id, self.clock.monotonic() + spare)

    def give_back(self, permit: Permit, ended: Ended | None = None) -> None:
        self.outstanding.remove(permit.ask_id)
        self.returned.append(permit.ask_id)
        self.ends.append(ended)


@dataclass
class Tokens:
    """Hands out ``tokens`` in turn: the next one each time the last was rejected."""

    tokens: tuple[str, ...] = ("token-one", "token-two", "token-three")
    rejected: list[str] = field(default_factory=list)

    async def access_token(self, org_id: int, grant_id: str, *, rejected: str | None = None) -> str:
        if rejected is not None:
            self.rejected.append(rejected)
        return self.tokens[len(self.rejected)]


@dataclass
class Setting:
    """One step's calls against a local server, with every fake at hand."""

    base: str
    calls: ProviderHttp
    permits: CountingPermits
    tokens: Tokens
    clock: TestClock
    points: list[str]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    """A server on a free port of this machine that answers everything with ``handler``; gives its base URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling(handler: Handler, *, limits: Limits | None = None, **changes: Any) -> AsyncIterator[Setting]:
    """``ProviderHttp`` against ``handler``; ``changes`` replace parts of it."""
    async with server(handler) as base:
        hosts = Hosts(api=(base + "/",), downloads=(base.removeprefix("http://"),), allow_private=True)
        async with provider_session(hosts.private_names()) as session:
            clock = TestClock()
            permits, tokens, points = CountingPermits(clock), Tokens(), list[str]()
            known: dict[str, Any] = {
                "session": session, "permits": permits, "tokens": tokens, "clock": clock, "offer": offer(),
                "hosts": hosts, "limits": limits, "crash": points.append,
            }  # fmt: skip
            yield Setting(base, ProviderHttp(**(known | changes)), permits, tokens, clock, points)


def answers(*statuses: int, seen: list[web.Request] | None = None) -> Handler:
    """A handler that answers these statuses in turn, the last one for ever."""
    left = list(statuses)

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        if seen is not None:
            seen.append(request)
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text=f"answer {status}")

    return handle


async def get(setting: Setting, **options: Any) -> Any:
    return await setting.calls.request("GET", f"{setting.base}/a", charge="reports", **options)


async def reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def report_text(rows: list[list[str]], totals: list[str] | None = None, footer: str = FOOTER) -> str:
    """A report file. Without ``totals`` the counts have their sums and the other metrics ``-``."""
    if totals is None:
        totals = [str(sum(int(row[5]) for row in rows)), str(sum(int(row[6]) for row in rows)), "-", "-"]
    lines = [HEADER, *rows, ["", "", "", "", "", *totals]]
    return "".join(",".join(cells) + "\n" for cells in lines) + footer


def row(day: int, campaign: str = "9", **changes: str) -> list[str]:
    cells = {"Date": f"2026/11/{day:02d}", "Advertiser ID": "4567", "Advertiser Currency": "EUR"}
    cells |= {"Campaign ID": campaign, "Campaign": f"Campaign {campaign}", "Impressions": "120", "Clicks": "3"}
    cells |= {"Total Conversions": "1.5", "Revenue (Adv Currency)": "12.345678"} | changes
    return [cells[name] for name in HEADER]


async def pieces_of(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]
