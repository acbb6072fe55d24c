"""Encryption of credentials at rest: AES-256-GCM under a ring of keys.

A ciphertext is bound to its organisation, grant and key: copied to another row it does not open. Layout: 12 bytes of
nonce, then what AES-GCM gives. The newest key seals; any key of the ring opens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.oauth.credentials import content_of, fingerprint

_NONCE: Final = 12


class VaultError(Exception):
    """A ciphertext cannot be opened. The text names the grant, nothing else."""


class UnknownKey(VaultError):
    """It is sealed with a key that is not on the ring."""


class Tampered(VaultError):
    """It was changed, or belongs to another row, or the key of this id is another one."""


class Vault:
    """The key ring: (key id, 32 bytes) pairs, newest first."""

    def __init__(self, ring: Sequence[tuple[str, bytes]]) -> None:
        if not ring or any(len(key) != 32 for _, key in ring):
            raise ValueError("a key ring holds at least one key, each of 32 bytes")
        self.newest: Final = ring[0][0]
        self._keys = {key_id: AESGCM(key) for key_id, key in ring}

    def __repr__(self) -> str:
        return f"Vault({', '.join(self._keys)})"

    def seal(self, org_id: int, grant_id: str, plaintext: bytes) -> tuple[str, bytes]:
        """(key id, ciphertext) under the newest key, with a nonce never used before."""
        nonce = os.urandom(_NONCE)
        bound = _bound(org_id, grant_id, self.newest)
        return self.newest, nonce + self._keys[self.newest].encrypt(nonce, plaintext, bound)

    def seal_secret(self, org_id: int, grant_id: str, kind: str, secret: str) -> tuple[str, bytes]:
        """(key id, ciphertext) of a credential; ``kind`` is refresh_token, api_key or login."""
        return self.seal(org_id, grant_id, content_of(kind, secret))

    @staticmethod
    def fingerprint(secret: str) -> str:
        """A short name for a secret, the same each time, that tells nothing of it."""
        return fingerprint(secret)

    def open(self, org_id: int, grant_id: str, key_id: str, ciphertext: bytes) -> bytes:
        """The plaintext. Raises ``UnknownKey`` or ``Tampered``."""
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKey(f"{grant_id} is sealed with a key that is not on the ring")
        try:
            return key.decrypt(ciphertext[:_NONCE], ciphertext[_NONCE:], _bound(org_id, grant_id, key_id))
        except (InvalidTag, ValueError):
            raise Tampered(f"{grant_id} does not open: changed, moved from another row, or another key") from None


def _bound(org_id: int, grant_id: str, key_id: str) -> bytes:
    return f"{org_id}|{grant_id}|{key_id}".encode()
