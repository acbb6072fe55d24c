"""The truth: what happened, per account, campaign and day, as a pure function of (seed, ids, day, revision).

Money has cents and purchases are whole, as this provider shows them. A campaign without impressions on a day has no row
on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.sandbox.figures import Metrics, MetricsOf, campaign_name, metrics_of
from app.sandbox.meta.accounts import account_of


@dataclass(frozen=True, slots=True)
class TruthRow:
    """Exact figures of one campaign on one day; ``spend`` in ``currency``, to the cent."""

    day: date
    account_id: int
    currency: str
    campaign_id: int
    campaign_name: str
    impressions: int
    clicks: int
    purchases: int
    spend: Decimal


Figures = tuple[int, int, int, int]
"""impressions, clicks, purchases, spend in cents."""


def campaign_id(account_id: int, index: int) -> int:
    """Id of an account's campaign number ``index`` (from 0; below a million)."""
    return (account_id + 23_000_000_000) * 1_000_000 + index


def readers(seed: int, account_id: int, campaigns: int) -> list[MetricsOf]:
    """Of each campaign its figures as a function of (day ordinal, revision)."""
    return [metrics_of(seed, campaign_id(account_id, index)) for index in range(campaigns)]


def shown(metrics: Metrics) -> Figures:
    """What this provider knows of them."""
    return metrics[0], metrics[1], metrics[2] // 100, metrics[3] // 10_000


def truth_rows(
    seed: int, account_id: int, start: date, end: date, campaigns: int, revisions: Callable[[int], int]
) -> Iterator[TruthRow]:
    """Rows for the days ``start`` to ``end`` inclusive, by day, then campaign; ``revisions`` maps a day's ordinal to
    its revision."""
    currency = account_of(seed, account_id).currency
    known = readers(seed, account_id, campaigns)
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        revision = revisions(ordinal)
        for index, read in enumerate(known):
            impressions, clicks, purchases, cents = shown(read(ordinal, revision))
            if impressions:
                yield TruthRow(
                    date.fromordinal(ordinal),
                    account_id,
                    currency,
                    campaign_id(account_id, index),
                    campaign_name(index),
                    impressions,
                    clicks,
                    purchases,
                    Decimal(cents).scaleb(-2),
                )
