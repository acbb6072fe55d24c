"""What the control doors say and change of Meta."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import date
from functools import partial
from typing import Any

from app.sandbox.books import campaigns_in, restate, revision_of, set_campaigns
from app.sandbox.meta.figures import TruthRow, truth_rows
from app.sandbox.world import World

_ROWS_PER_TURN = 2_000


def rows_now(world: World, account_id: int, start: date, end: date) -> Iterator[TruthRow]:
    """The rows of an account as they are now."""
    count, revisions = campaigns_in(world.meta, account_id), partial(revision_of, world.meta, account_id)
    return truth_rows(world.settings.seed, account_id, start, end, count, revisions)


async def truth(world: World, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """``ad_account_id``, ``start``, ``end``: the rows as they are now."""
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    rows = []
    for at, row in enumerate(rows_now(world, int(query["ad_account_id"]), start, end)):
        rows.append(truth_json(row))
        if at % _ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    return rows


def truth_json(row: TruthRow) -> dict[str, Any]:
    """One true row; decimals as text."""
    return {
        "date": row.day.isoformat(),
        "ad_account_id": str(row.account_id),
        "currency": row.currency,
        "campaign_id": str(row.campaign_id),
        "campaign_name": row.campaign_name,
        "impressions": row.impressions,
        "clicks": row.clicks,
        "conversions": str(row.purchases),
        "spend": f"{row.spend:f}",
    }


def restate_days(world: World, body: Mapping[str, Any], start: date, end: date) -> None:
    """``ad_account_id``: its days' figures change for runs made from now on."""
    restate(world.meta, int(body["ad_account_id"]), start, end)


def figures(world: World, body: Mapping[str, Any], count: int) -> None:
    """``ad_account_id``?: how many campaigns all accounts, or that one, have."""
    set_campaigns(world.meta, count, int(body["ad_account_id"]) if "ad_account_id" in body else None)
