"""Report schemas: what every provider's files have in common, and that each adapter offers just that."""

from __future__ import annotations

import calendar
import json
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.connectors import schemas
from app.connectors.dv360.client import Dv360Connector
from app.connectors.dv360.reports import HEADERS, REPORTS, query
from app.connectors.google_ads import reports as google_ads
from app.connectors.meta import reports as meta
from app.connectors.sheets import reports as sheets
from tests.connectors.ads import ads_offer
from tests.connectors.support import offer

NAMES = ("campaign_performance", "account_performance")


@pytest.mark.parametrize("name", NAMES)
def test_schema_keeps_the_promises_of_all_reports(name: str) -> None:
    schema = schemas.load(name)
    columns = {column.name: column for column in schema.columns}
    assert {"connector_id", "date", "account_id", "currency", "time_zone"} <= set(columns)
    assert all(not columns[key].nullable and columns[key].standard for key in schema.key)
    assert all(column.kind == "string" for column in schema.columns if column.name.endswith("_id"))
    assert all(column.nullable for column in schema.columns if column.role == "metric")
    extras = [column.standard for column in schema.columns]
    assert extras == sorted(extras, reverse=True), "extras stand at the end"
    assert columns["impressions"].kind == columns["clicks"].kind == "int64"
    assert columns["spend"].kind == columns["conversions"].kind == "decimal(18,6)"


def test_key_of_campaigns() -> None:
    assert schemas.load("campaign_performance").key == ("connector_id", "date", "campaign_id")
    assert schemas.load("account_performance").key == ("connector_id", "date")


def test_key_and_columns_of_tables() -> None:
    schema = schemas.load("table")
    assert schema.key == ("connector_id", "date", "range", "row")
    assert {column.kind for column in schema.columns if column.name in ("cells", "kinds")} == {"list<string>"}
    assert all(column.standard and not column.nullable for column in schema.columns)
    assert [column.name for column in sheets.TABLE.fields] == [column.name for column in schema.columns]


def test_every_file_is_a_schema_that_loads() -> None:
    files = sorted(path.name for path in schemas.FOLDER.glob("*.json"))
    assert files == sorted(f"{name}.v1.json" for name in (*NAMES, "table"))


@pytest.mark.parametrize(
    "change",
    [
        {"key": ["date"]},
        {"version": 2},
        {"report_type": "other"},
        {"columns": [{"name": "a", "type": "float", "role": "key"}]},
    ],
)
def test_broken_schemas_are_refused(change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (schemas.FOLDER / "account_performance.v1.json").read_text()
    (tmp_path / "account_performance.v1.json").write_text(json.dumps(json.loads(text) | change))
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"account_performance|column"):
        schemas.load.__wrapped__("account_performance")


def test_columns_a_provider_lacks() -> None:
    lacking = schemas.offered("account_performance", {"clicks": "c"}, retention_days=1, settling_days=1)
    assert lacking.standard_names == tuple(f.name for f in schemas.load("account_performance").columns if f.standard)
    assert [field.provider_name for field in lacking.fields if field.name == "clicks"] == ["c"]
    assert lacking.field("media_cost") is None
    with pytest.raises(ValueError, match="nothing_like_it"):
        schemas.offered("account_performance", {"nothing_like_it": "x"}, retention_days=1, settling_days=1)


def test_dv360_asks_for_one_header_per_column() -> None:
    for report in REPORTS.values():
        named = [field.provider_name for field in report.fields if field.name not in schemas.OURS]
        assert set(named) <= set(HEADERS)
        assert len(set(named)) == len(named)


def test_query_asks_for_one_advertiser_and_the_whole_range() -> None:
    body = query(offer("start", fields=("media_cost",)))
    assert body["metadata"]["dataRange"] == {
        "range": "CUSTOM_DATES",
        "customStartDate": {"year": 2026, "month": 11, "day": 1},
        "customEndDate": {"year": 2026, "month": 11, "day": 7},
    }
    assert body["params"]["filters"] == [{"type": "FILTER_ADVERTISER", "value": "4567"}]
    assert body["params"]["metrics"][-1] == "METRIC_MEDIA_COST_ADVERTISER"
    assert "METRIC_BILLABLE_IMPRESSIONS" not in body["params"]["metrics"]
    assert body["params"]["groupBys"][0] == "FILTER_DATE", "the totals row is told by its empty first cell"


@pytest.mark.parametrize("provider", [google_ads, meta])
def test_these_offer_the_standard_columns_and_no_others(provider: ModuleType) -> None:
    for name in NAMES:
        report = provider.REPORTS[name]
        assert [field.name for field in report.fields] == [f.name for f in schemas.load(name).columns if f.standard]
        unnamed = {field.name for field in report.fields if not field.provider_name}
        assert unnamed == set(schemas.OURS)


@pytest.mark.parametrize(("provider", "settling_days"), [(google_ads, 90), (meta, 28)])
def test_these_refuse_what_the_provider_would(provider: ModuleType, settling_days: int) -> None:
    for report in provider.REPORTS.values():
        assert report.settling_days == settling_days
        oldest = [_day_before(date(2026, 1, 1) + timedelta(n), months=37) for n in range(4 * 366)]
        assert report.retention_days < min(oldest) < report.retention_days + 5


def _day_before(today: date, *, months: int) -> int:
    """Days back to the same day ``months`` before, or to the end of a month that lacks it."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return (today - date(year, month + 1, min(today.day, last))).days


def test_google_ads_places() -> None:
    assert google_ads.place("metrics.cost_micros") == ("metrics", "costMicros")
    assert google_ads.place("customer.id") == ("customer", "id")
    assert google_ads.place("customer_client.descriptive_name") == ("customer_client", "descriptiveName")
    one_day = google_ads.query(ads_offer(end=ads_offer().start))
    assert "BETWEEN '2026-11-01' AND '2026-11-01'" in one_day


def test_poll_schedule_is_a_setting() -> None:
    assert Dv360Connector().poll_schedule_s[:3] == (5.0, 10.0, 20.0)
    assert Dv360Connector(poll_schedule_s=(0.1,)).poll_schedule_s == (0.1,)
    assert Dv360Connector.minimum_calls == {"reports": 3}


async def test_a_step_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="download"):
        await Dv360Connector().step(offer("download"), None)  # type: ignore[arg-type]
