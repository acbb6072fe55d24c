"""Moves stored credentials to the newest key, while the service runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.oauth.vault import Vault, VaultError


class Sealed(Protocol):
    """A stored ciphertext."""

    @property
    def org_id(self) -> int: ...
    @property
    def grant_id(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def ciphertext(self) -> bytes: ...


class SealedGrants(Protocol):
    """Ciphertexts by their key."""

    async def under_other_keys(self, key_id: str, after: str = "", limit: int = 500) -> Sequence[Sealed]: ...

    async def reseal(self, grant_id: str, old: bytes, key_id: str, ciphertext: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class Rotation:
    """How many were moved, and the grants that do not open: an alarm."""

    moved: int
    broken: tuple[str, ...]


async def rotate(grants: SealedGrants, vault: Vault) -> Rotation:
    """Encrypts every grant with the newest key. One whose credentials change meanwhile has that key already."""
    moved, broken, last = 0, list[str](), ""
    while page := await grants.under_other_keys(vault.newest, last):
        for row in page:
            last = row.grant_id
            try:
                content = vault.open(row.org_id, row.grant_id, row.key_id, row.ciphertext)
            except VaultError:
                broken.append(row.grant_id)
                continue
            moved += await grants.reseal(row.grant_id, row.ciphertext, *vault.seal(row.org_id, row.grant_id, content))
    return Rotation(moved, tuple(broken))
