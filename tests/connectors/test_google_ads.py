"""Whole fetches of Google Ads over real HTTP: what is asked, what is stored, and that nothing is kept of an answer that
does not come to its end."""

from __future__ import annotations

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.google_ads.client import GoogleAdsConnector
from app.connectors.google_ads.quotas import QUOTAS
from app.domain.errors import ErrorClass, Throttle
from app.domain.model import ConnectorType
from tests.connectors.ads import (
    CUSTOMER,
    JSON,
    MANAGER,
    ads_error,
    ads_fetch,
    ads_offer,
    ads_row,
    answer,
    dripping,
    element,
    saying,
)

ROWS = [ads_row(1), ads_row(2, 10), ads_row(3)]


async def test_campaigns(tmp_path: Path) -> None:
    async with ads_fetch(tmp_path, saying(answer(ROWS))) as fetch:
        outcome = await fetch.run()
        assert outcome.file is not None
        assert (outcome.calls, outcome.file.rows) == (1, 3)
        assert outcome.file.totals == {"impressions": "360", "clicks": "9", "spend": "37.037034"}
        assert outcome.file.columns_absent == ()
        assert fetch.setting.permits.asked == [("operations", True)]
    async with ads_fetch(tmp_path / "again", saying(answer(ROWS, pretty=True))) as fetch:
        assert (await fetch.rows())[1] == {
            "connector_id": "conn_" + "1" * 32,
            "date": date(2026, 11, 2),
            "campaign_id": "10",
            "campaign_name": "Campaign 10",
            "account_id": CUSTOMER,
            "currency": "EUR",
            "time_zone": "Europe/Madrid",
            "impressions": 120,
            "clicks": 3,
            "conversions": Decimal("1.500000"),
            "spend": Decimal("12.345678"),
        }


async def test_accounts_figures(tmp_path: Path) -> None:
    row = ads_row(4)
    del row["campaign"]
    row["customer"] |= {"descriptiveName": "Añil 株式会社 🚀", "currencyCode": "JPY"}
    seen: list[web.Request] = []
    async with ads_fetch(tmp_path, saying(answer([row]), seen=seen)) as fetch:
        (found,) = await fetch.rows(ads_offer(report_type="account_performance"))
    assert (found["account_name"], found["currency"], found["spend"]) == (
        "Añil 株式会社 🚀", "JPY", Decimal("12.345678"),
    )  # fmt: skip
    query = orjson.loads(await seen[0].read())["query"]
    assert query == (
        "SELECT segments.date, customer.id, customer.descriptive_name, customer.currency_code, metrics.impressions, "
        "metrics.clicks, metrics.conversions, metrics.cost_micros FROM customer "
        "WHERE segments.date BETWEEN '2026-11-01' AND '2026-11-07' ORDER BY segments.date"
    )


async def test_what_is_asked(tmp_path: Path) -> None:
    seen: list[web.Request] = []
    async with ads_fetch(tmp_path, saying(answer(ROWS), seen=seen)) as fetch:
        await fetch.run()
    (request,) = seen
    assert (request.method, request.path) == ("POST", f"/v26/customers/{CUSTOMER}/googleAds:searchStream")
    assert orjson.loads(await request.read()) == {
        "query": "SELECT segments.date, campaign.id, campaign.name, customer.id, customer.currency_code, "
        "metrics.impressions, metrics.clicks, metrics.conversions, metrics.cost_micros FROM campaign "
        "WHERE segments.date BETWEEN '2026-11-01' AND '2026-11-07' ORDER BY segments.date"
    }
    assert request.headers["Authorization"] == "Bearer token-one"
    assert "gzip" in request.headers["User-Agent"]
    assert not {"login-customer-id", "developer-token"} & {name.lower() for name in request.headers}


async def test_a_manager_and_a_developer_token_are_named_in_headers(tmp_path: Path) -> None:
    seen: list[web.Request] = []
    async with ads_fetch(tmp_path, saying(answer(ROWS), seen=seen), developer_token="canary") as fetch:
        await fetch.run(ads_offer(manager_id=MANAGER))
        assert "canary" not in repr(fetch.connector)
    assert (seen[0].headers["login-customer-id"], seen[0].headers["developer-token"]) == (MANAGER, "canary")


@pytest.mark.parametrize(
    "ids",
    [{"account_id": "123-456-7890"}, {"account_id": "1/../2"}, {"account_id": ""}, {"manager_id": "987-654-3210"}],
)
async def test_ids_that_are_none_reach_nobody(tmp_path: Path, ids: dict[str, str]) -> None:
    async with ads_fetch(tmp_path, saying(answer(ROWS))) as fetch:
        failure = await fetch.failure(ads_offer(**ids))
        assert (failure.error_class, failure.code, failure.retryable) == (
            ErrorClass.INVALID_REQUEST, "invalid_account", False,
        )  # fmt: skip
        assert fetch.setting.permits.asked == []


@pytest.mark.parametrize("body", [answer([]), answer([], []), b"[]", b" [\r\n]\n"])
async def test_no_rows_are_an_empty_file(tmp_path: Path, body: bytes) -> None:
    async with ads_fetch(tmp_path, saying(body)) as fetch:
        assert await fetch.rows() == []


async def test_zeros_that_are_left_out(tmp_path: Path) -> None:
    bare = ads_row(2)
    del bare["metrics"]
    async with ads_fetch(tmp_path, saying(answer([ads_row(1, clicks="0"), bare]))) as fetch:
        for row in await fetch.rows():
            assert [row[name] for name in ("impressions", "clicks", "conversions", "spend")] == [0, 0, 0, 0]


@pytest.mark.parametrize("size", [1, 7, 64, 997])
@pytest.mark.parametrize("pretty", [False, True])
async def test_pieces_cut_anywhere_give_the_same_rows(tmp_path: Path, size: int, pretty: bool) -> None:
    names = ['Ü"}],[{\\', "\\\\", '"conversions":5', "日本語\n\u2028🎈"]
    batches = [[ads_row(day, 20 + day * 4 + number) for number in range(4)] for day in (1, 2, 3)]
    for batch in batches:
        for row, name in zip(batch, names, strict=True):
            row["campaign"]["name"] = name
    async with ads_fetch(tmp_path, dripping(answer(*batches, pretty=pretty), size)) as fetch:
        rows = await fetch.rows()
    assert [row["campaign_name"] for row in rows] == names * 3
    assert [row["campaign_id"] for row in rows] == [str(20 + day * 4 + n) for day in (1, 2, 3) for n in range(4)]


async def test_many_batches(tmp_path: Path) -> None:
    batches = [[ads_row(1 + day, number) for number in range(9_000)] for day in range(3)]
    body = gzip.compress(answer(*batches))
    async with ads_fetch(tmp_path, saying(body, Content_Encoding="gzip")) as fetch:
        outcome = await fetch.run()
    assert outcome.file is not None
    assert [rows for _, rows, _ in outcome.file.days] == [9_000, 9_000, 9_000, 0, 0, 0, 0]
    assert outcome.file.totals["spend"] == str(Decimal("12.345678") * 27_000)


async def test_a_connection_that_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    body = answer([ads_row(1, n) for n in range(9_000)], ROWS)
    async with ads_fetch(tmp_path, dripping(body[:-40], 60_000, breaks=True)) as fetch:
        failure = await fetch.failure()
        assert (failure.error_class, failure.system) == (ErrorClass.PROVIDER_SYSTEM, True)
        assert [ended.ok for ended in fetch.setting.permits.ends if ended] == [False]


@pytest.mark.parametrize("cut", [1, 100, 700, -1])
async def test_an_answer_that_stops_early_leaves_nothing(tmp_path: Path, cut: int) -> None:
    async with ads_fetch(tmp_path, dripping(answer(ROWS, ROWS)[:cut], 50)) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, failure.system) == ("truncated_report", True, True)
        assert [ended.ok for ended in fetch.setting.permits.ends if ended] == [False]


async def test_a_refusal_behind_good_batches(tmp_path: Path) -> None:
    many = element([ads_row(1, n) for n in range(9_000)])
    refused = ads_error(429, "quotaError", "RESOURCE_TEMPORARILY_EXHAUSTED", retryDelay="30s")
    body = orjson.dumps([many, many, refused])
    async with ads_fetch(tmp_path, dripping(body, 60_000)) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.throttle) == ("rate_limited", Throttle(None, 30.0))
    refused = ads_error(500, "internalError", "TRANSIENT_ERROR")
    async with ads_fetch(tmp_path, saying(orjson.dumps([element(ROWS), refused]))) as fetch:
        assert ((await fetch.failure()).code, fetch.setting.permits.ends[0].ok) == ("provider_unavailable", False)  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("listed", [True, False])
async def test_refusals_in_an_array_or_not(tmp_path: Path, status: int, listed: bool) -> None:
    error = ads_error(403, "authorizationError", "USER_PERMISSION_DENIED", "User doesn't have permission.")
    body = orjson.dumps([error] if listed else error)
    async with ads_fetch(tmp_path, saying(body, status)) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.provider_code) == ("no_access", "authorizationError.USER_PERMISSION_DENIED")
        assert failure.message == "Refused.; User doesn't have permission."
        assert fetch.setting.permits.ends[0].ok  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "provider_unavailable"), (404, "not_found"), (429, "rate_limited"), (302, "redirect_refused")],
)
async def test_refusals_of_servers_in_front_of_it(tmp_path: Path, status: int, code: str) -> None:
    for body, kind in ((b"<html>Sorry</html>", "text/html"), (b"", "application/json"), (answer(ROWS), "text/json")):
        async with ads_fetch(tmp_path, saying(body, status, Content_Type=kind)) as fetch:
            assert (await fetch.failure()).code == code


async def test_a_rejected_token_is_replaced_once(tmp_path: Path) -> None:
    expired = orjson.dumps([ads_error(401, "authenticationError", "OAUTH_TOKEN_EXPIRED")])
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request.headers["Authorization"])
        fresh = seen[-1] == "Bearer token-two"
        return web.Response(status=200 if fresh else 401, body=answer(ROWS) if fresh else expired, headers=JSON)

    async with ads_fetch(tmp_path, handle) as fetch:
        assert len(await fetch.rows()) == 3
        assert len(fetch.setting.permits.asked) == 2
    async with ads_fetch(tmp_path / "again", saying(expired, 401)) as fetch:
        assert (await fetch.failure()).code == "token_rejected"


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"<html>Sign in</html>", "text/html", "unexpected_content_type"),
        (answer(ROWS), "text/plain", "unexpected_content_type"),
        (b"<html>Sign in</html>", "application/json", "unreadable_answer"),
        (b"", "application/json", "empty_report"),
        (b" \n", "application/json", "empty_report"),
        (b"{}", "application/json", "unreadable_answer"),
        (orjson.dumps(element(ROWS)), "application/json", "unreadable_answer"),
        (b"[1]", "application/json", "unreadable_answer"),
        (b"[{}{}]", "application/json", "unreadable_answer"),
        (b"[{},]", "application/json", "unreadable_answer"),
        (b"[{}] []", "application/json", "unreadable_answer"),
        (b'[{"results": [}]', "application/json", "unreadable_answer"),
        (b'[{"results": {}}]', "application/json", "unreadable_answer"),
        (b'[{"results": [3]}]', "application/json", "unreadable_answer"),
        (b'[{"results": [{"segments": "x"}]}]', "application/json", "unreadable_answer"),
        (b'[{"a": \\" }]', "application/json", "unreadable_answer"),
        (b'[{"a": "\xff"}]', "application/json", "unreadable_answer"),
        (b"[" * 100, "application/json", "unreadable_answer"),
        (b'[{"a":' + b"[" * 100 + b"]" * 100 + b"}]", "application/json", "unreadable_answer"),
        (b'[{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}]", "application/json", "unreadable_answer"),
    ],
)
async def test_what_is_no_answer(tmp_path: Path, body: bytes, kind: str, code: str) -> None:
    async with ads_fetch(tmp_path, saying(body, Content_Type=kind)) as fetch:
        failure = await fetch.failure()
        assert (failure.error_class, failure.code, failure.retryable) == (ErrorClass.PROVIDER_RESPONSE, code, True)


async def test_a_batch_beyond_all_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connectors.google_ads.cutter.MOST_ELEMENT", 1_000_000)
    row = ads_row(1)
    row["campaign"]["name"] = "x" * 1_100_000
    async with ads_fetch(tmp_path, saying(answer(ROWS, [row]))) as fetch:
        failure = await fetch.failure()
        assert (failure.error_class, failure.code) == (ErrorClass.TOO_LARGE, "response_too_large")
        assert not failure.retryable


async def test_json_has_no_lines_but_an_end(tmp_path: Path) -> None:
    body = answer([ads_row(1, n) for n in range(500)])
    async with ads_fetch(tmp_path, saying(body), limits=Limits(line_bytes=1_000)) as fetch:
        assert len(await fetch.rows()) == 500
    async with ads_fetch(tmp_path / "again", saying(body), limits=Limits(stream_bytes=1_000)) as fetch:
        assert (await fetch.failure()).code == "response_too_large"


async def test_a_step_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="poll"):
        await GoogleAdsConnector().step(ads_offer("poll"), None)  # type: ignore[arg-type]


def test_what_it_declares() -> None:
    connector: Any = GoogleAdsConnector()
    assert (connector.connector_type, connector.steps) == (ConnectorType.GOOGLE_ADS, ("start",))
    assert connector.minimum_calls == {"operations": 1}
    (quota,) = QUOTAS
    assert (quota.name, quota.charge, quota.scope) == ("operations_per_day", "operations", "application")
    assert (quota.limit, quota.period_ms, quota.calendar_zone) == (15_000, 86_400_000, None)
    assert quota.source
