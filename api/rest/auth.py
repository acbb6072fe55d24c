"""Who is calling: bearer tokens (JWT) checked against pinned algorithms and required claims.

Every cause of a refusal gets the same 401: a caller who forges learns nothing from the answer.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import GuestProtocol

from api.rest.jwks import JwksCache, KeysUnavailable, PublicKey, VerificationKey, from_file, from_url
from api.rest.problem import Problem
from app.ports import Clock

ALGORITHMS = ("ES256", "RS256", "EdDSA", "Ed25519")
"""The only ones accepted. RFC 9864 renames EdDSA over Ed25519 to Ed25519; issuers use both names."""
SKEW_S = 60
CACHED_S = 60.0
CACHED_TOKENS = 10_000
LIMIT_CHARACTERS = 8 * 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: token subject, organisation, granted scopes; ``expires_at`` in seconds since the epoch."""

    subject: str
    org_id: int
    scopes: frozenset[str]
    expires_at: float


class TokenVerifier(Protocol):
    """Turns the text of a token into its caller."""

    def remembered(self, token: str) -> Principal | None:
        """The caller of a token verified within the last minute and still valid, without waiting."""

    async def verify(self, token: str) -> Principal:
        """Raises ``Unauthenticated`` for every fault of the token, ``KeysUnavailable`` when nobody can check it."""


class Unauthenticated(Exception):
    """The token is not acceptable. Why is deliberately not told."""


class _UnknownKey(Exception):
    """The token names a key that the set lacks."""


class _PinnedRegistry(jws.JWSRegistry):
    """Looks up nothing but the pinned algorithms, whatever the library would allow by default."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError("not a pinned algorithm")
        return self.algorithms[name]


class JwtVerifier:
    """Checks signature, issuer, audience, times and our own claims; remembers good tokens by digest for 60 s."""

    def __init__(self, keys: JwksCache, *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self._issuer, self._audience = issuer, audience
        self._registry = _PinnedRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        self._good: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def remembered(self, token: str) -> Principal | None:
        found = self._good.get(_digest(token))
        if found is None:
            return None
        principal, until = found
        fresh = self._clock.monotonic() < until and self._clock.now() / 1000 < principal.expires_at + SKEW_S
        return principal if fresh else None

    async def verify(self, token: str) -> Principal:
        if len(token) > LIMIT_CHARACTERS or not token.isascii() or token.count(".") != 2:
            raise Unauthenticated
        keys = await self._keys.keys()
        try:
            claims = self._claims(token, keys)
        except _UnknownKey:
            claims = await self._retry(token, keys)
        principal = self._principal(claims)
        self._remember(token, principal)
        return principal

    async def _retry(self, token: str, lacking: tuple[VerificationKey, ...]) -> dict[str, Any]:
        try:
            return self._claims(token, await self._keys.keys(newer_than=lacking))
        except _UnknownKey:
            raise Unauthenticated from None

    def _claims(self, token: str, keys: tuple[VerificationKey, ...]) -> dict[str, Any]:
        def choose(guest: GuestProtocol) -> PublicKey:
            return _choose(guest.headers(), keys)

        try:
            return dict(jwt.decode(token, choose, registry=self._registry).claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise Unauthenticated from None

    def _principal(self, claims: dict[str, Any]) -> Principal:
        try:
            self._rules().validate(claims)
            return Principal(
                subject=claims["sub"],
                org_id=_org_id(claims["org_id"]),
                scopes=frozenset(_text(claims["scope"]).split()),
                expires_at=float(claims["exp"]),
            )
        except (JoseError, ValueError, TypeError, OverflowError):
            raise Unauthenticated from None

    def _rules(self) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=self._clock.now() // 1000,
            leeway=SKEW_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            sub={"essential": True},
            org_id={"essential": True},
            scope={"essential": True, "allow_blank": True},
        )

    def _remember(self, token: str, principal: Principal) -> None:
        self._good[_digest(token)] = (principal, self._clock.monotonic() + CACHED_S)
        if len(self._good) > CACHED_TOKENS:
            self._good.popitem(last=False)


DEVELOPMENT_ISSUER = "connector-service-development"
DEVELOPMENT_AUDIENCE = "connector-service"


def build_verifier(
    clock: Clock, *, jwks_url: str | None, jwks_file: Path | None, issuer: str | None, audience: str | None
) -> JwtVerifier:
    """The verifier for the settings of ``auth``. Without a key set every token is answered 503; without an issuer or an
    audience only the development issuer's tokens pass, which needs its key set all the same."""
    load = from_url(jwks_url) if jwks_url else from_file(jwks_file) if jwks_file else _nowhere
    # A file changes under the development issuer's hands and costs nothing to read again.
    cache = JwksCache(load, clock.monotonic) if jwks_url else JwksCache(load, clock.monotonic, age_s=5.0, gap_s=1.0)
    return JwtVerifier(
        cache, issuer=issuer or DEVELOPMENT_ISSUER, audience=audience or DEVELOPMENT_AUDIENCE, clock=clock
    )


async def _nowhere() -> bytes:
    raise FileNotFoundError("no key set is configured")


def _choose(header: dict[str, Any], keys: tuple[VerificationKey, ...]) -> PublicKey:
    """The one key for a token's header; keys offered inside the header (``jwk``, ``jku``) are never looked at."""
    algorithm, kid = header.get("alg"), header.get("kid")
    fitting = [k for k in keys if algorithm in k.algorithms]
    named = [k for k in fitting if k.kid == kid] if kid is not None else fitting
    if not named and algorithm in ALGORITHMS:
        raise _UnknownKey
    if len(named) != 1:
        raise ValueError("no single key fits")
    return named[0].key


def _digest(token: str) -> bytes:
    # The cache holds digests, so that a memory dump of it holds no usable token.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _org_id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ValueError("org_id is not a positive 32-bit integer")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("scope is not text")
    return value


def bearer(values: list[str]) -> str | None:
    """The token of the one ``Authorization`` header, or None."""
    if len(values) != 1:
        return None
    scheme, _, rest = values[0].partition(" ")
    token = rest.strip()
    return token if token and scheme.lower() == "bearer" else None


def known(verifier: TokenVerifier, values: list[str], scope: str) -> Principal | None:
    """The caller of a token that was verified a moment ago and holds ``scope``; None: ``authenticate`` has to say."""
    token = bearer(values)
    principal = None if token is None else verifier.remembered(token)
    held = principal is not None and (scope in principal.scopes or "admin" in principal.scopes)
    return principal if held else None


async def authenticate(verifier: TokenVerifier, values: list[str], scope: str) -> Principal:
    """The caller, holding ``scope`` (``admin`` holds every scope of its organisation). Raises ``Problem`` 401, 403,
    503."""
    token = bearer(values)
    if token is None:
        raise _unauthenticated()
    principal = verifier.remembered(token)
    if principal is None:
        try:
            principal = await verifier.verify(token)
        except Unauthenticated:
            raise _unauthenticated() from None
        except KeysUnavailable:
            raise Problem("keys_unavailable", retry_after_s=5) from None
    if scope not in principal.scopes and "admin" not in principal.scopes:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise Problem(
            "insufficient_scope", f"the token lacks the scope {scope}", headers={"WWW-Authenticate": challenge}
        )
    return principal


def _unauthenticated() -> Problem:
    return Problem("unauthenticated", headers={"WWW-Authenticate": 'Bearer realm="connector-service"'})
