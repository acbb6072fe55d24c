"""What a CSV server offers. A file is of one account: its first two columns are the day and the id of what a row is
about, then come its name and the figures, by these names and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.connectors import schemas
from app.connectors.csv_text import Form
from app.domain.messages import Offer
from app.domain.model import Field, ReportType

# Nothing is agreed of how long days are kept or move: a year is asked for, and days are final after a month.
RETENTION_DAYS, SETTLING_DAYS = 365, 30

_METRICS = {"impressions": "impressions", "clicks": "clicks", "spend": "cost"}


def _report(name: str, entity: str) -> ReportType:
    names = {"date": "date", f"{entity}_id": "id", f"{entity}_name": "name", **_METRICS}
    return schemas.offered(name, names, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)


REPORTS: Mapping[str, ReportType] = {
    "campaign_performance": _report("campaign_performance", "campaign"),
    "account_performance": _report("account_performance", "account"),
}

FORM = Form(
    headers={name: (name,) for name in ("date", "id", "name", *_METRICS.values())},
    day=re.compile(r"(\d{4})-(\d{2})-(\d{2})"),
    nulls=("",),
)


def columns(offer: Offer) -> tuple[Field, ...]:
    """The columns of this offer's file, in order."""
    return schemas.wanted(REPORTS[offer.report_type], offer.fields)
