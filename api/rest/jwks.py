"""Public keys that tokens are checked with, from a file or a URL, cached with limits.

Only keys that fit a pinned algorithm are taken: P-256, RSA of 2,048 bits and more, Ed25519. Symmetric keys in a key
set are ignored, so that no public text can ever serve as a shared secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

PublicKey = ECKey | RSAKey | OKPKey
LIMIT_BYTES = 256 * 1024
LIMIT_KEYS = 100
log = logging.getLogger(__name__)


class KeysUnavailable(Exception):
    """No key set could be read yet, or the last good one is too old."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key, the only algorithms it may verify, and its id in the set (None: it has none)."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey


def parse_jwks(raw: bytes) -> tuple[VerificationKey, ...]:
    """The usable signing keys of a JWK set. Raises ``ValueError`` when it is not a key set; bad single keys are left
    out."""
    if len(raw) > LIMIT_BYTES:
        raise ValueError("the key set is larger than 256 kB")
    document = orjson.loads(raw)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the key set has no list `keys`")
    found = (_usable(entry) for entry in entries[:LIMIT_KEYS])
    return tuple(key for key in found if key is not None)


def _usable(entry: Any) -> VerificationKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    kid, stated = entry.get("kid"), entry.get("alg")
    public = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    try:
        key, algorithms = _import(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if stated is not None:
        algorithms &= {stated} if isinstance(stated, str) else set()
    if not algorithms or not isinstance(kid, str | None):
        return None
    return VerificationKey(kid, algorithms, key)


def _import(public: dict[str, Any]) -> tuple[PublicKey, frozenset[str]]:
    match public.get("kty"), public.get("crv"):
        case "EC", "P-256":
            return ECKey.import_key(public), frozenset({"ES256"})
        case "OKP", "Ed25519":
            return OKPKey.import_key(public), frozenset({"EdDSA", "Ed25519"})
        case "RSA", None if _modulus_bits(public) >= 2048:
            return RSAKey.import_key(public), frozenset({"RS256"})
    raise ValueError("not a key of a pinned algorithm")


def _modulus_bits(public: dict[str, Any]) -> int:
    # Base64url text of the modulus: 4 characters carry 3 bytes. Looked at before import, which warns about short keys.
    return len(str(public.get("n", ""))) * 6


class JwksCache:
    """A key set that is read again when it is old, or when a token names an unknown key, but at most once per
    ``gap_s``.

    While the source is away the last good set serves for ``stale_s`` seconds.
    """

    def __init__(
        self,
        load: Callable[[], Awaitable[bytes]],
        monotonic: Callable[[], float],
        *,
        age_s: float = 300.0,
        gap_s: float = 10.0,
        stale_s: float = 3600.0,
    ) -> None:
        self._load, self._monotonic = load, monotonic
        self._age_s, self._gap_s, self._stale_s = age_s, gap_s, stale_s
        self._keys: tuple[VerificationKey, ...] = ()
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def keys(self, *, newer_than: Sequence[VerificationKey] | None = None) -> tuple[VerificationKey, ...]:
        """The current keys. ``newer_than`` is a set that lacked a key: asks the source again if that is allowed yet.
        Raises ``KeysUnavailable``."""
        async with self._lock:
            if self._due(newer_than):
                await self._refresh()
            if self._read_at is None or self._monotonic() - self._read_at > self._stale_s:
                raise KeysUnavailable
            return self._keys

    def _due(self, newer_than: Sequence[VerificationKey] | None) -> bool:
        now = self._monotonic()
        if self._tried_at is not None and now - self._tried_at < self._gap_s:
            return False
        old = self._read_at is None or now - self._read_at >= self._age_s
        return old or (newer_than is not None and newer_than is self._keys)

    async def _refresh(self) -> None:
        self._tried_at = self._monotonic()
        try:
            self._keys = parse_jwks(await self._load())
            self._read_at = self._tried_at
        except (OSError, ValueError, TimeoutError, aiohttp.ClientError) as error:
            log.warning("key set not read", extra={"reason": type(error).__name__})


def from_file(path: Path) -> Callable[[], Awaitable[bytes]]:
    """A loader that reads a JWK set from a file."""

    async def load() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return load


def from_url(url: str, *, timeout_s: float = 5.0) -> Callable[[], Awaitable[bytes]]:
    """A loader that reads a JWK set by HTTP GET: no redirects, at most 256 kB, ``timeout_s`` seconds in all."""

    async def load() -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"the key set's address answered {answer.status}")
            return await _all(answer)

    return load


async def _all(answer: aiohttp.ClientResponse) -> bytes:
    raw = b""
    async for piece in answer.content.iter_chunked(16 * 1024):
        raw += piece
        if len(raw) > LIMIT_BYTES:
            raise ValueError("the key set is larger than 256 kB")
    return raw
