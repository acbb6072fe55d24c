"""Google Ads' rules as data. Defaults; settings may override each limit."""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

OPERATIONS = "operations"
"""Charge of every call: one search, however many rows it answers, is one operation."""

OPERATIONS_PER_DAY = "operations_per_day"

_DAY_MS = 86_400_000
_ACCESS = "developers.google.com/google-ads/api/docs/access-levels"

QUOTAS: tuple[Quota, ...] = (
    Quota(
        OPERATIONS_PER_DAY, ConnectorType.GOOGLE_ADS, OPERATIONS, "application", 15_000, _DAY_MS, None,
        f"{_ACCESS}: Basic, 15,000 operations per project in any 24 hours",
    ),
)  # fmt: skip
"""The short limits are not published: they are known only from the refusals."""
