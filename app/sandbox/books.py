"""What a provider knows of its accounts' campaigns: how many there are, and which days' figures were restated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass(slots=True, kw_only=True)
class Books:
    """``campaigns`` of every account but those in ``campaigns_of``; ``revisions`` by (account, day ordinal), 0 where
    absent."""

    campaigns: int
    campaigns_of: dict[int, int] = field(default_factory=dict)
    revisions: dict[tuple[int, int], int] = field(default_factory=dict)


def campaigns_in(books: Books, account_id: int) -> int:
    """How many campaigns the account has."""
    return books.campaigns_of.get(account_id, books.campaigns)


def set_campaigns(books: Books, count: int, account_id: int | None) -> None:
    """So many from now on, in every account or in this one; ValueError from a million on."""
    if not 0 <= count < 1_000_000:
        raise ValueError("campaigns must be below a million")
    if account_id is None:
        books.campaigns = count
    else:
        books.campaigns_of[account_id] = count


def revision_of(books: Books, account_id: int, day: int) -> int:
    """How often the figures of that day (an ordinal) were restated."""
    return books.revisions.get((account_id, day), 0)


def restate(books: Books, account_id: int, start: date, end: date) -> None:
    """Change the figures of these days, both included, for whoever asks from now on."""
    for day in range(start.toordinal(), end.toordinal() + 1):
        books.revisions[(account_id, day)] = revision_of(books, account_id, day) + 1
