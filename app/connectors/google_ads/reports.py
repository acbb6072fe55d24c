"""What Google Ads offers and how it is asked: report types, their queries, and where an answer's row keeps a field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from app.connectors import schemas
from app.domain.messages import Offer
from app.domain.model import Field, ReportType

# A conversion counts on the day of its click, and the longest conversion window is 90 days (Google Ads Help, "About
# conversion windows").
SETTLING_DAYS = 90
# 37 months (ads-developers.googleblog.com, 2026-05-01); the shorter reading, so that a range we accept is one the
# provider accepts.
RETENTION_DAYS = 1_123

_METRICS = {
    "impressions": "metrics.impressions",
    "clicks": "metrics.clicks",
    "conversions": "metrics.conversions",
    "spend": "metrics.cost_micros",
}
_ACCOUNT = {"date": "segments.date", "account_id": "customer.id", "currency": "customer.currency_code"}
_CAMPAIGN = {"campaign_id": "campaign.id", "campaign_name": "campaign.name"}


def _report(name: str, provider_names: Mapping[str, str]) -> ReportType:
    return schemas.offered(name, provider_names, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)


CAMPAIGN_PERFORMANCE = _report("campaign_performance", {**_ACCOUNT, **_CAMPAIGN, **_METRICS})
ACCOUNT_PERFORMANCE = _report(
    "account_performance", {**_ACCOUNT, "account_name": "customer.descriptive_name", **_METRICS}
)
REPORTS: Mapping[str, ReportType] = {report.name: report for report in (CAMPAIGN_PERFORMANCE, ACCOUNT_PERFORMANCE)}

_RESOURCES = {"campaign_performance": "campaign", "account_performance": "customer"}

ACCOUNTS_QUERY = (
    "SELECT customer_client.id, customer_client.descriptive_name, customer_client.currency_code, "
    "customer_client.time_zone, customer_client.manager, customer_client.level FROM customer_client"
)
"""Asked of an account: that account itself on level 0, and below it every account it keeps."""


def columns(offer: Offer) -> tuple[Field, ...]:
    """The columns of this offer's file, in order."""
    return schemas.wanted(REPORTS[offer.report_type], offer.fields)


def query(offer: Offer) -> str:
    """The GAQL of an offer: both days included, in the account's zone. Removed campaigns are in it, since nothing
    leaves them out."""
    names = ", ".join(field.provider_name for field in columns(offer) if field.provider_name)
    start, end = date.fromordinal(offer.start).isoformat(), date.fromordinal(offer.end).isoformat()
    days = f"segments.date BETWEEN '{start}' AND '{end}'"
    resource = _RESOURCES[offer.report_type]
    return f"SELECT {names} FROM {resource} WHERE {days} ORDER BY segments.date"  # noqa: S608 - no SQL, our own words


def place(provider_name: str) -> tuple[str, str]:
    """(resource, member) of a field in a row's JSON: ``metrics.cost_micros`` is ``costMicros`` of ``metrics``."""
    resource, _, member = provider_name.partition(".")
    first, *others = member.split("_")
    return resource, first + "".join(word.capitalize() for word in others)
