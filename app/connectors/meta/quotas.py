"""Meta's rules as data. Defaults; settings may override the hour's limit.

What an app may do depends on its access tier, which the usage headers call ``ads_api_access_tier``. Numbers are given
for an account without active ads, each of which adds 400 calls an hour: more room than we count with.
"""

from __future__ import annotations

from app.domain.model import ConnectorType, Quota

INSIGHTS = "insights"
"""Charge of every call about an account's figures: making a run, asking how it stands, each page of its rows."""
ENTITIES = "entities"
"""Charge of the list of accounts."""

INSIGHTS_PER_HOUR = "insights_per_hour"
ACCOUNT_SCORE = "account_score"
APPLICATION = "application_calls"
USER = "user_calls"

TIERS = ("limited", "full")

_HOUR_MS, _SCORE_MS, _UNKNOWN = 3_600_000, 300_000, 190_000
_LIMITING = "developers.facebook.com/docs/marketing-api/overview/rate-limiting"
_UNPUBLISHED = f"{_LIMITING}: no number is published; counted and shown, closed by refusals alone"


def _quota(name: str, scope: str, limit: int, period_ms: int, source: str, *, enforced: bool = True) -> Quota:
    return Quota(name, ConnectorType.META, INSIGHTS, scope, limit, period_ms, None, source, enforced)


def quotas_of(tier: str) -> tuple[Quota, ...]:
    """The quotas of an app with ``limited`` or ``full`` access."""
    per_hour, score = {"limited": (600, 60), "full": (190_000, 9_000)}[tier]
    return (
        _quota(
            INSIGHTS_PER_HOUR, "account", per_hour, _HOUR_MS,
            f"{_LIMITING}: ads_insights, {per_hour:,} + 400 per active ad an hour and account ({tier} access)",
        ),
        # A reading costs one point, a writing three. Whether making a run is a writing is not said: it is counted as
        # one point, and X-Ad-Account-Usage corrects the count.
        _quota(
            ACCOUNT_SCORE, "account", score, _SCORE_MS,
            f"{_LIMITING}: a score of {score:,} an account, which decays over 300 s ({tier} access)",
        ),
        # All accounts of all organisations together, and all of one user: what refusals with code 4 and 17 close. The
        # 200 calls per user and hour of the Graph API are documented not to count here. The limits are no promise of
        # the provider's; nothing waits for them.
        _quota(APPLICATION, "application", _UNKNOWN, _HOUR_MS, _UNPUBLISHED, enforced=False),
        _quota(USER, "user", _UNKNOWN, _HOUR_MS, _UNPUBLISHED, enforced=False),
        Quota(
            "entities_per_hour", ConnectorType.META, ENTITIES, "application", _UNKNOWN, _HOUR_MS, None, _UNPUBLISHED,
            enforced=False,
        ),
    )  # fmt: skip


QUOTAS = quotas_of("limited")
