"""Facebook's sign-in: codes, exchanges, tokens that end, and no refresh."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.sandbox.settings import CLIENT_ID, CLIENT_SECRET, NAIVE_CLIENT_ID, NAIVE_CLIENT_SECRET
from tests.sandbox.client import Client, Reply, connected
from tests.sandbox.test_meta import ROOT, code

OURS = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
BACK = "http://127.0.0.1:9/callback"


async def exchange(client: Client, token: str, **changes: str) -> Reply:
    query = {"grant_type": "fb_exchange_token", "fb_exchange_token": token, **OURS} | changes
    return await client.call("GET", f"{ROOT}/oauth/access_token", params=query)


async def accounts(client: Client, token: str) -> Reply:
    return await client.call("GET", f"{ROOT}/me/adaccounts", headers={"Authorization": f"Bearer {token}"})


async def consent(client: Client, user: str = "alice", **changes: Any) -> str:
    query = {"client_id": CLIENT_ID, "redirect_uri": BACK, "state": "s", "response_type": "code", "scope": "ads_read"}
    answer = await client.call("GET", f"{ROOT}/dialog/oauth", params=query | {"login_hint": user} | changes)
    back = urlsplit(answer.headers["Location"])
    assert parse_qs(back.query)["state"] == ["s"]
    return parse_qs(back.query)["code"][0]


async def test_a_living_token_is_exchanged_for_one_of_sixty_days() -> None:
    async with connected() as (sandbox, client):
        answer = await exchange(client, sandbox.meta_token("alice"))
        assert set(answer.json) == {"access_token", "token_type", "expires_in"}
        assert (answer.json["token_type"], answer.json["expires_in"]) == ("bearer", 5_183_944)
        long = answer.json["access_token"]
        assert (await accounts(client, long)).status == 200
        again = (await exchange(client, long)).json["access_token"]
        assert again != long
        assert [(await accounts(client, one)).status for one in (long, again)] == [200, 200]
        call = sandbox.calls("oauth.meta_token")[0]
        assert (call.user, call.application, call.grant_type) == ("alice", CLIENT_ID, "fb_exchange_token")
        assert not any(secret in repr(sandbox.calls()) for secret in ("EAA", CLIENT_SECRET))


async def test_an_expired_token_is_neither_taken_nor_exchanged() -> None:
    async with connected(meta_expires_in=0) as (sandbox, client):
        dead = (await exchange(client, sandbox.meta_token("alice"))).json["access_token"]
        assert code(await accounts(client, dead)) == (400, 190, 463)
        assert code(await exchange(client, dead)) == (400, 190, 463)


async def test_a_withdrawn_consent_kills_every_token_of_the_user() -> None:
    async with connected() as (sandbox, client):
        given, other = sandbox.meta_token("alice"), sandbox.meta_token("bob")
        long = (await exchange(client, given)).json["access_token"]
        answer = await client.call("DELETE", f"{ROOT}/me/permissions", headers={"Authorization": f"Bearer {long}"})
        assert answer.json == {"success": True}
        for dead in (given, long):
            assert code(await accounts(client, dead)) == (400, 190, 458)
            assert code(await exchange(client, dead)) == (400, 190, 458)
        assert (await accounts(client, other)).status == 200
        fresh = await client.call(
            "GET", f"{ROOT}/oauth/access_token", params={**OURS, "code": await consent(client), "redirect_uri": BACK}
        )
        assert (await accounts(client, fresh.json["access_token"])).status == 200


async def test_a_code_is_good_once_at_its_own_address_and_for_an_hour_or_two() -> None:
    async with connected() as (_, client):
        found = await consent(client)
        path, good = f"{ROOT}/oauth/access_token", {**OURS, "code": found, "redirect_uri": BACK}
        elsewhere = await client.call("GET", path, params=good | {"redirect_uri": BACK + "/"})
        answer = await client.call("GET", path, params=good)
        twice = await client.call("GET", path, params=good)
        assert (answer.status, answer.json["expires_in"]) == (200, 5_000)
        assert [code(one) for one in (elsewhere, twice)] == [(400, 100, None)] * 2


async def test_refusals() -> None:
    async with connected() as (sandbox, client):
        given = sandbox.meta_token("alice")
        assert code(await exchange(client, given, client_secret="no")) == (400, 101, None)
        assert code(await exchange(client, "EAAx")) == (400, 190, 467)
        naive = {"client_id": NAIVE_CLIENT_ID, "client_secret": NAIVE_CLIENT_SECRET}
        others = (await exchange(client, given, **naive)).json["access_token"]
        assert code(await exchange(client, others)) == (400, 190, 467)
        for token in ("", "x", "EAA", "ya29.a.b"):
            assert code(await accounts(client, token)) == (400, 190, 467)
        google = (await client.refresh("1//sandbox-alice")).json["access_token"]
        assert code(await accounts(client, google)) == (400, 190, 467)
        wrong = await client.call("GET", f"{ROOT}/dialog/oauth", params={"client_id": "x"})
        assert wrong.status == 400


async def test_the_two_sign_ins_know_nothing_of_each_other() -> None:
    async with connected() as (sandbox, client):
        sandbox.faults.add("meta.accounts", "revoked", times=1)
        assert code(await accounts(client, sandbox.meta_token("alice"))) == (400, 190, 458)
        assert (await client.refresh("1//sandbox-alice")).status == 200
        assert (await client.form("/oauth2/revoke", token="1//sandbox-bob")).status == 200
        assert (await accounts(client, sandbox.meta_token("bob"))).status == 200
