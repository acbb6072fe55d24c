"""Tokens: the forged-token corpus, the caches, and that every cause of a refusal looks the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from api.rest.app import build_app
from api.rest.auth import CACHED_TOKENS, JwtVerifier, Unauthenticated
from api.rest.jwks import JwksCache, KeysUnavailable, from_file, from_url, parse_jwks
from app.testing.clock import FakeClock
from app.testing.rest import FakeIssuer
from app.testing.rest_world import ORG, REQUEST, RestWorld

PATH = "/api/v1/connectors/requests/" + REQUEST
Client = TestClient[Any, Any]


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(world: RestWorld, **changes: Any) -> dict[str, Any]:
    usual = {
        "iss": world.issuer.issuer,
        "aud": world.issuer.audience,
        "sub": "someone",
        "org_id": ORG,
        "scope": "connectors:read",
        "exp": world.clock.now() // 1000 + 3600,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def signed(world: RestWorld, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
    head = {"alg": "ES256", "kid": world.issuer.kid} | (header or {})
    return jwt.encode(head, claims(world, **changes), key or world.issuer.key, algorithms=[head["alg"]])


def unsigned(world: RestWorld, algorithm: str) -> str:
    return f"{b64({'alg': algorithm, 'kid': 'k1'})}.{b64(claims(world))}."


def shared_secret(world: RestWorld) -> str:
    # The classic confusion: the public key's text as the secret of an HMAC.
    text = f"{b64({'alg': 'HS256', 'kid': 'k1'})}.{b64(claims(world))}"
    signature = hmac.digest(world.issuer.key.as_pem(private=False), text.encode(), hashlib.sha256)
    return f"{text}.{b64(signature)}"


def tampered(world: RestWorld) -> str:
    head, _, signature = signed(world).split(".")
    return f"{head}.{b64(claims(world, org_id=8))}.{signature}"


def own_key(world: RestWorld) -> str:
    key = ECKey.generate_key("P-256")
    return signed(world, {"jwk": key.as_dict(private=False)}, key)


def critical(world: RestWorld) -> str:
    # A rightful signature over a header that demands something nobody here understands.
    text = f"{b64({'alg': 'ES256', 'kid': 'k1', 'crit': ['b64'], 'b64': False})}.{b64(claims(world))}"
    return f"{text}.{b64(JWSRegistry.algorithms['ES256'].sign(text.encode(), world.issuer.key))}"


def infinite(world: RestWorld) -> str:
    return jwt.encode(
        {"alg": "ES256", "kid": "k1"}, claims(world, exp=float("inf")), world.issuer.key, algorithms=["ES256"]
    )


Forge = Callable[[RestWorld], str]
FORGED: dict[str, Forge] = {
    "none": lambda w: unsigned(w, "none"),
    "None": lambda w: unsigned(w, "None"),
    "no signature": lambda w: unsigned(w, "ES256"),
    "public key as secret": shared_secret,
    "another claim under the old signature": tampered,
    "key in the header": own_key,
    "another key, same id": lambda w: signed(w, key=ECKey.generate_key("P-256")),
    "unknown key id": lambda w: signed(w, {"kid": "other"}),
    "key id is no text": lambda w: f"{b64({'alg': 'ES256', 'kid': 1})}.{b64(claims(w))}.{b64(b'x' * 64)}",
    "wrong algorithm for the key": lambda w: signed(w, {"alg": "RS256"}, RSAKey.generate_key(2048)),
    "algorithm not pinned": lambda w: signed(w, {"alg": "ES384"}, ECKey.generate_key("P-384")),
    "critical header": critical,
    "expired": lambda w: signed(w, exp=w.clock.now() // 1000 - 61),
    "no expiry": lambda w: signed(w, exp=None),
    "expiry is text": lambda w: signed(w, exp="tomorrow"),
    "expiry is infinite": infinite,
    "not yet": lambda w: signed(w, nbf=w.clock.now() // 1000 + 120),
    "another audience": lambda w: signed(w, aud="billing"),
    "no audience": lambda w: signed(w, aud=None),
    "another issuer": lambda w: signed(w, iss="https://else.test"),
    "no issuer": lambda w: signed(w, iss=None),
    "no subject": lambda w: signed(w, sub=None),
    "empty subject": lambda w: signed(w, sub=""),
    "no organisation": lambda w: signed(w, org_id=None),
    "organisation is text": lambda w: signed(w, org_id="7"),
    "organisation is true": lambda w: signed(w, org_id=True),
    "organisation is zero": lambda w: signed(w, org_id=0),
    "organisation is negative": lambda w: signed(w, org_id=-7),
    "organisation is a list": lambda w: signed(w, org_id=[7, 8]),
    "organisation is a fraction": lambda w: signed(w, org_id=7.5),
    "no scope": lambda w: signed(w, scope=None),
    "scope is a list": lambda w: signed(w, scope=["connectors:read"]),
    "cut short": lambda w: signed(w)[:-10],
    "two parts": lambda w: signed(w).rpartition(".")[0],
    "five parts": lambda w: signed(w) + ".a.b",
    "noise": lambda w: "a.b.c",
    "claims are a list": lambda w: f"{signed(w).split('.')[0]}.{b64([])}.{signed(w).split('.')[2]}",
}


@pytest.fixture
def world() -> RestWorld:
    """With the planner, so that an unknown request is known to be one."""
    made = RestWorld()
    made.own_planner()
    return made


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def answer_to(client: Client, authorization: str | None) -> tuple[int, str, bytes]:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await client.get(PATH, headers=headers)
    return answer.status, answer.headers.get("WWW-Authenticate", ""), await answer.read()


async def test_no_forged_token_is_accepted_and_all_look_alike(client: Client, world: RestWorld) -> None:
    expected = await answer_to(client, None)
    assert (expected[0], json.loads(expected[2])["type"]) == (401, "/problems/unauthenticated")
    assert expected[1].startswith("Bearer")
    different = {
        name: found
        for name, forge in FORGED.items()
        if (found := await answer_to(client, "Bearer " + forge(world))) != expected
    }
    assert different == {}


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token x"])
async def test_other_schemes_are_401(client: Client, value: str) -> None:
    assert (await answer_to(client, value))[0] == 401


async def test_a_good_token_passes(client: Client, world: RestWorld) -> None:
    good = signed(world)
    assert (await answer_to(client, "Bearer " + good))[0] == 404
    assert (await answer_to(client, "bearer " + good))[0] == 404


async def test_two_authorization_headers_are_401(client: Client, world: RestWorld) -> None:
    good = "Bearer " + signed(world)
    answer = await client.get(PATH, headers=[("Authorization", good), ("Authorization", good)])
    assert answer.status == 401


@pytest.mark.parametrize(
    ("claim", "status"),
    [({"aud": ["a", "connector-service"]}, 404), ({"scope": "admin"}, 404), ({"scope": "fetch"}, 403)],
)
async def test_claims_that_are_fine(client: Client, world: RestWorld, claim: dict[str, Any], status: int) -> None:
    assert (await answer_to(client, "Bearer " + signed(world, **claim)))[0] == status


async def test_the_skew_is_a_minute(client: Client, world: RestWorld) -> None:
    now = world.clock.now() // 1000
    assert (await answer_to(client, "Bearer " + signed(world, exp=now - 55)))[0] == 404
    assert (await answer_to(client, "Bearer " + signed(world, exp=now - 61)))[0] == 401


async def test_a_remembered_token_still_ends(client: Client, world: RestWorld) -> None:
    short = "Bearer " + signed(world, exp=world.clock.now() // 1000 + 10 - 60)
    assert (await answer_to(client, short))[0] == 404
    world.clock.advance(11)
    assert (await answer_to(client, short))[0] == 401


async def test_a_withdrawn_key_ends_its_tokens_within_the_caches_times(client: Client, world: RestWorld) -> None:
    old = "Bearer " + signed(world)
    assert (await answer_to(client, old))[0] == 404
    world.issuer.key = ECKey.generate_key("P-256")
    world.clock.advance(59)
    assert (await answer_to(client, old))[0] == 404
    world.clock.advance(301)
    assert (await answer_to(client, old))[0] == 401


async def test_a_new_key_is_found_at_once_but_strangers_cannot_make_us_ask(client: Client, world: RestWorld) -> None:
    await answer_to(client, "Bearer " + signed(world))
    world.issuer.key, world.issuer.kid = ECKey.generate_key("P-256"), "k2"
    world.clock.advance(11)
    assert (await answer_to(client, "Bearer " + signed(world)))[0] == 404
    assert world.jwks_reads == 2
    for n in range(20):
        await answer_to(client, "Bearer " + signed(world, {"kid": f"stranger-{n}"}))
    assert world.jwks_reads == 2


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA", "Ed25519"])
async def test_the_other_pinned_algorithms(algorithm: str) -> None:
    key: Any = RSAKey.generate_key(2048) if algorithm == "RS256" else OKPKey.generate_key("Ed25519")
    raw = json.dumps({"keys": [key.as_dict(private=False)]}).encode()

    async def load() -> bytes:
        return raw

    world = RestWorld()
    cache = JwksCache(load, world.clock.monotonic)
    verifier = JwtVerifier(cache, issuer=world.issuer.issuer, audience=world.issuer.audience, clock=world.clock)
    head = b64({"alg": algorithm})
    text = f"{head}.{b64(claims(world))}"
    private = key.private_key
    if isinstance(private, rsa.RSAPrivateKey):
        signature = private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = private.sign(text.encode())
    assert (await verifier.verify(f"{text}.{b64(signature)}")).org_id == ORG
    with pytest.raises(Unauthenticated):
        await verifier.verify(f"{text}.{b64(signature[::-1])}")


def test_only_usable_keys_are_taken() -> None:
    good = ECKey.generate_key("P-256").as_dict(private=True) | {"kid": "good"}
    entries: list[Any] = [
        good,
        OctKey.generate_key(256).as_dict() | {"kid": "secret"},
        ECKey.generate_key("P-384").as_dict(private=False) | {"kid": "p384"},
        good | {"kid": "encrypts", "use": "enc"},
        good | {"kid": "other algorithm", "alg": "RS256"},
        good | {"kid": 7},
        good | {"kid": "broken", "x": "!"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short"},
        "text",
    ]
    keys = parse_jwks(json.dumps({"keys": entries}).encode())
    assert [k.kid for k in keys] == ["good"]
    assert not keys[0].key.is_private


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"keys": 1}', b" " * 300_000])
def test_what_is_no_key_set_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"key set|zero-length"):
        parse_jwks(raw)


async def test_an_absent_key_set_is_503_and_a_lost_one_serves_an_hour() -> None:
    clock, issuer, broken = FakeClock(), FakeIssuer(), True

    async def load() -> bytes:
        if broken:
            raise OSError("away")
        return issuer.jwks()

    cache = JwksCache(load, clock.monotonic)
    with pytest.raises(KeysUnavailable):
        await cache.keys()
    broken = False
    clock.advance(11)
    assert len(await cache.keys()) == 1
    broken = True
    clock.advance(3500)
    assert len(await cache.keys()) == 1
    clock.advance(200)
    with pytest.raises(KeysUnavailable):
        await cache.keys()


async def test_no_keys_is_503(world: RestWorld) -> None:
    async def load() -> bytes:
        raise OSError("away")

    world.keys = JwksCache(load, world.clock.monotonic)
    async with TestClient(TestServer(build_app(world.services()))) as client:
        answer = await client.get(PATH, headers=world.headers())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_key_sets_come_from_files_and_addresses(tmp_path: Path) -> None:
    issuer = FakeIssuer()
    path = tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    assert await from_file(path)() == issuer.jwks()

    async def good(_: web.Request) -> web.Response:
        return web.Response(body=issuer.jwks())

    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("/good")

    async def huge(_: web.Request) -> web.Response:
        return web.Response(body=b" " * 300_000)

    app = web.Application()
    app.add_routes([web.get("/good", good), web.get("/moved", moved), web.get("/huge", huge)])
    async with TestServer(app) as server:
        assert await from_url(str(server.make_url("/good")))() == issuer.jwks()
        for path_of in ("/moved", "/huge"):
            with pytest.raises(ValueError, match="key set"):
                await from_url(str(server.make_url(path_of)))()


async def test_a_token_longer_than_a_header_is_not_even_read(world: RestWorld) -> None:
    verifier = JwtVerifier(world.keys, issuer=world.issuer.issuer, audience=world.issuer.audience, clock=world.clock)
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(world, sub="x" * 9000))
    assert world.jwks_reads == 0


async def test_the_cache_of_tokens_is_bounded_and_holds_no_token(world: RestWorld) -> None:
    verifier = JwtVerifier(world.keys, issuer=world.issuer.issuer, audience=world.issuer.audience, clock=world.clock)
    token = signed(world)
    principal = await verifier.verify(token)
    assert verifier.remembered(token) == principal
    assert token not in repr(vars(verifier))
    for n in range(CACHED_TOKENS + 5):
        verifier._remember(f"t{n}", principal)
    assert len(verifier._good) == CACHED_TOKENS
