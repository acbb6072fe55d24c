"""What The Trade Desk offers and how it is asked: report types, schedules, and the names its CSV headers use.

A report's columns are those of a template that exists at the provider; nothing in a schedule changes them. So there is
one template per report type, found by its name, and a file whose columns are not exactly the expected is refused: a
column too many may be a dimension, and then there are more rows than the grain has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from app.connectors import schemas
from app.connectors.csv_text import Form
from app.domain.messages import Offer
from app.domain.model import Field, ReportType

# Attribution looks back as long as the advertiser says, 30 days by default.
SETTLING_DAYS = 30
# How far back MyReports reaches is not published. Its sister, reporting by GraphQL, promises days of the last year.
RETENTION_DAYS = 364

_METRICS = {
    "impressions": "Impressions",
    "clicks": "Clicks",
    "conversions": "All Last Click + View Conversions",
    "spend": "Advertiser Cost (Adv Currency)",
}
_ACCOUNT = {"date": "Date", "account_id": "Advertiser ID", "currency": "Advertiser Currency Code"}
_CAMPAIGN = {"campaign_id": "Campaign ID", "campaign_name": "Campaign"}


def _report(name: str, provider_names: Mapping[str, str]) -> ReportType:
    return schemas.offered(name, provider_names, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)


CAMPAIGN_PERFORMANCE = _report("campaign_performance", {**_ACCOUNT, **_CAMPAIGN, **_METRICS})
# What a column with the advertiser's name is called is not known, so the name is not told.
ACCOUNT_PERFORMANCE = _report("account_performance", {**_ACCOUNT, **_METRICS})
REPORTS: Mapping[str, ReportType] = {report.name: report for report in (CAMPAIGN_PERFORMANCE, ACCOUNT_PERFORMANCE)}

FORM = Form(
    headers={name: (name,) for name in (*_ACCOUNT.values(), *_CAMPAIGN.values(), *_METRICS.values())},
    # As ``Sortable`` writes it; any other hour comes of a template that is not by day.
    day=re.compile(r"(\d{4})-(\d{2})-(\d{2})T00:00:00"),
    # No other sign for a metric that is not told is known.
    nulls=("",),
)


def columns(offer: Offer) -> tuple[Field, ...]:
    """The columns of this offer's file, in order."""
    return schemas.wanted(REPORTS[offer.report_type], offer.fields)


def is_by_account(offer: Offer) -> bool:
    """Whether a day has one row, and not one for each campaign."""
    return offer.report_type == ACCOUNT_PERFORMANCE.name


def template_name(prefix: str, report_type: str) -> str:
    """What the template of a report type must be called."""
    return f"{prefix} {report_type}"


def schedule(offer: Offer, template_id: int) -> dict[str, Any]:
    """Body of ``POST myreports/reportschedule``: one advertiser, once, days of the account's own zone.

    The end is exclusive. Examples show no other zone than UTC; that IANA names are taken is assumed.
    """
    return {
        "ReportScheduleName": f"{offer.batch_id}-{offer.run} {offer.report_type}",
        "ReportTemplateId": template_id,
        "AdvertiserFilters": [offer.connector.account_id],
        "ReportDateRange": "Custom",
        "ReportStartDateInclusive": _midnight(offer.start),
        "ReportEndDateExclusive": _midnight(offer.end + 1),
        "ReportFrequency": "Once",
        "ReportFileFormat": "CSV",
        "TimeZone": offer.connector.time_zone,
        "ReportDateFormat": "Sortable",
        "ReportNumericFormat": "US",
        "IncludeHeaders": True,
    }


def _midnight(ordinal: int) -> str:
    return f"{date.fromordinal(ordinal).isoformat()}T00:00:00"
