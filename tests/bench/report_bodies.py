"""Report bodies of any length, written by the sandbox's own writers: what a provider would send, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from app.connectors.dv360 import reports as dv360
from app.connectors.google_ads import reports as google_ads
from app.domain.messages import Offer
from app.domain.model import ConnectorFacts, ReportType
from app.sandbox.dv360.catalogue import METRIC_WRITERS
from app.sandbox.dv360.csv_report import csv_blocks
from app.sandbox.dv360.state import Query, Quirks, Report
from app.sandbox.google_ads.accounts import customer
from app.sandbox.google_ads.answers import stream
from app.sandbox.google_ads.gaql import parse
from app.sandbox.google_ads.plan import plan_of
from app.sandbox.google_ads.rows import Facts, rows_of

DAYS = 400
"""Days of a body; its rows are these times its campaigns."""

SEED = 7
_FIRST = date(2025, 9, 1)
_LAST = _FIRST + timedelta(DAYS - 1)
_ACCOUNTS = {"DV360": "4567", "GOOGLE_ADS": "1234567890"}
_REPORTS: Mapping[str, ReportType] = {
    "DV360": dv360.CAMPAIGN_PERFORMANCE,
    "GOOGLE_ADS": google_ads.CAMPAIGN_PERFORMANCE,
}


@dataclass(frozen=True, slots=True)
class Body:
    """The body at ``path``: ``rows`` rows that answer ``offer``, read with the columns of ``report``."""

    path: Path
    rows: int
    offer: Offer
    report: ReportType


def body_of(connector_type: str, path: Path, rows: int) -> Body:
    """What stands, or is to stand, at ``path``. Raises ``ValueError`` for rows that are no multiple of ``DAYS``."""
    if rows % DAYS:
        raise ValueError(f"{rows} rows are not those of {DAYS} whole days")
    facts = ConnectorFacts(
        connector_id="conn_" + "1" * 32,
        org_id=7,
        connector_type=connector_type,
        account_id=_ACCOUNTS[connector_type],
        grant_id="grant_" + "2" * 32,
        subject="ana",
        time_zone="Europe/Berlin",
        currency="EUR",
    )
    days = (_FIRST.toordinal(), _LAST.toordinal())
    report = _REPORTS[connector_type]
    offer = Offer("bat_" + "a" * 32, 1, 1, "poll", 1, facts, report.name, *days, (), 2)
    return Body(path, rows, offer, report)


def write(body: Body) -> None:
    """Makes the file; a million rows take some ten seconds."""
    with body.path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(_WRITERS[body.offer.connector.connector_type](body))


def _dv360(body: Body) -> Iterator[str]:
    asked = [field.provider_name for field in dv360.columns(body.offer) if field.provider_name]
    group_bys = tuple(name for name in asked if name not in METRIC_WRITERS)
    metrics = tuple(name for name in asked if name in METRIC_WRITERS)
    account = int(body.offer.connector.account_id)
    now = datetime.combine(_LAST, datetime.min.time(), UTC).timestamp()
    query = Query(11, "ana", "figure", {}, (account,), group_bys, metrics)
    report = Report(11, 22, "ana", "figure", _FIRST, _LAST, now, 0.0, None, "DONE", {}, {account: body.rows // DAYS})
    return csv_blocks(query, report, SEED, Quirks(), now)


def _google_ads(body: Body) -> Iterator[str]:
    account = customer(SEED, int(body.offer.connector.account_id))
    plan = replace(plan_of(parse(google_ads.query(body.offer)), account, _LAST), limit=body.rows)
    # One row in 32 has no figures, and such rows are left out of an answer.
    rows = rows_of(plan, Facts(SEED, account, body.rows // DAYS * 11 // 10 + 1, lambda _day: 0))
    return stream(plan, rows, "r-1")


_WRITERS: Mapping[str, Callable[[Body], Iterator[str]]] = {"DV360": _dv360, "GOOGLE_ADS": _google_ads}
