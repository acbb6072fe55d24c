"""Google Ads over HTTP: by which way one may ask for which account."""

from __future__ import annotations

from typing import Any

from app.sandbox.google_oauth.state import ALL_SCOPES, REPORTS_SCOPE
from tests.sandbox.client import CUSTOMER, PERFORMANCE, code_of, connected, rows_of
from tests.sandbox.test_oauth import consent, exchange

CLIENTS = (
    "SELECT customer_client.id, customer_client.level, customer_client.manager, customer_client.currency_code, "
    "customer_client.time_zone, customer_client.descriptive_name FROM customer_client"
)


async def test_an_account_behind_a_manager_needs_the_header() -> None:
    query = "SELECT customer.id FROM customer LIMIT 1"
    async with connected() as (_, client):
        alice = await client.bearer()

        async def asked(customer: str, login: str | None) -> Any:
            headers = alice if login is None else alice | {"login-customer-id": login}
            answer = await client.ads(headers, query, "search", customer)
            return answer.json["results"][0]["customer"]["id"] if answer.status == 200 else code_of(answer.json)

        denied = (403, {"authorizationError": "USER_PERMISSION_DENIED"})
        assert await asked("5234567890", None) == denied
        assert await asked("5234567890", "9234567890") == "5234567890"
        assert await asked("5234567890", "9234567891") == denied
        assert await asked("5234567890", "4234567890") == denied
        assert await asked("4234567890", None) == await asked("4234567890", "9234567890") == "4234567890"
        assert await asked(CUSTOMER, None) == await asked(CUSTOMER, CUSTOMER) == CUSTOMER
        assert await asked(CUSTOMER, "9234567890") == denied
        assert await asked("9234567890", None) == "9234567890"
        assert await asked(CUSTOMER, "923-456-7890") == (400, {"headerError": "INVALID_LOGIN_CUSTOMER_ID"})
        assert await asked("0234567890", None) == (401, {"authenticationError": "CUSTOMER_NOT_FOUND"})
        for wrong in ("123-456-7890", "123456789", "12345678901"):
            assert await asked(wrong, None) == (400, {"requestError": "INVALID_CUSTOMER_ID"})


async def test_managers_show_their_clients_and_have_no_metrics() -> None:
    async with connected() as (_, client):
        alice = await client.bearer()
        listed = (await client.call("GET", "/googleads/v26/customers:listAccessibleCustomers", headers=alice)).json[
            "resourceNames"
        ]
        assert listed == [f"customers/{one}" for one in (9876543210, 1234567890, 1234567891, 1234567892)]
        kept = rows_of((await client.ads(alice, CLIENTS, customer="9876543210")).json)
        shown_clients = [(one["id"], one["level"], one["manager"]) for one in (row["customerClient"] for row in kept)]
        assert shown_clients == [
            ("9876543210", "0", True),
            ("4876543210", "1", False),
            ("5876543210", "1", False),
        ]
        alone = rows_of((await client.ads(alice, CLIENTS)).json)
        assert [row["customerClient"]["id"] for row in alone] == [CUSTOMER]
        clients = CLIENTS + " WHERE customer_client.level = 1 AND customer_client.manager = FALSE"
        clients += " ORDER BY customer_client.id DESC"
        ordered = rows_of([(await client.ads(alice, clients, "search", "9876543210")).json])
        assert [row["customerClient"]["id"] for row in ordered] == ["5876543210", "4876543210"]
        currency = next(row for row in kept if row["customerClient"]["id"] == "5876543210")["customerClient"]
        through = alice | {"login-customer-id": "9876543210"}
        query = "SELECT customer.currency_code, customer.time_zone, customer.descriptive_name FROM customer"
        (own,) = rows_of((await client.ads(through, query, customer="5876543210")).json)
        assert own["customer"] == {
            "resourceName": "customers/5876543210",
            "currencyCode": currency["currencyCode"],
            "timeZone": currency["timeZone"],
            "descriptiveName": currency["descriptiveName"],
        }
        refused = await client.ads(alice, PERFORMANCE, customer="9876543210")
        assert code_of(refused.json) == (400, {"queryError": "REQUESTED_METRICS_FOR_MANAGER"})
        campaigns = await client.ads(alice, "SELECT campaign.id FROM campaign", "search", "9876543210")
        assert "results" not in campaigns.json


async def test_bad_tokens_and_missing_scopes_are_refused_in_the_form_of_the_call() -> None:
    async with connected() as (_, client):
        for call in ("searchStream", "search"):
            refused = await client.ads({"Authorization": "Bearer x"}, PERFORMANCE, call)
            error = (refused.json[0] if call == "searchStream" else refused.json)["error"]
            assert (refused.status, error["status"]) == (401, "UNAUTHENTICATED")
            assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        listed = await client.call("GET", "/googleads/v26/customers:listAccessibleCustomers")
        assert (listed.status, listed.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        granted = await exchange(client, (await consent(client, scope=REPORTS_SCOPE))["code"][0])
        carol = {"Authorization": f"Bearer {granted['access_token']}"}
        refused = await client.ads(carol, PERFORMANCE)
        assert refused.json[0]["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
        assert refused.status == 403
        assert "https://www.googleapis.com/auth/adwords" in ALL_SCOPES.split()
