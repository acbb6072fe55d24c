"""DV360's rules as data. Defaults; settings may override each limit."""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

REPORTS = "reports"
"""Charge of every Bid Manager call, failed ones included."""
ENTITIES = "entities"
"""Charge of every Display & Video 360 API call."""
DOWNLOADS = "downloads"
"""Charge of a signed link: the storage behind it counts nothing, but the call is fenced like any other."""

REPORTS_PER_SECOND = "reports_per_second"
REPORTS_PER_DAY = "reports_per_day"
REPORTS_PER_USER = "reports_per_user"

_DAY_MS = 86_400_000
_BID_MANAGER = "developers.google.com/bid-manager/quotas"
_DISPLAY_VIDEO = "developers.google.com/display-video/api/limits"


def _quota(name: str, charge: str, scope: str, limit: int, period_ms: int, zone: str | None, source: str) -> Quota:
    return Quota(name, ConnectorType.DV360, charge, scope, limit, period_ms, zone, source)


QUOTAS: tuple[Quota, ...] = (
    _quota(REPORTS_PER_SECOND, REPORTS, "application", 4, 1_000, None, f"{_BID_MANAGER}: 4 per second per project"),
    _quota(
        REPORTS_PER_DAY, REPORTS, "application", 2_000, _DAY_MS, "America/Los_Angeles",
        f"{_BID_MANAGER}: 2,000 requests per day per project, from midnight Pacific",
    ),
    _quota(REPORTS_PER_USER, REPORTS, "user", 240, 60_000, None, "Cloud console: 240 per minute per user"),
    _quota("entities_per_minute", ENTITIES, "application", 1_500, 60_000, None, f"{_DISPLAY_VIDEO}: 1,500 per minute"),
    _quota(
        "entities_per_advertiser", ENTITIES, "account", 300, 60_000, None,
        f"{_DISPLAY_VIDEO}: 300 per minute per advertiser",
    ),
)  # fmt: skip
