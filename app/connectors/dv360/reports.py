"""What DV360 offers and how it is asked: report types, queries, and the names its CSV headers use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from app.connectors import schemas
from app.domain.messages import Offer
from app.domain.model import Field, ReportType

# Certified by the 3rd of the next month, and conversions keep arriving for the lookback window, usually 30 days.
SETTLING_DAYS = 30
# 24 months; the shorter reading, so that a range we accept is one the provider accepts.
RETENTION_DAYS = 729

_METRICS = {
    "impressions": "METRIC_IMPRESSIONS",
    "clicks": "METRIC_CLICKS",
    "conversions": "METRIC_TOTAL_CONVERSIONS",
    "spend": "METRIC_REVENUE_ADVERTISER",
    "billable_impressions": "METRIC_BILLABLE_IMPRESSIONS",
    "media_cost": "METRIC_MEDIA_COST_ADVERTISER",
}
_ACCOUNT = {"date": "FILTER_DATE", "account_id": "FILTER_ADVERTISER", "currency": "FILTER_ADVERTISER_CURRENCY"}
_CAMPAIGN = {"campaign_id": "FILTER_MEDIA_PLAN", "campaign_name": "FILTER_MEDIA_PLAN_NAME"}


def _report(name: str, provider_names: Mapping[str, str]) -> ReportType:
    return schemas.offered(name, provider_names, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)


CAMPAIGN_PERFORMANCE = _report("campaign_performance", {**_ACCOUNT, **_CAMPAIGN, **_METRICS})
ACCOUNT_PERFORMANCE = _report("account_performance", {**_ACCOUNT, "account_name": "FILTER_ADVERTISER_NAME", **_METRICS})
REPORTS: Mapping[str, ReportType] = {report.name: report for report in (CAMPAIGN_PERFORMANCE, ACCOUNT_PERFORMANCE)}

HEADERS: Mapping[str, tuple[str, ...]] = {
    "FILTER_DATE": ("Date",),
    "FILTER_ADVERTISER": ("Advertiser ID",),
    "FILTER_ADVERTISER_NAME": ("Advertiser",),
    "FILTER_ADVERTISER_CURRENCY": ("Advertiser Currency",),
    "FILTER_MEDIA_PLAN": ("Campaign ID",),
    "FILTER_MEDIA_PLAN_NAME": ("Campaign",),
    "METRIC_IMPRESSIONS": ("Impressions",),
    "METRIC_CLICKS": ("Clicks",),
    "METRIC_TOTAL_CONVERSIONS": ("Total Conversions",),
    "METRIC_REVENUE_ADVERTISER": ("Revenue (Adv Currency)",),
    "METRIC_BILLABLE_IMPRESSIONS": ("Billable Impressions",),
    "METRIC_MEDIA_COST_ADVERTISER": ("Media Cost (Adv Currency)", "Media Cost (Advertiser Currency)"),
}
"""Provider name -> the header names Report Builder has used for it."""

DAY = re.compile(r"(\d{4})/(\d{2})/(\d{2})")
"""A cell of the column ``Date``."""


def columns(offer: Offer) -> tuple[Field, ...]:
    """The columns of this offer's file, in order."""
    return schemas.wanted(REPORTS[offer.report_type], offer.fields)


def query(offer: Offer) -> dict[str, Any]:
    """Body of ``POST queries``: one advertiser, run by hand. Its days are only those of its first run, and its title
    names no fetch, for it is run again for others."""
    return {
        "metadata": {
            "title": f"{offer.connector.connector_id} {offer.report_type}",
            "format": "CSV",
            "dataRange": data_range(offer),
        },
        "params": params(offer),
        "schedule": {"frequency": "ONE_TIME"},
    }


def params(offer: Offer) -> dict[str, Any]:
    """What a query asks, whatever the days."""
    asked = [field for field in columns(offer) if field.provider_name]
    return {
        "type": "STANDARD",
        "groupBys": [field.provider_name for field in asked if field.role != "metric"],
        "filters": [{"type": "FILTER_ADVERTISER", "value": offer.connector.account_id}],
        "metrics": [field.provider_name for field in asked if field.role == "metric"],
    }


def data_range(offer: Offer) -> dict[str, Any]:
    """The offer's days, both ends included, in the advertiser's zone."""
    return {"range": "CUSTOM_DATES", "customStartDate": _day(offer.start), "customEndDate": _day(offer.end)}


def _day(ordinal: int) -> dict[str, int]:
    day = date.fromordinal(ordinal)
    return {"year": day.year, "month": day.month, "day": day.day}
