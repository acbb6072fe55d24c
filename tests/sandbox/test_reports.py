"""Bid Manager over HTTP: the way from query to file, refusals, and the form of the file."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.sandbox.dv360.state import Fixed, Quirks
from tests.sandbox.client import END, START, cells, connected, custom, query_body


async def test_from_query_to_file_as_the_truth_has_it() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        text = await client.download(await client.finished(alice, query_body()))
        truth = sandbox.truth(4567, START, END)
    table = cells(text)
    assert text.splitlines()[0] == (
        "Date,Advertiser ID,Advertiser Currency,Campaign ID,Campaign,"
        "Impressions,Clicks,Total Conversions,Revenue (Adv Currency)"
    )
    rows = table[1 : table.index([])]
    expected = [[f"{row.day:%Y/%m/%d}", "4567", row.currency, str(row.campaign_id), row.campaign_name] for row in truth]
    assert [row[:5] for row in rows[:-1]] == expected
    for shown, row in zip(rows, truth, strict=False):
        assert [Decimal(cell) for cell in shown[5:]] == [row.impressions, row.clicks, row.conversions, row.revenue]
    totals = rows[-1]
    assert totals[:5] == [""] * 5
    for column in range(5, 9):
        assert Decimal(totals[column]) == sum(Decimal(row[column]) for row in rows[:-1])
    footer = [line[0] for line in table[table.index([]) + 1 :]]
    assert footer == ["Report Time:", "Date Range:", "Group By:", "Filter by Advertiser ID:"]


async def test_ids_are_strings_and_the_link_comes_only_when_done() -> None:
    async with connected(report_duration=Fixed(60.0)) as (_, client):
        alice = await client.bearer()
        query_id = await client.create(alice, query_body())
        assert "reports" not in (await client.reports("GET", f"queries/{query_id}/reports", alice)).json
        report = await client.run(alice, query_id)
        assert report["key"]["queryId"] == query_id
        assert isinstance(report["key"]["reportId"], str)
        assert report["metadata"]["status"] == {"state": "QUEUED", "format": "CSV"}
        assert "googleCloudStoragePath" not in report["metadata"]
        listed = (await client.reports("GET", f"queries/{query_id}/reports", alice)).json
        assert [one["key"] for one in listed["reports"]] == [report["key"]]


async def test_another_user_gets_404_everywhere() -> None:
    async with connected() as (_, client):
        alice, bob = await client.bearer("alice"), await client.bearer("bob")
        query_id = await client.create(alice, query_body())
        report_id = (await client.run(alice, query_id))["key"]["reportId"]
        answers = [
            await client.reports("GET", f"queries/{query_id}", bob),
            await client.reports("POST", f"queries/{query_id}:run", bob, json={}),
            await client.reports("GET", f"queries/{query_id}/reports/{report_id}", bob),
            await client.reports("GET", f"queries/{query_id}/reports", bob),
            await client.reports("DELETE", f"queries/{query_id}", bob),
        ]
        assert [answer.status for answer in answers] == [404] * 5
        assert answers[0].json["error"]["status"] == "NOT_FOUND"
        assert (await client.reports("GET", "queries", bob)).json == {}
        assert (await client.reports("GET", f"queries/{query_id}", alice)).status == 200


async def test_deleting_a_query_takes_its_reports_and_file_along() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        link = await client.finished(alice, query_body())
        query_id = (await client.reports("GET", "queries", alice)).json["queries"][0]["queryId"]
        assert (await client.reports("DELETE", f"queries/{query_id}", alice)).status == 200
        assert (await client.reports("GET", f"queries/{query_id}/reports", alice)).status == 404
        assert (await client.call("GET", link)).status == 404
        assert (await client.reports("GET", "queries", alice)).json == {}


OLD = START - timedelta(days=3 * 365)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"groupBys": ["FILTER_DATE", "FILTER_CAMPAIGN"]}, "query.params.groupBys[1]"),
    ({"metrics": ["METRIC_MAGIC"]}, "query.params.metrics[0]"),
    ({"metrics": []}, "query.params.metrics"),
    ({"filters": [{"type": "FILTER_MAGIC", "value": "1"}]}, "query.params.filters[0].type"),
    ({"filters": []}, "query.params.filters"),
    ({"filters": [{"type": "FILTER_PARTNER", "value": "99"}]}, "query.params.filters"),
    ({"type": "TYPE_GENERAL"}, "query.params.type"),
    ({"format": "XLSX"}, "query.metadata.format"),
    ({"colour": "red"}, "query.params"),
    ({"dataRange": custom(END, START)}, "query.metadata.dataRange.customStartDate"),
    ({"dataRange": custom(OLD, OLD)}, "query.metadata.dataRange.customStartDate"),
    ({"dataRange": {"range": "LAST_8_DAYS"}}, "query.metadata.dataRange.range"),
    ({"dataRange": {"range": "CUSTOM_DATES"}}, "query.metadata.dataRange.customStartDate"),
]


async def test_bad_queries_are_refused_with_the_field() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        for changes, field in REFUSED:
            answer = await client.reports("POST", "queries", alice, json=query_body(**changes))
            error = answer.json["error"]
            violations = error["details"][0]["fieldViolations"]
            assert (answer.status, error["status"]) == (400, "INVALID_ARGUMENT"), changes
            assert field in [one["field"] for one in violations], (changes, violations)
        for body in (b"", b"{", b"[]", b"7"):
            assert (await client.reports("POST", "queries", alice, data=body)).status == 400
        assert sandbox.world.dv360.queries == {}


async def test_a_run_may_bring_its_own_days() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        query_id = await client.create(alice, query_body())
        await client.run(alice, query_id, {"dataRange": custom(END, END)})
        await client.run(alice, query_id, {"dataRange": {"range": "LAST_7_DAYS"}})
        assert (await client.reports("POST", f"queries/{query_id}:run?synchronous=true", alice, json={})).status == 400
        assert (await client.reports("POST", f"queries/{query_id}:run", alice, json={"x": 1})).status == 400
        first, second = sandbox.reports()
    assert (first["start"], first["end"]) == (END.isoformat(), END.isoformat())
    assert first["title"] == "weekly"
    assert second["end"] > first["end"]


async def test_a_restated_day_differs_between_two_reports() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        first = await client.finished(alice, query_body())
        before = await client.download(first)
        sandbox.restate(4567, END, END)
        after = await client.download(await client.finished(alice, query_body()))
        assert await client.download(first) == before, "a finished report never changes"
    changed = {
        row[0] for row, other in zip(cells(before), cells(after), strict=True) if row[:5] != [""] * 5 and row != other
    }
    assert {cell for cell in changed if cell.startswith("20")} == {f"{END:%Y/%m/%d}"}


async def test_no_campaigns_is_said_in_words() -> None:
    async with connected(campaigns=0) as (_, client):
        text = await client.download(await client.finished(await client.bearer(), query_body()))
    assert text.splitlines()[1:3] == ["No data returned by the reporting service.", ""]


async def test_quirks_are_switchable() -> None:
    quirks = Quirks(dash=True, unknown=True, threshold=True)
    async with connected(campaigns=60, quirks=quirks) as (sandbox, client):
        text = await client.download(await client.finished(await client.bearer(), query_body()))
        truth = sandbox.truth(4567, START, END)
    table = cells(text)
    rows = table[1 : table.index([]) - 1]
    for shown, row in zip(rows, truth, strict=True):
        low = "-" if row.impressions == 0 else "< 1000"
        assert shown[5] == (low if row.impressions < 1_000 else str(row.impressions))
    assert {row[4] for row in rows[2::3]} == {"Unknown"}
    assert "-" in {row[6] for row in rows}


async def test_coarser_and_finer_groupings_add_up_to_the_same() -> None:
    coarse = ["FILTER_ADVERTISER", "FILTER_ADVERTISER_TIMEZONE"]
    fine = ["FILTER_DATE", "FILTER_MEDIA_PLAN", "FILTER_INSERTION_ORDER", "FILTER_LINE_ITEM_NAME"]
    async with connected() as (_, client):
        alice = await client.bearer()
        texts = [
            await client.download(await client.finished(alice, query_body(groupBys=names))) for names in (coarse, fine)
        ]
    tables = [cells(text) for text in texts]
    bodies = [table[1 : table.index([])] for table in tables]
    assert [len(body) for body in bodies] == [2, 5 * 7 * 4 + 1]
    assert bodies[0][-1][2:] == bodies[1][-1][4:] == bodies[0][0][2:]


async def test_a_long_report_is_streamed_whole() -> None:
    async with connected(campaigns=3_000) as (_, client):
        answer = await client.call("GET", await client.finished(await client.bearer(), query_body()))
    assert "Content-Length" not in answer.headers
    table = cells(answer.body.decode())
    assert table.index([]) == 1 + 3_000 * 7 + 1
    rows = table[1 : table.index([])]
    assert int(rows[-1][5]) == sum(int(row[5]) for row in rows[:-1])


async def test_lists_have_pages() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        made = [await client.create(alice, query_body(title=f"q{n}")) for n in range(3)]
        first = (await client.reports("GET", "queries?pageSize=2&orderBy=queryId desc", alice)).json
        path = f"queries?pageSize=2&orderBy=queryId desc&pageToken={first['nextPageToken']}"
        second = (await client.reports("GET", path, alice)).json
        assert (await client.reports("GET", "queries?pageSize=101", alice)).status == 400
        assert (await client.reports("GET", "queries?pageToken=abc", alice)).status == 400
    assert [one["queryId"] for one in first["queries"] + second["queries"]] == made[::-1]
    assert "nextPageToken" not in second


async def test_the_storage_origin_refuses_tokens_and_bad_links() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        link = await client.finished(alice, query_body())
        assert link.startswith(sandbox.storage_url)
        leaked = await client.call("GET", link, headers=alice)
        forged = await client.call("GET", link[:-1] + ("0" if link[-1] != "0" else "1"))
        moved = await client.call("GET", link.replace("Expires=1", "Expires=2"))
        assert [leaked.status, forged.status, moved.status] == [403] * 3
        assert b"AccessDenied" in leaked.body
        shown = sandbox.calls("storage.download")[0]
        assert (shown.authorization, shown.status, shown.title) == (True, 403, "weekly")
        assert (await client.call("GET", link)).status == 200


@pytest.mark.parametrize("seconds", [-1.0])
async def test_a_link_expires(seconds: float) -> None:
    async with connected(link_seconds=seconds) as (_, client):
        answer = await client.call("GET", await client.finished(await client.bearer(), query_body()))
    assert (answer.status, b"ExpiredToken" in answer.body) == (400, True)


async def test_entities() -> None:
    async with connected() as (sandbox, client):
        alice = await client.bearer()
        root = "/displayvideo/v4"
        partner = (await client.call("GET", f"{root}/partners", headers=alice)).json["partners"][0]
        path = f"{root}/advertisers?partnerId={partner['partnerId']}&pageSize=2"
        listed = (await client.call("GET", path, headers=alice)).json
        one = (await client.call("GET", f"{root}/advertisers/4567", headers=alice)).json
        assert listed["advertisers"][0] == one
        assert len(listed["advertisers"]) == 2
        assert "nextPageToken" in listed
        assert set(one["generalConfig"]) == {"currencyCode", "timeZone"}
        assert one["generalConfig"]["currencyCode"] == sandbox.truth(4567, END, END)[0].currency
        assert (await client.call("GET", f"{root}/advertisers", headers=alice)).status == 400
        assert (await client.call("GET", f"{root}/advertisers?partnerId=1", headers=alice)).json == {}
        assert (await client.call("GET", f"{root}/advertisers/0", headers=alice)).status == 404
        campaigns = (await client.call("GET", f"{root}/advertisers/4567/campaigns", headers=alice)).json["campaigns"]
    assert len(campaigns) == 5
