"""GraphQL of The Trade Desk in the sandbox: figures, pages, and how it says no."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from app.sandbox.ttd.graphql_query import QueryError, Selection, parse_query
from tests.sandbox.client import END, START, Client, Reply, connected

METRICS = "metrics { impressions clicks conversions spend { advertiserCurrency } }"
FIGURES = (
    "reporting { generalReporting(where: {date: {gte: $from, lte: $to}}) { nodes { dimensions { time { day } } "
    f"{METRICS} }} pageInfo {{ hasNextPage }} }} }}"
)
ONE = f"query P($id: ID!, $from: DateTime, $to: DateTime) {{ campaign(id: $id) {{ id name {FIGURES} }} }}"
ALL = f"query A($id: ID!, $from: DateTime, $to: DateTime) {{ advertiser(id: $id) {{ id name {FIGURES} }} }}"
LIST = (
    "query L($id: ID!, $first: Int, $after: String) { advertiser(id: $id) { campaigns(first: $first, after: $after) "
    "{ nodes { id name } pageInfo { hasNextPage endCursor } } } }"
)
DAYS = {"from": f"{START}T00:00:00Z", "to": f"{END}T00:00:00Z"}


async def ask(client: Client, query: str, variables: Any, user: str = "ana", **headers: str) -> Reply:
    known = {"TTD-Auth": client.sandbox.ttd_token(user), **headers}
    return await client.call("POST", "/ttd/graphql", json={"query": query, "variables": variables}, headers=known)


def code(answer: Reply) -> str:
    assert answer.status == 200
    (error,) = answer.json["errors"]
    assert set(error) == {"message", "extensions"}
    return str(error["extensions"]["code"])


def days(entity: Any) -> list[tuple[Any, ...]]:
    report = entity["reporting"]["generalReporting"]
    assert report["pageInfo"] == {"hasNextPage": False}
    return [
        (row["dimensions"]["time"]["day"][:10], *(row["metrics"][name] for name in ("impressions", "clicks")),
         Decimal(str(row["metrics"]["conversions"])), Decimal(str(row["metrics"]["spend"]["advertiserCurrency"])))
        for row in report["nodes"]
    ]  # fmt: skip


async def test_figures_of_a_campaign_and_of_an_advertiser_are_the_truth() -> None:
    async with connected() as (sandbox, client):
        truth = sandbox.ttd_truth("adv7", "UTC", START, END)
        one = (await ask(client, ONE, {"id": "c7x2", **DAYS})).json["data"]["campaign"]
        assert (one["id"], one["name"]) == ("c7x2", truth[2].campaign_name)
        assert days(one) == [
            (str(row.day), row.impressions, row.clicks, row.conversions, row.cost)
            for row in truth
            if row.campaign_id == "c7x2"
        ]
        whole = days((await ask(client, ALL, {"id": "adv7", **DAYS})).json["data"]["advertiser"])
        assert len(whole) == 7
        assert sum(row[4] for row in whole) == sum(row.cost for row in truth)
        sandbox.restate_ttd("adv7", START, START)
        again = days((await ask(client, ALL, {"id": "adv7", **DAYS})).json["data"]["advertiser"])
        assert again[0] != whole[0]
        assert again[1:] == whole[1:]


async def test_both_ends_of_the_range_are_included() -> None:
    async with connected() as (_, client):
        for end, count in ((f"{END}T23:59:59Z", 7), (f"{END + timedelta(days=1)}T00:00:00Z", 8)):
            found = await ask(client, ONE, {"id": "c7x0", "from": DAYS["from"], "to": end})
            assert len(days(found.json["data"]["campaign"])) == count


async def test_campaigns_come_in_pages() -> None:
    async with connected(campaigns=5) as (_, client):
        found, after = [], None
        for more in (True, True, False):
            answer = await ask(client, LIST, {"id": "adv7", "first": 2, "after": after})
            page = answer.json["data"]["advertiser"]["campaigns"]
            assert page["pageInfo"]["hasNextPage"] is more
            found += [one["id"] for one in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
        assert found == [f"c7x{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("query", "changes", "expected"),
    [
        (ONE, {"id": "c7x5"}, "NOT_FOUND"),
        (ALL, {"id": "adv0"}, "NOT_FOUND"),
        (ONE, {"from": f"{START}"}, "VALIDATION_FAILURE"),
        (ONE, {"from": f"{START - timedelta(days=500)}T00:00:00Z"}, "VALIDATION_FAILURE"),
        (ONE, {"to": f"{START - timedelta(days=1)}T00:00:00Z"}, "VALIDATION_FAILURE"),
        (ONE, {"id": None}, "VALIDATION_FAILURE"),
        (ONE.replace("clicks", "taps"), {}, "VALIDATION_FAILURE"),
        (ONE.replace("gte: $from, ", ""), {}, "VALIDATION_FAILURE"),
        (LIST, {"first": 1_001, "id": "adv7"}, "VALIDATION_FAILURE"),
        (LIST, {"first": 2, "id": "adv7", "after": "x"}, "VALIDATION_FAILURE"),
        ("mutation { x }", {}, "VALIDATION_FAILURE"),
    ],
)
async def test_what_is_wrong_is_told_at_status_200(query: str, changes: dict[str, Any], expected: str) -> None:
    async with connected() as (_, client):
        known: dict[str, Any] = {"id": "c7x2", **DAYS}
        assert code(await ask(client, query, known | changes)) == expected


async def test_who_may_ask() -> None:
    async with connected() as (sandbox, client):
        asked = {"id": "c7x2", **DAYS}
        nobody = await client.call("POST", "/ttd/graphql", json={"query": ONE, "variables": asked})
        assert (nobody.status, nobody.json) == (401, {"message": "Unauthorized"})
        assert code(await ask(client, ONE, asked, Authorization="Bearer x")) == "AUTHENTICATION_FAILURE"
        old = sandbox.ttd_token("ana")
        sandbox.faults.add("ttd.graphql", "revoked", times=1)
        assert code(await ask(client, ONE, asked)) == "AUTHENTICATION_FAILURE"
        assert code(await ask(client, ONE, asked, **{"TTD-Auth": old})) == "AUTHENTICATION_FAILURE"
        assert "data" in (await ask(client, ONE, asked)).json
        wrong = await client.call("POST", "/ttd/graphql", data=b"{}", headers={"TTD-Auth": sandbox.ttd_token("ana")})
        assert wrong.status == 415


async def test_it_is_counted_apart_from_rest() -> None:
    async with connected(enforce=True) as (sandbox, client):
        sandbox.set_quota("ttd_graphql", 1)
        asked = {"id": "c7x2", **DAYS}
        assert [(await ask(client, ONE, asked)).status for _ in range(2)] == [200, 429]
        assert int((await ask(client, ONE, asked)).headers["Retry-After"]) >= 1
        body = {"NameContains": "x", "PageStartIndex": 0, "PageSize": 1}
        path, token = "/ttd/v3/myreports/reporttemplateheader/query", {"TTD-Auth": sandbox.ttd_token("ana")}
        assert (await client.call("POST", path, json=body, headers=token)).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        ("429", 429, None),
        ("403_rate", 200, "RESOURCE_LIMIT_EXCEEDED"),
        ("403_permission", 200, "NOT_FOUND"),
        ("internal", 200, "INTERNAL_SERVER_ERROR"),
        ("503", 200, "SERVICE_UNAVAILABLE"),
        ("504", 504, None),
    ],
)
async def test_faults(fault: str, status: int, word: str | None) -> None:
    async with connected() as (sandbox, client):
        sandbox.faults.add("ttd.graphql", fault)
        answer = await ask(client, ONE, {"id": "c7x2", **DAYS})
        assert answer.status == status
        assert word is None or code(answer) == word
        assert ("data" in orjson.loads(answer.body)) == (fault == "internal"), "a part of the data may come as well"


def test_a_question_is_read() -> None:
    found = parse_query('query { advertiser(id: "adv7") { id campaigns(first: 2) { nodes { id } } } }', {})
    campaigns = Selection("campaigns", {"first": 2}, (Selection("nodes", {}, (Selection("id", {}, ()),)),))
    assert found == (Selection("advertiser", {"id": "adv7"}, (Selection("id", {}, ()), campaigns)),)


@pytest.mark.parametrize(
    "text",
    [
        "", "query", "query {", "query { }", "query { advertiser }", "query { advertiser(id: $id) { id } }",
        "query Q($id: ID!) { advertiser(id: $id) { id } }", "query Q($id: ID) { advertiser(id: 1) { id } }",
        "query { advertiser(id: 1) { id { x } } }", "query { advertiser(name: 1) { id } }", "query { nobody { id } }",
        "query { advertiser(id: 1) { id } } query { advertiser(id: 1) { id } }", "query { advertiser(id: ?) { id } }",
        "query Q($n: Float) { advertiser(id: $n) { id } }", "query { 1 }", "query { advertiser(id: x) { id } }",
        "query " + "{ a " * 30 + "}" * 30,
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse_query(text, {})
