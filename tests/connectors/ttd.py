"""What the tests of The Trade Desk share: offers, and files as the provider writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.domain.messages import Offer
from tests.connectors.support import facts, offer

ADVERTISER = "adv4567"
LINE = ("Date", "Advertiser ID", "Advertiser Currency Code", "Campaign ID", "Campaign")
HEADER = (*LINE, "Impressions", "Clicks", "All Last Click + View Conversions", "Advertiser Cost (Adv Currency)")


def ttd_offer(step: str = "start", *, remote: dict[str, str] | None = None, **changes: Any) -> Offer:
    known = facts(connector_type="TTD", account_id=ADVERTISER)
    if step == "poll" and remote is None:
        remote = {"schedule_id": "5"}
    return offer(step, **({"connector": known, "remote": remote} | changes))


def ttd_row(day: int, campaign: str = "c9", **changes: str) -> list[str]:
    cells = {"Date": f"2026-11-{day:02d}T00:00:00", "Advertiser ID": ADVERTISER, "Advertiser Currency Code": "EUR"}
    cells |= {"Campaign ID": campaign, "Campaign": f"Campaign {campaign}", "Impressions": "120", "Clicks": "3"}
    cells |= {"All Last Click + View Conversions": "1.5", "Advertiser Cost (Adv Currency)": "12.345678"} | changes
    return [cells[name] for name in HEADER]


def ttd_text(rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> str:
    return "".join(",".join(cells) + "\n" for cells in (header, *rows))
