"""What the tests of Google Ads share: offers, rows as the provider writes them, and a fetch through a local server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.google_ads.client import GoogleAdsConnector
from app.domain.messages import Offer
from tests.connectors.examples.case import GOOGLE_WORDS
from tests.connectors.rig import LocalFetch
from tests.connectors.support import Handler, calling, facts, offer

CUSTOMER, MANAGER = "1234567890", "9876543210"
JSON = {"Content-Type": "application/json; charset=UTF-8"}


def ads_offer(
    step: str = "start", *, account_id: str = CUSTOMER, manager_id: str | None = None, **changes: Any
) -> Offer:
    known = facts(connector_type="GOOGLE_ADS", account_id=account_id, manager_id=manager_id)
    return offer(step, **({"connector": known} | changes))


def ads_row(day: int, campaign: int = 9, **metrics: Any) -> dict[str, Any]:
    """A campaign's row; ``metrics`` replace all of them."""
    shown = metrics or {"impressions": "120", "clicks": "3", "conversions": 1.5, "costMicros": "12345678"}
    return {
        "customer": {"resourceName": f"customers/{CUSTOMER}", "id": CUSTOMER, "currencyCode": "EUR"},
        "campaign": {
            "resourceName": f"customers/{CUSTOMER}/campaigns/{campaign}",
            "name": f"Campaign {campaign}",
            "id": str(campaign),
        },
        "metrics": shown,
        "segments": {"date": f"2026-11-{day:02d}"},
    }


def element(rows: Sequence[Any] | None) -> dict[str, Any]:
    """One batch; ``results`` is absent without rows."""
    return {} | ({"results": list(rows)} if rows else {}) | {"fieldMask": "campaign.id", "requestId": "r-1"}


def answer(*batches: Sequence[Any], pretty: bool = False) -> bytes:
    """The array that searchStream answers, in one line or as the provider prints it."""
    return orjson.dumps([element(rows) for rows in batches], option=orjson.OPT_INDENT_2 if pretty else 0)


def ads_error(code: int, family: str, enum: str, message: str = "Said so.", **details: Any) -> dict[str, Any]:
    """The envelope with a GoogleAdsFailure; ``details`` are the quotaErrorDetails."""
    one: dict[str, Any] = {"errorCode": {family: enum}, "message": message}
    if details:
        one["details"] = {"quotaErrorDetails": details}
    kind = "type.googleapis.com/google.ads.googleads.v26.errors.GoogleAdsFailure"
    detail = {"@type": kind, "errors": [one], "requestId": "r-1"}
    return {"error": {"code": code, "message": "Refused.", "status": GOOGLE_WORDS[code], "details": [detail]}}


def saying(content: bytes, status: int = 200, *, seen: list[web.Request] | None = None, **headers: str) -> Handler:
    """A handler that answers everything with this."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        if seen is not None:
            seen.append(request)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=content, headers=JSON | named)

    return handle


def dripping(content: bytes, size: int, *, breaks: bool = False, headers: Mapping[str, str] = JSON) -> Handler:
    """A handler that sends the answer in pieces; ``breaks`` ends the connection where the answer ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for at in range(0, len(content), size):
            await response.write(content[at : at + size])
        if breaks:
            assert request.transport is not None
            request.transport.close()
        return response

    return handle


@asynccontextmanager
async def ads_fetch(
    folder: Path, handler: Handler, *, limits: Limits | None = None, developer_token: str = ""
) -> AsyncIterator[LocalFetch[GoogleAdsConnector]]:
    async with calling(handler, limits=limits) as setting:
        connector = GoogleAdsConnector(api_url=f"{setting.base}/v26/", developer_token=developer_token)
        yield LocalFetch(setting, folder, connector, ads_offer)
