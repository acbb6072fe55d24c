"""Google Ads over HTTP: what search and searchStream answer, page by page and batch by batch, and for whom."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson
import pytest

from app.config import Settings
from app.sandbox.google_ads.answers import PAGE_ROWS, ROWS_PER_BLOCK, stream
from app.sandbox.google_ads.figures import TruthRow
from app.sandbox.google_ads.plan import Plan
from app.sandbox.google_ads.rows import Rows
from tests.sandbox.client import CUSTOMER, DAYS, END, PERFORMANCE, START, code_of, connected, rows_of


def shown(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row as a careful client reads it: what is missing is zero."""
    metrics = row.get("metrics", {})
    return (
        row["segments"]["date"],
        row["customer"]["id"],
        row["customer"]["currencyCode"],
        row["campaign"]["id"],
        row["campaign"]["name"],
        row["campaign"]["status"],
        int(metrics.get("impressions", 0)),
        int(metrics.get("clicks", 0)),
        Decimal(str(metrics.get("conversions", 0))),
        Decimal(metrics.get("costMicros", 0)) / 1_000_000,
    )


def true(row: TruthRow) -> tuple[Any, ...]:
    return (
        row.day.isoformat(),
        str(row.customer_id),
        row.currency,
        str(row.campaign_id),
        row.campaign_name,
        row.campaign_status,
        row.impressions,
        row.clicks,
        row.conversions,
        row.cost,
    )


async def test_a_stream_is_the_truth_in_an_array_of_batches() -> None:
    async with connected(campaigns=12) as (sandbox, client):
        answer = await client.ads(await client.bearer(), PERFORMANCE)
        truth = sandbox.ads_truth(int(CUSTOMER), START, END)
        call = sandbox.calls("ads.search_stream")[0]
    (batch,) = answer.json
    assert [shown(row) for row in batch["results"]] == [true(row) for row in truth]
    assert {row.campaign_status for row in truth} == {"ENABLED", "PAUSED", "REMOVED"}
    assert batch["results"][0]["campaign"]["resourceName"] == (
        f"customers/{CUSTOMER}/campaigns/{batch['results'][0]['campaign']['id']}"
    )
    assert batch["fieldMask"] == (
        "campaign.id,campaign.name,campaign.status,customer.id,customer.currencyCode,segments.date,"
        "metrics.impressions,metrics.clicks,metrics.conversions,metrics.costMicros"
    )
    assert batch["requestId"] == answer.headers["request-id"]
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (call.provider, call.quota_group, call.application, call.user, call.account, call.status) == (
        ("google_ads", "operations", "sandbox-client", "alice", CUSTOMER, 200)
    )


async def test_int64_is_a_string_and_zeros_are_left_out_of_some_rows_always_the_same() -> None:
    async with connected(campaigns=300) as (_, client):
        alice = await client.bearer()
        answer, again = await client.ads(alice, PERFORMANCE), await client.ads(alice, PERFORMANCE)
    rows = rows_of(answer.json)
    assert rows == rows_of(again.json)
    metrics = [row["metrics"] for row in rows]
    for name in ("impressions", "clicks", "costMicros"):
        assert {type(one[name]) for one in metrics if name in one} == {str}
    assert {type(one["conversions"]) for one in metrics if "conversions" in one} == {int, float}
    written = [one for one in metrics if float(one.get("conversions", 1)) == 0]
    left_out = [one for one in metrics if "conversions" not in one]
    assert written
    assert left_out
    assert any(float(one["conversions"]) % 1 for one in metrics if "conversions" in one), "conversions are fractional"


async def test_a_row_of_zeros_alone_does_not_exist_when_segmented() -> None:
    """developers.google.com/google-ads/api/docs/reporting/zero-metrics"""
    async with connected(campaigns=60) as (sandbox, client):
        alice = await client.bearer()
        daily = rows_of((await client.ads(alice, PERFORMANCE)).json)
        only = f"SELECT segments.date, metrics.conversions FROM campaign WHERE {DAYS}"
        converted = rows_of((await client.ads(alice, only)).json)
        summed = rows_of((await client.ads(alice, f"SELECT metrics.impressions FROM campaign WHERE {DAYS}")).json)
        truth = sandbox.ads_truth(int(CUSTOMER), START, END)
    assert len(daily) == len(truth) < 60 * 7
    assert len(converted) == sum(1 for row in truth if row.conversions) < len(truth)
    assert len(summed) == 60
    assert sum(int(row["metrics"]["impressions"]) for row in summed) == sum(row.impressions for row in truth)


async def test_a_whole_row_without_metrics_has_no_metrics_at_all() -> None:
    async with connected(campaigns=200) as (sandbox, client):
        query = f"SELECT campaign.id, metrics.conversions FROM campaign WHERE segments.date = '{END}'"
        rows = rows_of((await client.ads(await client.bearer(), query)).json)
        truth = {row.campaign_id: row.conversions for row in sandbox.ads_truth(int(CUSTOMER), END, END)}
    assert len(rows) == 200
    assert any("metrics" not in row for row in rows)
    for row in rows:
        found = row.get("metrics", {}).get("conversions", 0)
        assert Decimal(str(found)) == truth.get(int(row["campaign"]["id"]), 0)


async def test_no_rows_have_no_results_key() -> None:
    async with connected(campaigns=0) as (_, client):
        alice = await client.bearer()
        streamed = (await client.ads(alice, PERFORMANCE)).json
        paged = (await client.ads(alice, PERFORMANCE, "search")).json
    assert [sorted(batch) for batch in streamed] == [["fieldMask", "queryResourceConsumption", "requestId"]]
    assert sorted(paged) == ["fieldMask", "queryResourceConsumption"]
    assert {answer["queryResourceConsumption"] for answer in (*streamed, paged)} == {"1"}


async def test_a_long_stream_comes_in_chunks_and_batches_of_ten_thousand() -> None:
    async with connected(campaigns=3_000) as (sandbox, client):
        answer = await client.ads(await client.bearer(), PERFORMANCE)
        truth = sandbox.ads_truth(int(CUSTOMER), START, END)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    batches = answer.json
    assert [len(batch["results"]) for batch in batches] == [PAGE_ROWS, PAGE_ROWS, len(truth) - 2 * PAGE_ROWS]
    assert {(batch["requestId"], batch["fieldMask"]) for batch in batches} == {
        (batches[0]["requestId"], batches[0]["fieldMask"])
    }
    assert [shown(row) for row in rows_of(batches)] == [true(row) for row in truth]


def test_a_stream_makes_no_more_rows_than_it_has_sent() -> None:
    made = []

    def row(number: int) -> str:
        made.append(number)
        return f'{{"campaign":{{"resourceName":"customers/1/campaigns/{number}"}}}}'

    plan = Plan(("campaign.id",), "campaign", (), segmented=False, start=START, end=END, tests=(), order=(), limit=None)
    blocks = list(islice(stream(plan, Rows(10**12, row), "r"), 30))
    assert len(made) <= 31 * ROWS_PER_BLOCK
    assert all(len(block) < 100 * ROWS_PER_BLOCK for block in blocks)


async def test_pages_have_ten_thousand_rows_and_go_on_where_the_last_one_ended() -> None:
    async with connected(campaigns=3_000) as (sandbox, client):
        alice = await client.bearer()
        streamed = rows_of((await client.ads(alice, PERFORMANCE)).json)
        pages = [
            (await client.ads(alice, PERFORMANCE, "search", searchSettings={"returnTotalResultsCount": True})).json
        ]
        while token := pages[-1].get("nextPageToken"):
            pages.append((await client.ads(alice, PERFORMANCE, "search", pageToken=token)).json)
        groups = [call.quota_group for call in sandbox.calls("ads.search")]
        counted = {row["name"]: row["calls"] for row in sandbox.quotas()}
        other = await client.ads(alice, PERFORMANCE + " LIMIT 5", "search", pageToken=pages[0]["nextPageToken"])
        foreign = await client.ads(alice, PERFORMANCE, "search", pageToken="abc")
    assert [len(page["results"]) for page in pages[:-1]] == [PAGE_ROWS] * 2
    assert rows_of(pages) == streamed
    assert pages[0]["totalResultsCount"] == str(len(streamed))
    assert groups == ["operations", "pages", "pages"], "further pages belong to the first one's operation"
    assert (counted["ads_operations"], counted["ads_minute"]) == (2, 2)
    for refused in (other, foreign):
        assert code_of(refused.json) == (400, {"requestError": "INVALID_PAGE_TOKEN"})


async def test_a_full_last_page_promises_no_other() -> None:
    async with connected(campaigns=20_100) as (_, client):
        alice = await client.bearer()
        query = "SELECT campaign.id FROM campaign LIMIT 20000"
        first = (await client.ads(alice, query, "search")).json
        second = (await client.ads(alice, query, "search", pageToken=first["nextPageToken"])).json
        short = (await client.ads(alice, "SELECT campaign.id FROM campaign LIMIT 3", "search")).json
    assert [len(page["results"]) for page in (first, second, short)] == [PAGE_ROWS, PAGE_ROWS, 3]
    assert "nextPageToken" not in second
    assert "nextPageToken" not in short


async def test_a_restated_day_changes_and_no_other() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        path = f"/_sandbox/truth?provider=google_ads&customer_id={CUSTOMER}&start={START}&end={END}"
        before, told = (
            rows_of((await client.ads(alice, PERFORMANCE)).json),
            (await client.call("GET", path)).json["rows"],
        )
        days = {"provider": "google_ads", "customer_id": CUSTOMER, "start": str(END), "end": str(END)}
        assert (await client.call("POST", "/_sandbox/restate", json=days)).json == {"days": 1}
        after, now = rows_of((await client.ads(alice, PERFORMANCE)).json), (await client.call("GET", path)).json["rows"]
        await client.call("POST", "/_sandbox/reset")
        alice = await client.bearer()
        assert rows_of((await client.ads(alice, PERFORMANCE)).json) == before

    def others(rows: list[Any]) -> list[Any]:
        return [row for row in rows if shown(row)[0] != str(END)]

    assert others(before) == others(after)
    assert before != after
    for rows, truth in ((before, told), (after, now)):
        assert [shown(row)[6:8] for row in rows] == [(row["impressions"], row["clicks"]) for row in truth]
        assert [shown(row)[9] for row in rows] == [Decimal(row["spend"]) for row in truth]


async def test_the_doors_keep_the_providers_apart() -> None:
    async with connected() as (sandbox, client):
        body = {"campaigns": 2, "provider": "google_ads"}
        assert (await client.call("POST", "/_sandbox/figures", json=body)).status == 200
        body = {"campaigns": 3, "provider": "google_ads", "customer_id": CUSTOMER}
        assert (await client.call("POST", "/_sandbox/figures", json=body)).status == 200
        assert {row.campaign_id for row in sandbox.ads_truth(1111111111, START, END)} == {
            1111111111_000000,
            1111111111_000001,
        }
        assert len({row.campaign_id for row in sandbox.ads_truth(int(CUSTOMER), START, END)}) == 3
        assert len({row.campaign_id for row in sandbox.truth(4567, START, END)}) == 5
        for wrong in ({"campaigns": 1, "provider": "nobody"}, {"campaigns": -1, "provider": "google_ads"}):
            assert (await client.call("POST", "/_sandbox/figures", json=wrong)).status == 400


async def test_customers_figures_are_the_sum_of_their_campaigns() -> None:
    async with connected() as (sandbox, client):
        query = f"SELECT segments.date, metrics.clicks FROM customer WHERE {DAYS} ORDER BY segments.date DESC"
        daily = rows_of((await client.ads(await client.bearer(), query)).json)
        truth = sandbox.ads_truth(int(CUSTOMER), START, END)
    dates = [row["segments"]["date"] for row in daily]
    assert dates == sorted(dates, reverse=True)
    for row in daily:
        clicks = sum(one.clicks for one in truth if one.day.isoformat() == row["segments"]["date"])
        assert int(row["metrics"]["clicks"]) == clicks
        assert row["customer"] == {"resourceName": f"customers/{CUSTOMER}"}


@pytest.mark.parametrize(
    ("order", "keys"),
    [
        ("segments.date DESC, campaign.id", [("date", True), ("id", False)]),
        ("campaign.id DESC, segments.date", [("id", True), ("date", False)]),
        ("customer.currency_code, campaign.id, segments.date DESC", [("id", False), ("date", True)]),
        ("metrics.clicks DESC", [("clicks", True)]),
        ("campaign.name, metrics.conversions", [("name", False), ("conversions", False)]),
    ],
)
async def test_rows_come_in_the_order_asked_for(order: str, keys: list[tuple[str, bool]]) -> None:
    def key(row: Any, name: str) -> Any:
        place = {"date": 0, "id": 3, "name": 4, "clicks": 7, "conversions": 8}[name]
        return int(shown(row)[place]) if name == "id" else shown(row)[place]

    async with connected(campaigns=12) as (_, client):
        alice = await client.bearer()
        natural = rows_of((await client.ads(alice, PERFORMANCE)).json)
        query = PERFORMANCE.replace("ORDER BY segments.date", f"ORDER BY {order}")
        rows = rows_of((await client.ads(alice, query)).json)
    expected = list(rows)
    for name, descending in reversed(keys):
        expected.sort(key=lambda row: key(row, name), reverse=descending)
    assert rows == expected
    assert rows != natural
    assert sorted(map(orjson.dumps, rows)) == sorted(map(orjson.dumps, natural))


async def test_conditions_choose_rows() -> None:
    async with connected(campaigns=12) as (_, client):
        alice = await client.bearer()

        async def chosen(condition: str) -> list[tuple[Any, ...]]:
            query = PERFORMANCE.replace(" ORDER", f" AND {condition} ORDER")
            return [shown(row) for (batch) in (await client.ads(alice, query)).json for row in batch.get("results", [])]

        everything = await chosen("campaign.id > 0")
        assert {row[5] for row in everything} == {"ENABLED", "PAUSED", "REMOVED"}, "removed ones are included"
        assert await chosen("campaign.status != 'REMOVED'") == [row for row in everything if row[5] != "REMOVED"]
        assert await chosen("campaign.status IN (PAUSED, 'REMOVED')") == [r for r in everything if r[5] != "ENABLED"]
        assert await chosen("campaign.status NOT IN (ENABLED)") == [row for row in everything if row[5] != "ENABLED"]
        first = everything[0][3]
        assert await chosen(f"campaign.id = {first}") == [row for row in everything if row[3] == first]
        assert await chosen('campaign.name = "Campaign 1"') == [row for row in everything if row[4] == "Campaign 1"]
        assert await chosen("metrics.clicks >= 100") == [row for row in everything if row[7] >= 100]
        assert await chosen("metrics.conversions BETWEEN 1.5 AND 20") == [r for r in everything if 1.5 <= r[8] <= 20]
        assert await chosen("customer.manager = TRUE") == []


async def test_bodies_that_are_not_understood() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        for call in ("search", "searchStream"):
            path = f"/googleads/v26/customers/{CUSTOMER}/googleAds:{call}"
            for body in (b"", b"{", b"[]", b'{"query":7}', b'{"query":"x","colour":"red"}'):
                assert (await client.call("POST", path, headers=alice, data=body)).status == 400, body
            missing = await client.ads(alice, " ", call)
            assert code_of(missing.json) == (400, {"requestError": "REQUIRED_FIELD_MISSING"})
        sized = await client.ads(alice, PERFORMANCE, "search", pageSize=10_000)
        assert code_of(sized.json) == (400, {"requestError": "PAGE_SIZE_NOT_SUPPORTED"})
        assert (await client.ads(alice, PERFORMANCE, "search", searchSettings={"omitResults": True})).status == 400
        assert (await client.ads(alice, PERFORMANCE, summaryRowSetting="SUMMARY_ROW_ONLY")).status == 400
        assert (await client.ads(alice, PERFORMANCE, summaryRowSetting="NO_SUMMARY_ROW")).status == 200
        assert (
            await client.call("GET", "/googleads/v22/customers:listAccessibleCustomers", headers=alice)
        ).status == 404


async def test_a_worker_can_be_pointed_at_it() -> None:
    async with connected() as (sandbox, _):
        settings = Settings.load(sandbox.env)
        found = settings.providers.google_ads
        assert (str(found.api_url), found.allow_private_hosts) == (f"{sandbox.api_url}/googleads/v26/", True)
