"""The rows of a run, page by page.

A cursor is a place in the grid of days and campaigns, so that a page costs what it shows. Metrics are texts; one of
zero is left out, and so are ``actions`` where there are none. ``actions`` count one purchase under three names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from app.sandbox.figures import campaign_name
from app.sandbox.meta.accounts import account_of
from app.sandbox.meta.figures import Figures, campaign_id, readers, shown
from app.sandbox.meta.state import Run

USUAL = 25
"""Rows of a page that names no limit."""
_PURCHASES = ("purchase", "omni_purchase", "offsite_conversion.fb_pixel_purchase")


def cells(seed: int, run: Run, start: int, whole: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(place, row) of what lies at or after the place ``start``; ``whole`` False leaves out the second half."""
    asked = run.question
    days = asked.end.toordinal() - asked.start.toordinal() + 1
    known = readers(seed, asked.account_id, run.campaigns)
    width = run.campaigns if asked.level == "campaign" else 1
    last = days * width if whole else days * width // 2
    for at in range(start, last):
        day, index = asked.start.toordinal() + at // width, at % width
        revision = run.revisions.get(day, 0)
        chosen = [known[index]] if asked.level == "campaign" else known
        found = [shown(read(day, revision)) for read in chosen]
        figures: Figures = (
            sum(one[0] for one in found),
            sum(one[1] for one in found),
            sum(one[2] for one in found),
            sum(one[3] for one in found),
        )
        if figures[0]:
            yield at, _row(seed, run, day, index, figures)


def page(
    found: Iterator[tuple[int, dict[str, Any]]], limit: int
) -> tuple[list[Mapping[str, Any]], Mapping[str, str], int | None]:
    """(rows, cursors, place of the next page or None)."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for place, row in found:
        if len(rows) == limit:
            return [one for _, one in rows], _cursors(rows), place
        rows.append((place, row))
    return [one for _, one in rows], _cursors(rows), None


def cursor(place: int) -> str:
    """A place as the provider shows it."""
    return base64.urlsafe_b64encode(f"at:{place}".encode()).decode().rstrip("=") + "ZD"


def place_of(text: str) -> int:
    """The place after which a cursor stands, -1 for none; ValueError when it is not one of ours."""
    if not text:
        return -1
    try:
        body = text.removesuffix("ZD")
        prefix, _, place = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode().partition(":")
        if prefix == "at":
            return int(place)
    except (binascii.Error, UnicodeDecodeError):
        pass
    raise ValueError("after is not a cursor of this list")


def _cursors(rows: Sequence[tuple[int, Any]]) -> Mapping[str, str]:
    return {"before": cursor(rows[0][0]), "after": cursor(rows[-1][0])} if rows else {}


def _row(seed: int, run: Run, day: int, index: int, figures: Figures) -> dict[str, Any]:
    asked = run.question
    account = account_of(seed, asked.account_id)
    impressions, clicks, purchases, cents = figures
    written = {
        "account_id": str(asked.account_id),
        "account_name": account.name,
        "account_currency": account.currency,
        "campaign_id": str(campaign_id(asked.account_id, index)),
        "campaign_name": campaign_name(index),
        "impressions": str(impressions) if impressions else None,
        "clicks": str(clicks) if clicks else None,
        "spend": f"{cents // 100}.{cents % 100:02d}".removesuffix("0").removesuffix(".0") if cents else None,
        "actions": _actions(clicks, purchases),
    }
    on = date.fromordinal(day).isoformat()
    kept = {name: value for name, value in written.items() if name in asked.fields and value is not None}
    return kept | {"date_start": on, "date_stop": on}


def _actions(clicks: int, purchases: int) -> list[dict[str, str]] | None:
    counted = [("link_click", clicks), *((name, purchases) for name in _PURCHASES)]
    return [{"action_type": name, "value": str(count)} for name, count in counted if count] or None
