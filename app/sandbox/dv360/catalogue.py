"""What this provider can report: its declared dimensions, metrics and filters. Anything else is INVALID_ARGUMENT."""

from __future__ import annotations

from collections.abc import Callable, Mapping

HEADERS: Mapping[str, str] = {
    "FILTER_DATE": "Date",
    "FILTER_ADVERTISER": "Advertiser ID",
    "FILTER_ADVERTISER_NAME": "Advertiser",
    "FILTER_ADVERTISER_CURRENCY": "Advertiser Currency",
    "FILTER_ADVERTISER_TIMEZONE": "Advertiser Time Zone",
    "FILTER_MEDIA_PLAN": "Campaign ID",
    "FILTER_MEDIA_PLAN_NAME": "Campaign",
    "FILTER_INSERTION_ORDER": "Insertion Order ID",
    "FILTER_INSERTION_ORDER_NAME": "Insertion Order",
    "FILTER_LINE_ITEM": "Line Item ID",
    "FILTER_LINE_ITEM_NAME": "Line Item",
}
"""groupBy -> its column's name in the file (the Report Builder's)."""

METRIC_HEADERS: Mapping[str, str] = {
    "METRIC_IMPRESSIONS": "Impressions",
    "METRIC_CLICKS": "Clicks",
    "METRIC_TOTAL_CONVERSIONS": "Total Conversions",
    "METRIC_REVENUE_ADVERTISER": "Revenue (Adv Currency)",
    "METRIC_MEDIA_COST_ADVERTISER": "Media Cost (Advertiser Currency)",
    "METRIC_BILLABLE_IMPRESSIONS": "Billable Impressions",
}
"""metric -> its column's name; the order is that of ``figures.Metrics``."""

FILTERS = frozenset({"FILTER_ADVERTISER", "FILTER_PARTNER"})
"""What may stand in ``params.filters``."""

ORDER_DIMENSIONS = frozenset({"FILTER_INSERTION_ORDER", "FILTER_INSERTION_ORDER_NAME"})
ITEM_DIMENSIONS = frozenset({"FILTER_LINE_ITEM", "FILTER_LINE_ITEM_NAME"})


def scaled(places: int) -> Callable[[int], str]:
    """A writer of integers that stand for ``10**-places``: as short as exact, so 12300000 with 6 places is ``12.3``."""
    unit = 10**places

    def write(value: int) -> str:
        whole, rest = divmod(value, unit)
        return f"{whole}.{rest:0{places}d}".rstrip("0") if rest else str(whole)

    return write


METRIC_WRITERS: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "METRIC_IMPRESSIONS": (0, str),
    "METRIC_CLICKS": (1, str),
    "METRIC_TOTAL_CONVERSIONS": (2, scaled(2)),
    "METRIC_REVENUE_ADVERTISER": (3, scaled(6)),
    "METRIC_MEDIA_COST_ADVERTISER": (4, scaled(6)),
    "METRIC_BILLABLE_IMPRESSIONS": (5, str),
}
"""metric -> (its place in ``figures.Metrics``, how its cell is written)."""
