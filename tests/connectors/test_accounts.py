"""Which accounts a grant reaches, asked of each provider over real HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiohttp import web

from app.connectors.dv360.client import Dv360Connector
from app.connectors.google_ads.client import GoogleAdsConnector
from app.domain.errors import ProviderError
from app.ports import Account
from tests.connectors.ads import JSON, MANAGER, ads_error
from tests.connectors.support import Handler, calling

DIRECT, CLOSED = "1234567890", "3333333333"


def client(customer: str, level: int, *, manager: bool = False, name: str = "A") -> dict[str, Any]:
    known: dict[str, Any] = {"id": customer, "currencyCode": "EUR", "timeZone": "Europe/Madrid", "level": str(level)}
    return {
        "customerClient": known | ({"descriptiveName": name} if name else {}) | ({"manager": True} if manager else {})
    }


CLIENTS = {
    MANAGER: [
        client(MANAGER, 0, manager=True), client("5876543210", 1), client("9111111111", 1, manager=True),
        client("4111111111", 2, name="Ünder"), client(DIRECT, 1),
    ],
    DIRECT: [client(DIRECT, 0, name="")],
}  # fmt: skip


ACCESSIBLE = (MANAGER, CLOSED, DIRECT)


def google_ads(
    seen: list[tuple[str, str | None]], refusal: dict[str, Any], accessible: Sequence[str] = ACCESSIBLE
) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("login-customer-id")))
        if request.path.endswith(":listAccessibleCustomers"):
            return web.Response(
                headers=JSON,
                body=orjson.dumps({"resourceNames": [f"customers/{one}" for one in accessible]}),
            )
        assert "FROM customer_client" in (await request.json())["query"]
        asked = request.path.split("/")[3]
        if asked == CLOSED:
            return web.Response(status=refusal["error"]["code"], headers=JSON, body=orjson.dumps([refusal]))
        return web.Response(headers=JSON, body=orjson.dumps([{"results": CLIENTS[asked]}]))

    return handle


NOT_ENABLED = ads_error(403, "authorizationError", "CUSTOMER_NOT_ENABLED")


async def test_google_ads_direct_and_through_a_manager() -> None:
    seen: list[tuple[str, str | None]] = []
    async with calling(google_ads(seen, NOT_ENABLED)) as setting:
        found = await GoogleAdsConnector(api_url=f"{setting.base}/v26/").accounts(setting.calls)
        assert setting.permits.asked == [("operations", False)] * 4
        assert setting.permits.outstanding == []
    assert found == (
        Account("5876543210", "A", "EUR", "Europe/Madrid", MANAGER),
        Account("4111111111", "Ünder", "EUR", "Europe/Madrid", MANAGER),
        Account(DIRECT, "", "EUR", "Europe/Madrid"),
    )
    assert [login for _, login in seen] == [None, MANAGER, CLOSED, DIRECT]


async def test_google_ads_direct_access_goes_before_a_managers() -> None:
    for accessible in (ACCESSIBLE, ACCESSIBLE[::-1]):
        async with calling(google_ads([], NOT_ENABLED, accessible)) as setting:
            found = await GoogleAdsConnector(api_url=f"{setting.base}/v26/").accounts(setting.calls)
        assert {account.id: account.manager_id for account in found} == {
            "5876543210": MANAGER, "4111111111": MANAGER, DIRECT: None,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "family", "enum", "code"),
    [
        (401, "authenticationError", "OAUTH_TOKEN_EXPIRED", "token_rejected"),
        (503, "internalError", "TRANSIENT_ERROR", "provider_unavailable"),
        (429, "quotaError", "RESOURCE_EXHAUSTED", "daily_quota"),
    ],
)
async def test_google_ads_failures_that_are_no_accounts_fault(status: int, family: str, enum: str, code: str) -> None:
    async with calling(google_ads([], ads_error(status, family, enum))) as setting:
        with pytest.raises(ProviderError) as caught:
            await GoogleAdsConnector(api_url=f"{setting.base}/v26").accounts(setting.calls)
    assert caught.value.failure.code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, orjson.dumps({"error": {"code": 403}}), "no_access"),
        (200, b"[]", "unreadable_answer"),
        (200, b"<html>", "unreadable_answer"),
        (200, b'{"resourceNames": ["customers/12"]}', "unreadable_answer"),
        (200, b'{"resourceNames": [5]}', "unreadable_answer"),
        (200, b'{"resourceNames": 5}', "unreadable_answer"),
    ],
)
async def test_google_ads_lists_that_are_none(status: int, body: bytes, code: str) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=JSON, body=body)

    async with calling(handle) as setting:
        with pytest.raises(ProviderError) as caught:
            await GoogleAdsConnector(api_url=f"{setting.base}/").accounts(setting.calls)
        assert caught.value.failure.code == code


async def test_google_ads_without_accounts() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(headers=JSON, body=b"{}")

    async with calling(handle) as setting:
        assert await GoogleAdsConnector(api_url=f"{setting.base}/").accounts(setting.calls) == ()


@pytest.mark.parametrize("row", [5, {}, {"customerClient": {}}, {"customerClient": {"id": "12"}}])
async def test_google_ads_rows_that_are_no_accounts(row: Any) -> None:
    async def handle(request: web.Request) -> web.Response:
        listed = request.method == "GET"
        body = {"resourceNames": [f"customers/{DIRECT}"]} if listed else [{"results": [row]}]
        return web.Response(headers=JSON, body=orjson.dumps(body))

    async with calling(handle) as setting:
        with pytest.raises(ProviderError) as caught:
            await GoogleAdsConnector(api_url=f"{setting.base}/").accounts(setting.calls)
        assert caught.value.failure.code == "unreadable_answer"


def advertiser(number: int, **config: str) -> dict[str, Any]:
    return {"advertiserId": str(number), "displayName": f"Ad {number}", **({"generalConfig": config} if config else {})}


def dv360(seen: list[dict[str, str]]) -> Handler:
    pages: dict[tuple[str, str, str], dict[str, Any]] = {
        ("partners", "", ""): {"partners": [{"partnerId": "1"}], "nextPageToken": "p2"},
        ("partners", "", "p2"): {"partners": [{"partnerId": "2"}, {"partnerId": "3"}]},
        ("advertisers", "1", ""): {
            "advertisers": [advertiser(11, currencyCode="EUR", timeZone="Europe/Madrid")], "nextPageToken": "a2",
        },
        ("advertisers", "1", "a2"): {"advertisers": [advertiser(12)]},
        ("advertisers", "2", ""): {},
        ("advertisers", "3", ""): {"advertisers": [advertiser(31), advertiser(11)]},
    }  # fmt: skip

    async def handle(request: web.Request) -> web.Response:
        query = dict(request.query)
        seen.append(query)
        key = (request.path.split("/")[2], query.get("partnerId", ""), query.get("pageToken", ""))
        return web.Response(headers=JSON, body=orjson.dumps(pages[key]))

    return handle


async def test_dv360_advertisers_of_all_partners() -> None:
    seen: list[dict[str, str]] = []
    async with calling(dv360(seen)) as setting:
        found = await Dv360Connector(api_url=f"{setting.base}/v4").accounts(setting.calls)
        assert setting.permits.asked == [("entities", False)] * 6
    assert found == (
        Account("11", "Ad 11", "EUR", "Europe/Madrid"),
        Account("12", "Ad 12", None, None),
        Account("31", "Ad 31", None, None),
    )
    assert {(query["pageSize"], query["filter"]) for query in seen} == {("200", 'entityStatus="ENTITY_STATUS_ACTIVE"')}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, b"", "no_access"),
        (503, b"", "provider_unavailable"),
        (200, b"[]", "unreadable_answer"),
        (200, b'{"partners": {}}', "unreadable_answer"),
        (200, b'{"partners": [1]}', "unreadable_answer"),
        (200, b'{"partners": [{"partnerId": "../1"}]}', "unreadable_answer"),
        (200, b'{"nextPageToken": "again"}', "unreadable_answer"),
    ],
)
async def test_dv360_lists_that_are_none(status: int, body: bytes, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connectors.dv360.client._MOST_PAGES", 3)

    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=JSON, body=body)

    async with calling(handle) as setting:
        with pytest.raises(ProviderError) as caught:
            await Dv360Connector(api_url=f"{setting.base}/v4/").accounts(setting.calls)
        assert caught.value.failure.code == code
        assert len(setting.permits.asked) <= 3
