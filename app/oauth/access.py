"""An access token as this process holds it, and as it lies in the cache: encrypted, bound to its grant."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

import orjson

from app.oauth.token_endpoint import Issued
from app.oauth.vault import Vault, VaultError
from app.ports import Clock

CHECK_S: Final = 5.0
"""How long a token may be used without asking whether its grant still stands."""
_MARGIN_S: Final = 60.0
_AHEAD_S: Final = 240.0
_LONG_S: Final = 7 * 86_400.0
"""A token of such a lifetime is the grant itself (Meta's, 60 days): who misses its end has to consent again, so it is
renewed from its half on, and once a day is often enough to try."""
_RENEWAL_PAUSE_S, _LONG_PAUSE_S = 30.0, 86_400.0


class NoCache:
    """Keeps nothing."""

    async def get(self, key: str) -> bytes | None:
        del key
        return None

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        del key, value, ttl_s
        return False

    async def drop(self, key: str) -> bool:
        del key
        return True


@dataclass(slots=True)
class Held:
    """A token, got with the credentials of ``generation``; ``forced``: because the one before was rejected.

    Instants are on the process's monotonic clock: ``renew_at`` from when a new one is fetched in the background,
    ``good_until`` to which it is handed out, ``dead_at`` when the provider stops taking it, ``checked_until`` to which
    the grant is known to stand.
    """

    token: str = field(repr=False)
    generation: int
    renew_at: float
    good_until: float
    dead_at: float
    checked_until: float
    issued_at: float = 0.0
    forced: bool = False


def margin_s(lifetime_s: float) -> float:
    """How long before its end a token is no longer handed out: a minute, less for short-lived ones."""
    return min(_MARGIN_S, lifetime_s / 10)


def hold(token: str, generation: int, lifetime_s: float, left_s: float, clock: Clock) -> Held:
    """``left_s`` of ``lifetime_s`` remain. Renewal is spread, so that a fleet does not renew at one moment."""
    now = clock.monotonic()
    good_until = now + left_s - margin_s(lifetime_s)
    most_ahead = lifetime_s / 2 if lifetime_s >= _LONG_S else min(_AHEAD_S, lifetime_s / 10)
    ahead = most_ahead * random.uniform(0.5, 1.0)
    dead_at = now + left_s
    return Held(token, generation, good_until - ahead, good_until, dead_at, now + CHECK_S, dead_at - lifetime_s)


def renewal_pause_s(held: Held) -> float:
    """How long after a try to renew in the background the next one begins."""
    return _LONG_PAUSE_S if held.dead_at - held.issued_at >= _LONG_S else _RENEWAL_PAUSE_S


def hold_forever(token: str, generation: int, clock: Clock) -> Held:
    """A credential that is sent as it is."""
    never = float("inf")
    return Held(token, generation, never, never, never, clock.monotonic() + CHECK_S)


def cache_key(grant_id: str) -> str:
    """Where the cache holds the access token of a grant."""
    return f"connector:token:{grant_id}"


def to_cache(vault: Vault, org_id: int, grant_id: str, generation: int, issued: Issued, now: int) -> bytes:
    """Encrypted; ``now`` ms. Bound to another name than the grant's row, so that neither can stand in for the other."""
    content = {
        "token": issued.access_token,
        "generation": generation,
        "lifetime_s": issued.lifetime_s,
        "expires_at": now + int(issued.lifetime_s * 1000),
    }
    key_id, ciphertext = vault.seal(org_id, f"{grant_id}:access", orjson.dumps(content))
    return key_id.encode() + b":" + ciphertext


def from_cache(vault: Vault, org_id: int, grant_id: str, value: bytes | None, clock: Clock) -> Held | None:
    """The token, or None for whatever does not open: the cache is never believed."""
    if value is None:
        return None
    key_id, _, ciphertext = value.partition(b":")
    try:
        content = orjson.loads(vault.open(org_id, f"{grant_id}:access", key_id.decode(), ciphertext))
        lifetime_s = float(content["lifetime_s"])
        # A wall clock that is behind must not lengthen a token's life.
        left_s = min(lifetime_s, (content["expires_at"] - clock.now()) / 1000)
        return hold(content["token"], content["generation"], lifetime_s, left_s, clock)
    except (VaultError, ValueError, KeyError, TypeError):
        return None
