"""Which ad accounts there are. Every positive number is one; lists show a few."""

from __future__ import annotations

from dataclasses import dataclass

from app.sandbox.figures import market_of

FIRST_ACCOUNT = 120_000_001
"""Accounts in lists are numbered from here."""
ACTIVE, DISABLED, CLOSED = 1, 2, 101


@dataclass(frozen=True, slots=True)
class AdAccount:
    """An account: ``currency`` ISO 4217, ``time_zone`` IANA name; its days are days of that zone."""

    account_id: int
    name: str
    currency: str
    time_zone: str


def account_of(seed: int, account_id: int) -> AdAccount:
    """The account of that id; currency and zone follow from it."""
    return AdAccount(account_id, f"Ad account {account_id}", *market_of(seed, account_id))


def listed(count: int) -> list[tuple[int, int]]:
    """(id, status) of what a user sees: ``count`` active accounts, then a disabled and a closed one."""
    states = [*[ACTIVE] * count, DISABLED, CLOSED]
    return [(FIRST_ACCOUNT + at, state) for at, state in enumerate(states)]
