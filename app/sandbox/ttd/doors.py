"""What the control doors say and change of The Trade Desk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import date
from functools import partial
from typing import Any

from app.sandbox.books import campaigns_in, restate, revision_of, set_campaigns
from app.sandbox.ttd.figures import TruthRow, advertiser, number_of, truth_rows
from app.sandbox.world import World

_ROWS_PER_TURN = 2_000


def true_rows(world: World, advertiser_id: str, time_zone: str, start: date, end: date) -> Iterator[TruthRow]:
    """The rows as they are now, by days of that zone."""
    number = _number(advertiser_id)
    account = advertiser(world.settings.seed, number)
    revisions = partial(revision_of, world.ttd, number)
    count = campaigns_in(world.ttd, number)
    return truth_rows(world.settings.seed, account, time_zone, start, end, count, revisions)


async def truth(world: World, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """``advertiser_id``, ``time_zone``?, ``start``, ``end``: the rows as they are now; days are UTC's if no zone is
    named."""
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    rows = []
    found = true_rows(world, query["advertiser_id"], query.get("time_zone", "UTC"), start, end)
    for at, row in enumerate(found):
        rows.append(truth_json(row))
        if at % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows


def truth_json(row: TruthRow) -> dict[str, Any]:
    """One true row; decimals as text."""
    return {
        "date": row.day.isoformat(),
        "advertiser_id": row.advertiser_id,
        "currency": row.currency,
        "campaign_id": row.campaign_id,
        "campaign_name": row.campaign_name,
        "impressions": row.impressions,
        "clicks": row.clicks,
        "conversions": f"{row.conversions:f}",
        "spend": f"{row.cost:f}",
    }


def restate_days(world: World, body: Mapping[str, Any], start: date, end: date) -> None:
    """``advertiser_id``: its days' figures change for reports scheduled from now on."""
    restate(world.ttd, _number(body["advertiser_id"]), start, end)


def figures(world: World, body: Mapping[str, Any], count: int) -> None:
    """``advertiser_id``?: how many campaigns all advertisers, or that one, have."""
    set_campaigns(world.ttd, count, _number(body["advertiser_id"]) if "advertiser_id" in body else None)


def _number(advertiser_id: Any) -> int:
    number = number_of(advertiser_id)
    if number is None:
        raise ValueError("advertiser_id must be adv and a number")
    return number
