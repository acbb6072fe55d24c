"""What Meta offers and how it is asked: report types, the parameters of a run, and the names its rows use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date

from app.connectors import schemas
from app.domain.messages import Offer
from app.domain.model import Field, ReportType

# Figures are restated for up to 28 days, the longest attribution window.
SETTLING_DAYS = 28
# 37 months; the shorter reading, so that a range we accept is one the provider accepts.
RETENTION_DAYS = 1_123

CONVERSION_ACTIONS = ("purchase",)
"""Which entries of ``actions`` are conversions. Others count the same event again (``omni_purchase``,
``offsite_conversion.fb_pixel_purchase``) or are no conversions at all, so they are never summed as they come."""

_METRICS = {
    "impressions": "impressions",
    "clicks": "clicks",
    "conversions": "actions",
    "spend": "spend",
}
# ``date_start`` and ``date_stop`` are in every row, asked or not.
_ACCOUNT = {"date": "date_start", "account_id": "account_id", "currency": "account_currency"}
_CAMPAIGN = {"campaign_id": "campaign_id", "campaign_name": "campaign_name"}
_IN_EVERY_ROW = ("date_start",)


def _report(name: str, provider_names: Mapping[str, str]) -> ReportType:
    return schemas.offered(name, provider_names, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)


CAMPAIGN_PERFORMANCE = _report("campaign_performance", {**_ACCOUNT, **_CAMPAIGN, **_METRICS})
ACCOUNT_PERFORMANCE = _report("account_performance", {**_ACCOUNT, "account_name": "account_name", **_METRICS})
REPORTS: Mapping[str, ReportType] = {report.name: report for report in (CAMPAIGN_PERFORMANCE, ACCOUNT_PERFORMANCE)}

_LEVELS = {"campaign_performance": "campaign", "account_performance": "account"}


def columns(offer: Offer) -> tuple[Field, ...]:
    """The columns of this offer's file, in order."""
    return schemas.wanted(REPORTS[offer.report_type], offer.fields)


def is_by_account(offer: Offer) -> bool:
    """Whether a day has one row, and not one for each campaign."""
    return _LEVELS[offer.report_type] == "account"


def parameters(offer: Offer) -> dict[str, str]:
    """The form of ``POST act_<id>/insights``, or the query of a GET: one row a day, both days included, in the zone of
    the account. No attribution window is named, so that the account's own counts, and no campaign is left out, removed
    ones neither."""
    names = [field.provider_name for field in columns(offer) if field.provider_name]
    start, end = date.fromordinal(offer.start).isoformat(), date.fromordinal(offer.end).isoformat()
    return {
        "level": _LEVELS[offer.report_type],
        "time_increment": "1",
        "time_range": json.dumps({"since": start, "until": end}, separators=(",", ":")),
        "fields": ",".join(name for name in names if name not in _IN_EVERY_ROW),
    }
