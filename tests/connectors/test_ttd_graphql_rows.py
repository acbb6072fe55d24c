"""GraphQL's figures as rows: whatever numbers come, in whatever spelling, the cells are those of plain decimal
arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.ttd import graphql_rows, reports
from app.connectors.ttd.graphql import Reading
from app.ports import HttpAnswer
from tests.connectors.support import END, START, facts
from tests.connectors.ttd import ADVERTISER, ttd_offer

OFFER = ttd_offer("start", connector=facts(connector_type="TTD", account_id=ADVERTISER, time_zone="UTC"))
MONEY = st.one_of(
    st.none(),
    st.decimals(0, 10**11, allow_nan=False, allow_infinity=False, places=8).map(lambda value: f"{value:f}"),
    st.tuples(st.integers(0, 10**6), st.integers(-6, 3)).map(lambda pair: f"{pair[0]}e{pair[1]}"),
)
COUNT = st.one_of(st.none(), st.integers(0, 2**63 - 1).map(str))
DAY = st.fixed_dictionaries({"impressions": COUNT, "clicks": COUNT, "conversions": MONEY, "spend": MONEY})
OWNERS = st.dictionaries(
    st.text("abc019", min_size=1, max_size=5),
    st.dictionaries(st.integers(START, END), DAY, max_size=4),
    min_size=1,
    max_size=4,
)


def written(text: str | None) -> Any:
    return None if text is None else orjson.Fragment(text)


def node(ordinal: int, metrics: Mapping[str, str | None]) -> dict[str, Any]:
    shown = {name: written(text) for name, text in metrics.items()}
    shown["spend"] = {"advertiserCurrency": shown["spend"]}
    return {"dimensions": {"time": {"day": date.fromordinal(ordinal).isoformat()}}, "metrics": shown}


def expected(text: str | None, kind: str) -> Any:
    if text is None:
        return None
    return int(text) if kind == "int64" else Decimal(text).quantize(Decimal("0.000001"), rounding=ROUND_HALF_EVEN)


@given(OWNERS)
def test_cells_are_exact(owners: dict[str, dict[int, dict[str, str | None]]]) -> None:
    told = [
        {
            "id": name,
            "name": name.upper(),
            "reporting": {
                "generalReporting": {
                    "nodes": [node(ordinal, metrics) for ordinal, metrics in days.items()],
                    "pageInfo": {"hasNextPage": False},
                }
            },
        }
        for name, days in owners.items()
    ]
    reading = Reading()
    reading(HttpAnswer(200, {}, orjson.dumps({"data": {"campaigns": told}})))
    fields = reports.columns(OFFER)
    rows = graphql_rows.parse(reading.content["campaigns"], OFFER, fields).to_pylist()
    kinds = {field.name: field.kind for field in fields}
    assert rows == [
        {
            "connector_id": OFFER.connector.connector_id, "date": date.fromordinal(ordinal), "campaign_id": name,
            "campaign_name": name.upper(), "account_id": ADVERTISER, "currency": "EUR", "time_zone": "UTC",
            **{metric: expected(text, kinds[metric]) for metric, text in metrics.items()},
        }
        for name, days in owners.items()
        for ordinal, metrics in days.items()
    ]  # fmt: skip
