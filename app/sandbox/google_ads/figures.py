"""The truth: what happened, per customer, campaign and day, as a pure function of (seed, ids, day, revision).

A campaign without impressions on a day has no row on that day, neither here nor in an answer segmented by day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.sandbox.books import Books, campaigns_in, revision_of
from app.sandbox.figures import campaign_name, metrics_of
from app.sandbox.google_ads.accounts import customer, is_manager


@dataclass(frozen=True, slots=True)
class TruthRow:
    """Exact figures of one campaign on one day; ``conversions`` to 2 places, ``cost`` to 6 at most, in ``currency``."""

    day: date
    customer_id: int
    currency: str
    campaign_id: int
    campaign_name: str
    campaign_status: str
    impressions: int
    clicks: int
    conversions: Decimal
    cost: Decimal


def campaign_id(customer_id: int, index: int) -> int:
    """Id of a customer's campaign number ``index`` (from 0; below a million); fits int64."""
    return customer_id * 1_000_000 + index


def campaign_status(index: int) -> str:
    """Removed campaigns keep their figures, and are among the answers unless they are filtered out."""
    return {3: "PAUSED", 7: "REMOVED"}.get(index % 10, "ENABLED")


def campaign_count(books: Books, customer_id: int) -> int:
    """How many campaigns the account has; a manager has none."""
    return 0 if is_manager(customer_id) else campaigns_in(books, customer_id)


def truth_rows(books: Books, seed: int, customer_id: int, start: date, end: date) -> Iterator[TruthRow]:
    """Rows for the days ``start`` to ``end`` inclusive, by day, then campaign."""
    currency = customer(seed, customer_id).currency
    ids = [campaign_id(customer_id, index) for index in range(campaign_count(books, customer_id))]
    readers = [metrics_of(seed, one) for one in ids]
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        day, revision = date.fromordinal(ordinal), revision_of(books, customer_id, ordinal)
        for index, read in enumerate(readers):
            impressions, clicks, conversions, cost, _, _ = read(ordinal, revision)
            if impressions:
                yield TruthRow(
                    day,
                    customer_id,
                    currency,
                    ids[index],
                    campaign_name(index),
                    campaign_status(index),
                    impressions,
                    clicks,
                    Decimal(conversions).scaleb(-2),
                    Decimal(cost).scaleb(-6),
                )
