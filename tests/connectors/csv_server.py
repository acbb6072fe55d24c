"""What the tests of CSV servers share: offers, files, and a fetch through a local server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.connectors.base import Limits
from app.connectors.csv_https.client import CsvHttpsConnector
from app.domain.messages import Offer
from tests.connectors.rig import LocalFetch
from tests.connectors.support import Handler, calling, facts, offer

ACCOUNT = "shop-7"
HEADER = "date,id,name,impressions,clicks,cost\n"


def csv_offer(step: str = "start", *, account_id: str = ACCOUNT, **changes: Any) -> Offer:
    known = facts(connector_type="CSV_HTTPS", account_id=account_id)
    return offer(step, **({"connector": known, "remote": None} | changes))


def line(day: int, campaign: str = "c9", figures: str = "120,3,12.345678") -> str:
    return f'2026-11-{day:02d},{campaign},"Campaign, {campaign}",{figures}\n'


@asynccontextmanager
async def csv_fetch(
    folder: Path, handler: Handler, *, limits: Limits | None = None
) -> AsyncIterator[LocalFetch[CsvHttpsConnector]]:
    async with calling(handler, limits=limits) as setting:
        yield LocalFetch(setting, folder, CsvHttpsConnector(api_url=f"{setting.base}/reports"), csv_offer)
