"""What the control doors say and change of DV360: the truth, the reports, the figures and their oddities."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from app.sandbox.books import campaigns_in, restate, set_campaigns
from app.sandbox.dv360 import state as dv360
from app.sandbox.dv360.figures import TruthRow, truth_rows
from app.sandbox.dv360.state import Duration, Fixed, Lognormal, Polls, Quirks, Report
from app.sandbox.world import World

_ROWS_PER_TURN = 2_000


async def truth(world: World, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """``advertiser_id``, ``start``, ``end``: the rows as they are now; with ``report_id`` as that report has them."""
    advertiser_id = int(query["advertiser_id"])
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    report = _report(world, int(query["report_id"])) if "report_id" in query else None
    count = campaigns_in(world.dv360, advertiser_id) if report is None else report.campaigns.get(advertiser_id, 0)
    known = world.dv360.revisions if report is None else report.revisions

    def revision(day: int) -> int:
        return known.get((advertiser_id, day), 0)

    rows = []
    for at, row in enumerate(truth_rows(world.settings.seed, advertiser_id, start, end, count, revision)):
        rows.append(truth_json(row))
        if at % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows


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


def reports(world: World) -> list[dict[str, Any]]:
    """Every report, oldest first."""
    now = world.now().unix
    return [report_row(one, now) for known in world.dv360.reports.values() for one in known.values()]


def report_row(report: Report, now: float) -> dict[str, Any]:
    """What the checker wants to know of a report."""
    return {
        "query_id": str(report.query_id),
        "report_id": str(report.report_id),
        "title": report.title,
        "accounts": [str(one) for one in report.campaigns],
        "user": report.user,
        "start": report.start.isoformat(),
        "end": report.end.isoformat(),
        "state": dv360.state_of(report, now),
        "created": datetime.fromtimestamp(report.created_at, UTC).isoformat(),
        "created_at": report.created_at,
        "polls": report.polls,
    }


def restate_days(world: World, body: Mapping[str, Any], start: date, end: date) -> None:
    """``advertiser_id``: its days' figures change for reports run from now on."""
    restate(world.dv360, int(body["advertiser_id"]), start, end)


def figures(world: World, body: Mapping[str, Any], count: int) -> None:
    """``advertiser_id``?: how many campaigns all advertisers, or that one, have."""
    set_campaigns(world.dv360, count, int(body["advertiser_id"]) if "advertiser_id" in body else None)


def quirks(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """``dash``?, ``unknown``?, ``threshold``?: oddities of cells, all of them as said here."""
    world.dv360.quirks = Quirks(**body)
    return asdict(world.dv360.quirks)


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
