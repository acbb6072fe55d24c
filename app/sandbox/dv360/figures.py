"""The truth: what happened, per advertiser, campaign and day, as a pure function of (seed, ids, day, revision).

Everything is integers until it is shown: clicks and impressions as they are, conversions in hundredths, money in
millionths of the advertiser's currency. So sums are exact and a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

Metrics = tuple[int, int, int, int, int, int]
"""impressions, clicks, conversions (1/100), revenue (1/10^6), media cost (1/10^6), billable impressions."""

MetricsOf = Callable[[int, int], Metrics]

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MARKETS = (
    ("EUR", "Europe/Berlin"),
    ("USD", "America/New_York"),
    ("GBP", "Europe/London"),
    ("AUD", "Australia/Sydney"),
)


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


def scramble(number: int) -> int:
    """64 bits that look random, always the same for one number (the finaliser of splitmix64)."""
    number = (number + _GOLDEN) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)


def advertiser(seed: int, advertiser_id: int) -> Advertiser:
    """Every positive number is an advertiser; currency and zone follow from it."""
    currency, zone = _MARKETS[scramble(seed ^ (advertiser_id << 8)) % len(_MARKETS)]
    return Advertiser(advertiser_id, f"Advertiser {advertiser_id}", currency, zone)


def campaign_id(advertiser_id: int, index: int) -> int:
    """Id of an advertiser's campaign number ``index`` (from 0; below a million); fits int64."""
    return (advertiser_id % 8_000_000 + 1) * 1_000_000 + index


def campaign_name(index: int) -> str:
    """Names that a careless CSV reader trips over are among the first five."""
    odd = ('Brand, "Spring" sale', "Über uns – Zürich", "Retargeting; EU", "'=Launch'")
    return f"Campaign {index + 1}" if index == 0 or index > len(odd) else f"{odd[index - 1]} {index + 1}"


def metrics_of(seed: int, campaign: int) -> MetricsOf:
    """The figures of one campaign as a function of (day ordinal, revision)."""
    base = scramble(seed * 1_000_003 ^ campaign)

    def on(day: int, revision: int) -> Metrics:
        bits = scramble(base ^ (day << 20) ^ (revision << 52))
        if bits >> 59 == 0:
            return (0, 0, 0, 0, 0, 0)
        impressions = 500 + bits % 20_000
        clicks = impressions * (bits >> 16 & 255) // 10_000
        conversions = clicks * (bits >> 28 & 31)
        revenue = impressions * (1_000 + (bits >> 36 & 4_095))
        return (impressions, clicks, conversions, revenue, revenue * 85 // 100, impressions - (bits >> 50 & 127))

    return on


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


def add(left: Metrics, right: Metrics) -> Metrics:
    """The sum, metric by metric."""
    return (
        left[0] + right[0],
        left[1] + right[1],
        left[2] + right[2],
        left[3] + right[3],
        left[4] + right[4],
        left[5] + right[5],
    )
