"""The token endpoint: forms only, no refresh token on refresh, dead grants, PKCE, and tokens that outlive a restart."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.sandbox.google_oauth.state import REPORTS_SCOPE
from app.sandbox.settings import CLIENT_ID, CLIENT_SECRET
from tests.sandbox.client import Client, connected

CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
BACK = "http://127.0.0.1:9/callback"


async def test_a_refresh_answers_an_access_token_and_no_refresh_token() -> None:
    async with connected(expires_in=120) as (sandbox, client):
        answer = await client.refresh("1//sandbox-alice")
        assert answer.status == 200
        assert set(answer.json) == {"access_token", "expires_in", "scope", "token_type"}
        assert (answer.json["expires_in"], answer.json["token_type"]) == (120, "Bearer")
        call = sandbox.calls()[0]
        assert (call.route, call.quota_group, call.user, call.grant_type) == (
            "oauth.token",
            "oauth",
            "alice",
            "refresh_token",
        )


async def test_refusals() -> None:
    async with connected() as (_, client):
        form = {"grant_type": "refresh_token", "refresh_token": "1//sandbox-a", **CLIENT}
        as_json = await client.call("POST", "/oauth2/token", json=form)
        as_text = await client.call(
            "POST",
            "/oauth2/token",
            data="&".join(f"{k}={v}" for k, v in form.items()),
            headers={"Content-Type": "text/plain"},
        )
        nobody = await client.refresh("1//other")
        wrong = await client.refresh("1//sandbox-a", secret="no")
        odd = await client.form("/oauth2/token", **(form | {"grant_type": "password"}))
        bare = await client.form("/oauth2/token", grant_type="refresh_token")
    seen = [(one.status, one.json["error"]) for one in (as_json, as_text, nobody, wrong, odd, bare)]
    assert "application/x-www-form-urlencoded" in as_json.json["error_description"]
    assert seen == [
        (400, "invalid_request"),
        (400, "invalid_request"),
        (400, "invalid_grant"),
        (401, "invalid_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_request"),
    ]
    assert nobody.json["error_description"] == "Token has been expired or revoked."


async def test_a_revoked_grant_is_dead_for_tokens_and_refreshes() -> None:
    async with connected() as (_, client):
        alice, bob = await client.bearer("alice"), await client.bearer("bob")
        again = await client.bearer("alice")
        token = again["Authorization"].removeprefix("Bearer ")
        assert (await client.form("/oauth2/revoke", token=token)).status == 200
        second = await client.form("/oauth2/revoke", token=token)
        assert (second.status, second.json["error"]) == (400, "invalid_token")
        assert (await client.refresh("1//sandbox-alice")).json["error"] == "invalid_grant"
        refused = await client.reports("GET", "queries", alice)
        assert (refused.status, refused.json["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        assert (await client.reports("GET", "queries", bob)).status == 200
        assert (await client.form("/oauth2/revoke", token="1//sandbox-bob")).status == 200
        assert (await client.reports("GET", "queries", bob)).status == 401


async def test_expired_and_foreign_tokens_are_401() -> None:
    async with connected(expires_in=0) as (_, client):
        assert (await client.reports("GET", "queries", await client.bearer())).status == 401
        for value in ("Bearer x", "Bearer ya29.a.b", "Basic eDp5", ""):
            assert (await client.reports("GET", "queries", {"Authorization": value})).status == 401


async def test_tokens_outlive_a_restart_but_not_another_seed() -> None:
    async with connected(seed=5) as (_, client):
        alice = await client.bearer()
    async with connected(seed=5) as (_, client):
        assert (await client.reports("GET", "queries", alice)).status == 200
    async with connected(seed=6) as (_, client):
        assert (await client.reports("GET", "queries", alice)).status == 401


async def consent(client: Client, verifier: str = "", **more: str) -> dict[str, list[str]]:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": CLIENT_ID,
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": REPORTS_SCOPE,
        "state": "s1",
        "access_type": "offline",
        "login_hint": "carol",
    }
    asked |= {"code_challenge": challenge, "code_challenge_method": "S256"} if verifier else {}
    answer = await client.call("GET", "/oauth2/auth", params=asked | more)
    assert answer.status == 302, answer.body
    assert answer.headers["Location"].startswith(BACK)
    return parse_qs(urlsplit(answer.headers["Location"]).query)


async def exchange(client: Client, code: str, **more: str) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, **CLIENT}
    return (await client.form("/oauth2/token", **(form | more))).json


async def test_the_code_flow_with_pkce() -> None:
    async with connected() as (_, client):
        back = await consent(client, "v" * 50)
        assert back["state"] == ["s1"]
        code = back["code"][0]
        assert (await exchange(client, code, code_verifier="w" * 50))["error"] == "invalid_grant"
        assert (await exchange(client, code))["error"] == "invalid_grant"
        wrong = await exchange(client, code, code_verifier="v" * 50, redirect_uri="http://127.0.0.1:9/other")
        assert wrong["error"] == "redirect_uri_mismatch"
        granted = await exchange(client, code, code_verifier="v" * 50)
        assert granted["refresh_token"] == "1//sandbox-carol"
        assert granted["scope"] == REPORTS_SCOPE
        assert (await exchange(client, code, code_verifier="v" * 50))["error"] == "invalid_grant", "a code works once"
        bearer = {"Authorization": f"Bearer {granted['access_token']}"}
        entities = await client.call("GET", "/displayvideo/v4/partners", headers=bearer)
        assert entities.status == 403
        assert entities.json["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


async def test_a_new_consent_after_a_revoke_has_a_new_refresh_token() -> None:
    async with connected() as (_, client):
        first = await exchange(client, (await consent(client))["code"][0])
        without = await exchange(client, (await consent(client))["code"][0])
        assert "refresh_token" not in without, "only the first consent, or prompt=consent, gives one"
        assert "refresh_token" in await exchange(client, (await consent(client, prompt="consent"))["code"][0])
        await client.form("/oauth2/revoke", token=first["refresh_token"])
        second = await exchange(client, (await consent(client))["code"][0])
        assert second["refresh_token"] != first["refresh_token"]
        assert (await client.refresh(first["refresh_token"])).status == 400
        assert (await client.refresh(second["refresh_token"])).status == 200


async def test_a_bad_authorisation_request_does_not_redirect() -> None:
    async with connected() as (_, client):
        answer = await client.call("GET", "/oauth2/auth", params={"client_id": "x", "redirect_uri": BACK})
        assert (answer.status, "Location" in answer.headers) == (400, False)
