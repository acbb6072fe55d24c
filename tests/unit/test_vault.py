"""Credentials at rest: who can open them, and who cannot."""

from __future__ import annotations

import pytest

from app.oauth.credentials import fingerprint, secret_of
from app.oauth.rotation import rotate
from app.oauth.vault import Tampered, UnknownKey, Vault
from app.storage.postgres.grants import GrantRow

OLD, NEW = ("k1", b"1" * 32), ("k2", b"2" * 32)


def test_the_newest_key_seals_and_every_key_opens() -> None:
    old = Vault([OLD]).seal(7, "grant_a", b"secret")
    ring = Vault([NEW, OLD])
    assert old[0] == "k1"
    assert ring.seal(7, "grant_a", b"secret")[0] == "k2"
    assert ring.open(7, "grant_a", *old) == b"secret"


def test_every_seal_has_a_nonce_of_its_own() -> None:
    vault = Vault([NEW])
    sealed = {vault.seal(7, "grant_a", b"secret")[1] for _ in range(100)}
    assert len({ciphertext[:12] for ciphertext in sealed}) == 100


@pytest.mark.parametrize(
    ("org_id", "grant_id", "key_id"), [(8, "grant_a", "k1"), (7, "grant_b", "k1"), (7, "grant_a", "k2")]
)
def test_a_ciphertext_opens_only_in_its_own_row(org_id: int, grant_id: str, key_id: str) -> None:
    vault = Vault([OLD, NEW])
    _, ciphertext = vault.seal(7, "grant_a", b"secret")
    with pytest.raises(Tampered):
        vault.open(org_id, grant_id, key_id, ciphertext)


def test_the_key_id_is_bound_even_where_the_key_is_the_same() -> None:
    _, ciphertext = Vault([("k1", b"1" * 32)]).seal(7, "grant_a", b"secret")
    with pytest.raises(Tampered):
        Vault([("k9", b"1" * 32)]).open(7, "grant_a", "k9", ciphertext)


def test_any_changed_byte_is_noticed() -> None:
    vault = Vault([OLD])
    key_id, ciphertext = vault.seal(7, "grant_a", b"secret")
    for place in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[place] ^= 1
        with pytest.raises(Tampered):
            vault.open(7, "grant_a", key_id, bytes(changed))
    for length in range(len(ciphertext)):
        with pytest.raises(Tampered):
            vault.open(7, "grant_a", key_id, ciphertext[:length])


def test_a_key_that_is_gone_is_named_as_such() -> None:
    sealed = Vault([OLD]).seal(7, "grant_a", b"secret")
    with pytest.raises(UnknownKey, match="grant_a"):
        Vault([NEW]).open(7, "grant_a", *sealed)


def test_nothing_shows_a_key() -> None:
    assert repr(Vault([NEW, OLD])) == "Vault(k2, k1)"


@pytest.mark.parametrize("ring", [[], [("k1", b"short")]])
def test_a_ring_without_a_whole_key_is_refused(ring: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(ring)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"api_key": "canary"}', b'{"refresh_token": 1}', b'{"refresh_token": ""}']
)
def test_a_credential_of_another_form_is_refused_unquoted(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a credential of this kind") as caught:
        secret_of("refresh_token", content)
    assert "canary" not in str(caught.value)


def test_a_fingerprint_is_stable_short_and_tells_secrets_apart() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
    assert len(fingerprint("a")) == 24


class Rows:
    """Grants in memory, as the rotation sees them."""

    def __init__(self, rows: list[GrantRow]) -> None:
        self.rows = {row.grant_id: (row.org_id, row.key_id, row.ciphertext) for row in rows}

    async def under_other_keys(self, key_id: str, after: str = "", limit: int = 500) -> list[GrantRow]:
        found = sorted((g, r) for g, r in self.rows.items() if r[1] != key_id and g > after)
        return [row(g, *r) for g, r in found[:2]]

    async def reseal(self, grant_id: str, old: bytes, key_id: str, ciphertext: bytes) -> bool:
        org_id, _, held = self.rows[grant_id]
        if held != old:
            return False
        self.rows[grant_id] = (org_id, key_id, ciphertext)
        return True


def row(grant_id: str, org_id: int, key_id: str, ciphertext: bytes) -> GrantRow:
    return GrantRow(org_id, grant_id, "google", "s", "refresh_token", key_id, ciphertext, 1, 1, "active")


async def test_rotation_moves_all_that_opens_and_names_the_rest() -> None:
    before, after = Vault([OLD]), Vault([NEW, OLD])
    rows = Rows([row(f"grant_{n}", 7, *before.seal(7, f"grant_{n}", b"%d" % n)) for n in range(5)])
    rows.rows["grant_3"] = (7, "k1", b"broken")
    result = await rotate(rows, after)
    assert (result.moved, result.broken) == (4, ("grant_3",))
    without_old = Vault([NEW])
    for n in (0, 1, 2, 4):
        org_id, key_id, ciphertext = rows.rows[f"grant_{n}"]
        assert without_old.open(org_id, f"grant_{n}", key_id, ciphertext) == b"%d" % n
