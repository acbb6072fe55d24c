"""The truth: what happened, per advertiser, campaign and day, as a pure function of (seed, ids, day, revision)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.sandbox.figures import Metrics, campaign_name, market_of, metrics_of


@dataclass(frozen=True, slots=True)
class Advertiser:
    """An account: ``currency`` ISO 4217, ``time_zone`` IANA name; its days are days of that zone."""

    advertiser_id: int
    name: str
    currency: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class TruthRow:
    """Exact figures of one campaign on one day; ``conversions`` to 2 places, money to 6 at most."""

    day: date
    advertiser_id: int
    currency: str
    campaign_id: int
    campaign_name: str
    impressions: int
    clicks: int
    conversions: Decimal
    revenue: Decimal
    media_cost: Decimal
    billable_impressions: int


def advertiser(seed: int, advertiser_id: int) -> Advertiser:
    """Every positive number is an advertiser; currency and zone follow from it."""
    currency, zone = market_of(seed, advertiser_id)
    return Advertiser(advertiser_id, f"Advertiser {advertiser_id}", currency, zone)


def campaign_id(advertiser_id: int, index: int) -> int:
    """Id of an advertiser's campaign number ``index`` (from 0; below a million); fits int64."""
    return (advertiser_id % 8_000_000 + 1) * 1_000_000 + index


def truth_rows(
    seed: int, advertiser_id: int, start: date, end: date, campaigns: int, revisions: Callable[[int], int]
) -> Iterator[TruthRow]:
    """Rows for the days ``start`` to ``end`` inclusive, by day, then campaign; ``revisions`` maps a day's ordinal to
    its revision."""
    account = advertiser(seed, advertiser_id)
    ids = [campaign_id(advertiser_id, index) for index in range(campaigns)]
    readers = [metrics_of(seed, one) for one in ids]
    for ordinal in range(start.toordinal(), end.toordinal() + 1):
        day, revision = date.fromordinal(ordinal), revisions(ordinal)
        for index, read in enumerate(readers):
            yield _row(day, account, ids[index], campaign_name(index), read(ordinal, revision))


def _row(day: date, account: Advertiser, campaign: int, name: str, figures: Metrics) -> TruthRow:
    impressions, clicks, conversions, revenue, media_cost, billable = figures
    return TruthRow(
        day,
        account.advertiser_id,
        account.currency,
        campaign,
        name,
        impressions,
        clicks,
        Decimal(conversions).scaleb(-2),
        Decimal(revenue).scaleb(-6),
        Decimal(media_cost).scaleb(-6),
        billable,
    )


def split(figures: Metrics, part: int) -> Metrics:
    """Half of a campaign's (or order's) figures: part 0 gets the smaller half, part 1 the rest; both add up exactly."""
    halves = tuple(value // 2 if part == 0 else value - value // 2 for value in figures)
    return (halves[0], halves[1], halves[2], halves[3], halves[4], halves[5])
