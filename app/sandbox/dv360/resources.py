"""The JSON of queries, reports and entities: int64 ids as strings, dates as objects, what is not known yet absent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from app.sandbox.dv360.figures import Advertiser
from app.sandbox.dv360.figures import campaign_id as id_of_campaign
from app.sandbox.dv360.state import DONE, FAILED, Query, Report, finished_at, state_of
from app.sandbox.figures import campaign_name

PARTNER_ID = 99
"""The one partner every sandbox user can see."""


def date_json(day: date) -> dict[str, int]:
    """A day as Google writes it."""
    return {"year": day.year, "month": day.month, "day": day.day}


def query_json(query: Query) -> dict[str, Any]:
    """The Query resource."""
    return {"queryId": str(query.query_id)} | {key: query.resource[key] for key in query.resource if key != "queryId"}


def report_json(query: Query, report: Report, link: str, now: float) -> dict[str, Any]:
    """The Report resource at ``now``; ``link`` shows only when done, ``finishTime`` when done or failed."""
    state = state_of(report, now)
    status: dict[str, Any] = {"state": state, "format": "CSV"}
    finished = finished_at(report, now)
    if finished is not None and state in (DONE, FAILED):
        status["finishTime"] = (
            datetime.fromtimestamp(finished, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
    metadata: dict[str, Any] = {
        "status": status,
        "reportDataStartDate": date_json(report.start),
        "reportDataEndDate": date_json(report.end),
    }
    if state == DONE:
        metadata["googleCloudStoragePath"] = link
    return {
        "key": {"queryId": str(report.query_id), "reportId": str(report.report_id)},
        "metadata": metadata,
        "params": query.resource["params"],
    }


def partner_json() -> dict[str, Any]:
    """The Partner resource."""
    return {"partnerId": str(PARTNER_ID), "displayName": "Sandbox partner", "entityStatus": "ENTITY_STATUS_ACTIVE"}


def advertiser_json(account: Advertiser) -> dict[str, Any]:
    """The Advertiser resource."""
    return {
        "advertiserId": str(account.advertiser_id),
        "partnerId": str(PARTNER_ID),
        "displayName": account.name,
        "entityStatus": "ENTITY_STATUS_ACTIVE",
        "generalConfig": {"currencyCode": account.currency, "timeZone": account.time_zone},
    }


def campaign_json(account: Advertiser, index: int) -> dict[str, Any]:
    """The Campaign resource of an advertiser's campaign number ``index``."""
    return {
        "advertiserId": str(account.advertiser_id),
        "campaignId": str(id_of_campaign(account.advertiser_id, index)),
        "displayName": campaign_name(index),
        "entityStatus": "ENTITY_STATUS_ACTIVE",
    }
