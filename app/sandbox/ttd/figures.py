"""The truth: what happened, per advertiser, campaign and day. A day is a day of the zone that a schedule names, so
another zone has other figures."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from app.sandbox.figures import Metrics, campaign_name, market_of, metrics_of

PARTNER_ID = "prt99"
"""The one partner every user can see."""
FIRST_ADVERTISER = 4_567
"""Advertisers in lists are numbered from here; any other can be reported on as well, except 0."""

_ADVERTISER = re.compile(r"adv([1-9][0-9]{0,8})")
_OWN = 0x77D


@dataclass(frozen=True, slots=True)
class Advertiser:
    """An account: ``number`` stands in its id; ``currency`` ISO 4217, ``time_zone`` IANA name."""

    number: int
    currency: str
    time_zone: str

    @property
    def advertiser_id(self) -> str:
        return f"adv{self.number}"

    @property
    def name(self) -> str:
        return f"Advertiser {self.number}"


@dataclass(frozen=True, slots=True)
class TruthRow:
    """Exact figures of one campaign on one day; ``conversions`` to 2 places, money to 6 at most."""

    day: date
    advertiser_id: str
    currency: str
    campaign_id: str
    campaign_name: str
    impressions: int
    clicks: int
    conversions: Decimal
    cost: Decimal


def advertiser(seed: int, number: int) -> Advertiser:
    """The advertiser of that number; currency and zone follow from it."""
    return Advertiser(number, *market_of(seed ^ _OWN, number))


def number_of(advertiser_id: object) -> int | None:
    """The number in an advertiser's id, None for what names none."""
    match = _ADVERTISER.fullmatch(advertiser_id) if isinstance(advertiser_id, str) else None
    return int(match[1]) if match else None


def truth_rows(
    seed: int, account: Advertiser, time_zone: str, start: date, end: date, campaigns: int,
    revisions: Callable[[int], int],
) -> Iterator[TruthRow]:  # fmt: skip
    """Rows for the days ``start`` to ``end`` inclusive, by day, then campaign; ``revisions`` maps a day's ordinal to
    its revision."""
    base = seed ^ _OWN ^ zlib.crc32(time_zone.encode())
    readers = [metrics_of(base, account.number * 1_000_000 + index) for index in range(campaigns)]
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        day, revision = date.fromordinal(ordinal), revisions(ordinal)
        for index, read in enumerate(readers):
            yield _row(day, account, index, read(ordinal, revision))


def campaign_rows(
    seed: int, account: Advertiser, time_zone: str, start: date, end: date, index: int, revisions: Callable[[int], int]
) -> Iterator[TruthRow]:
    """The same of one campaign, counted from 0, by day."""
    read = metrics_of(seed ^ _OWN ^ zlib.crc32(time_zone.encode()), account.number * 1_000_000 + index)
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        yield _row(date.fromordinal(ordinal), account, index, read(ordinal, revisions(ordinal)))


def sum_of(rows: list[TruthRow]) -> TruthRow:
    """One row with the figures of all; the rest is the first one's."""
    first, *others = rows
    for row in others:
        first = replace(
            first,
            impressions=first.impressions + row.impressions,
            clicks=first.clicks + row.clicks,
            conversions=first.conversions + row.conversions,
            cost=first.cost + row.cost,
        )
    return first


def _row(day: date, account: Advertiser, index: int, figures: Metrics) -> TruthRow:
    impressions, clicks, conversions, revenue, _, _ = figures
    return TruthRow(
        day,
        account.advertiser_id,
        account.currency,
        f"c{account.number}x{index}",
        campaign_name(index),
        impressions,
        clicks,
        Decimal(conversions).scaleb(-2),
        Decimal(revenue).scaleb(-6),
    )
