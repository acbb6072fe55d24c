"""What every provider's truth is made of: numbers that follow from (seed, campaign, day, revision) alone.

Everything is integers until it is shown: clicks and impressions as they are, conversions in hundredths, money in
millionths of the account's currency. So sums are exact and a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Callable

Metrics = tuple[int, int, int, int, int, int]
"""impressions, clicks, conversions (1/100), revenue (1/10^6), media cost (1/10^6), billable impressions."""

MetricsOf = Callable[[int, int], Metrics]

NOTHING: Metrics = (0, 0, 0, 0, 0, 0)

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MARKETS = (
    ("EUR", "Europe/Berlin"),
    ("USD", "America/New_York"),
    ("GBP", "Europe/London"),
    ("AUD", "Australia/Sydney"),
)


def scramble(number: int) -> int:
    """64 bits that look random, always the same for one number (the finaliser of splitmix64)."""
    number = (number + _GOLDEN) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)


def market_of(seed: int, account_id: int) -> tuple[str, str]:
    """(currency, time zone) of an account: ISO 4217 and IANA name."""
    return _MARKETS[scramble(seed ^ (account_id << 8)) % len(_MARKETS)]


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
            return NOTHING
        impressions = 500 + bits % 20_000
        clicks = impressions * (bits >> 16 & 255) // 10_000
        conversions = clicks * (bits >> 28 & 31)
        revenue = impressions * (1_000 + (bits >> 36 & 4_095))
        return (impressions, clicks, conversions, revenue, revenue * 85 // 100, impressions - (bits >> 50 & 127))

    return on


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
