"""What the control doors say and change of Google Ads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any

from app.sandbox.books import restate, set_campaigns
from app.sandbox.google_ads.figures import TruthRow, truth_rows
from app.sandbox.world import World

_ROWS_PER_TURN = 2_000


async def truth(world: World, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """``customer_id``, ``start``, ``end``: the rows as they are now."""
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    rows = []
    for at, row in enumerate(truth_rows(world.ads, world.settings.seed, int(query["customer_id"]), start, end)):
        rows.append(truth_json(row))
        if at % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows


def truth_json(row: TruthRow) -> dict[str, Any]:
    """One true row; decimals as text."""
    return {
        "date": row.day.isoformat(),
        "customer_id": str(row.customer_id),
        "currency": row.currency,
        "campaign_id": str(row.campaign_id),
        "campaign_name": row.campaign_name,
        "campaign_status": row.campaign_status,
        "impressions": row.impressions,
        "clicks": row.clicks,
        "conversions": f"{row.conversions:f}",
        "spend": f"{row.cost:f}",
    }


def restate_days(world: World, body: Mapping[str, Any], start: date, end: date) -> None:
    """``customer_id``: its days' figures change for whoever asks from now on."""
    restate(world.ads, int(body["customer_id"]), start, end)


def figures(world: World, body: Mapping[str, Any], count: int) -> None:
    """``customer_id``?: how many campaigns all customers, or that one, have."""
    set_campaigns(world.ads, count, int(body["customer_id"]) if "customer_id" in body else None)
