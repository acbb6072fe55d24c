"""``GET /csv/{account}/{report}.csv?start=&end=``: files of any account, for tokens ``sandbox-csv-<user>``. Its figures
follow from seed, account and day alone and are never restated."""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.figures import add, campaign_name, metrics_of
from app.sandbox.world import WORLD, Route, World

ROOT = "/csv"
REPORTS = ("campaign_performance", "account_performance")
_HEADER = ("date", "id", "name", "impressions", "clicks", "cost")
_TOKEN = re.compile(r"Bearer sandbox-csv-(?P<user>[A-Za-z0-9]{1,40})")
_LIMITED = frozenset({"429", "429_retry_after", "403_rate", "403_user_rate", "403_daily", "ads_temporary", "ads_daily"})
_REFUSED = {"403_permission": 403, "token_expired": 401, "revoked": 401, "internal": 500}
_OWN = 0xC57


@dataclass(frozen=True, slots=True)
class TruthRow:
    """Exact figures of one campaign, or of the account, on one day; ``cost`` to 6 places."""

    day: date
    id: str
    name: str
    impressions: int
    clicks: int
    cost: Decimal


def truth_rows(world: World, account: str, report: str, start: date, end: date) -> Iterator[TruthRow]:
    """Rows for the days ``start`` to ``end`` inclusive."""
    base = world.settings.seed ^ _OWN ^ zlib.crc32(account.encode())
    readers = [metrics_of(base, index) for index in range(world.settings.campaigns)]
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        found = [read(ordinal, 0) for read in readers]
        named = [(f"{account}-{index}", campaign_name(index)) for index in range(len(found))]
        if report == "account_performance" and found:
            total = found[0]
            for one in found[1:]:
                total = add(total, one)
            found, named = [total], [(account, f"Account {account}")]
        for (entity, name), figures in zip(named, found, strict=True):
            cost = Decimal(figures[3]).scaleb(-6)
            yield TruthRow(date.fromordinal(ordinal), entity, name, figures[0], figures[1], cost)


class CsvDialect:
    """Says no with a status and a word of text."""

    def throttled(self, _world: World, _call: Call) -> web.Response:
        """429."""
        return _said(429, 60.0)

    def fault(self, _world: World, rule: FaultRule, _call: Call) -> web.Response | None:
        """The answer of an error fault; what other providers alone can say gets the nearest status."""
        if rule.fault in _LIMITED:
            return _said(429, 60.0 if rule.seconds is None else rule.seconds)
        status = _REFUSED.get(rule.fault) or (int(rule.fault) if rule.fault.isdecimal() else None)
        return None if status is None else _said(status)

    def unexpected(self, status: int, _reason: str) -> web.Response:
        """A path or method that no route takes."""
        return _said(status)


def routes() -> list[Route]:
    """The one call."""
    path = ROOT + r"/{account:[A-Za-z0-9_-]+}/{report:[a-z_]+}.csv"
    return [Route("csv.file", "GET", path, "csv_https", "csv_files", _file, CsvDialect(), _identify, None, _guard)]


def _said(status: int, retry_after_s: float | None = None) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:.0f}"}
    return web.Response(status=status, text=f"{status}\n", headers=headers)


def _user(request: web.Request) -> str | None:
    match = _TOKEN.fullmatch(request.headers.get("Authorization", ""))
    return match["user"] if match else None


def _identify(_world: World, request: web.Request, call: Call) -> None:
    call.application, call.user = "csv", _user(request) or "unauthenticated"
    call.account = request.match_info["account"]


def _guard(_world: World, request: web.Request) -> web.Response | None:
    return None if _user(request) else _said(401)


async def _file(request: web.Request) -> web.Response:
    account, report = request.match_info["account"], request.match_info["report"]
    if report not in REPORTS:
        return _said(404)
    try:
        start, end = (date.fromisoformat(request.query.get(name, "")) for name in ("start", "end"))
    except ValueError:
        return _said(400)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_HEADER)
    for row in truth_rows(request.app[WORLD], account, report, start, end):
        lines.writerow((row.day.isoformat(), row.id, row.name, row.impressions, row.clicks, f"{row.cost:f}"))
    return web.Response(body=out.getvalue().encode(), headers={"Content-Type": "text/csv; charset=utf-8"})
