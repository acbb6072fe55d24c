"""Who asks for what: three organisations, five accounts of two providers, and the commands of every act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from uuid_utils import uuid7

CALLS_ALONE: Mapping[str, int] = {"DV360": 3, "GOOGLE_ADS": 1}
"""The fewest calls that one fetch of its own costs: create, run and a poll; one stream."""
PROVIDERS: Mapping[str, str] = {"DV360": "DV360", "GOOGLE_ADS": "Google Ads"}
REPORT = "campaign_performance"
MONTHS = 14
"""So many that some still wait when the premium request is answered, on a fast machine as on a slow one."""
PAUSE_S = 5


@dataclass(frozen=True, slots=True)
class Account:
    """One account to connect. ``name`` is how the story calls it."""

    name: str
    org_id: int
    connector_type: str
    account_id: str
    user: str

    @property
    def shown(self) -> str:
        return f"{PROVIDERS[self.connector_type]} {self.account_id}"


ORGANISATIONS: Mapping[int, tuple[str, str]] = {
    1: ("agency", "standard"),
    2: ("retailer", "standard"),
    3: ("publisher", "premium"),
}
"""Organisation -> how the story calls it, and its plan."""

ACCOUNTS = (
    Account("agency-dv", 1, "DV360", "4567", "alice"),
    Account("agency-ads", 1, "GOOGLE_ADS", "1234567890", "alice"),
    Account("retailer-dv", 2, "DV360", "4568", "bob"),
    Account("retailer-ads", 2, "GOOGLE_ADS", "2345678901", "bob"),
    Account("publisher-dv", 3, "DV360", "4569", "carol"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One command, and the account it is for."""

    account: Account
    request_id: str
    start: date
    end: date
    priority: str

    def record(self, connector_id: str) -> dict[str, Any]:
        """The command as upstream publishes it."""
        return {
            "type": "fetch",
            "request_id": self.request_id,
            "org_id": self.account.org_id,
            "connector_id": connector_id,
            "report_type": REPORT,
            "date_range": {"start": self.start.isoformat(), "end": self.end.isoformat()},
            "fields": ["impressions", "clicks", "spend"],
            "priority": self.priority,
        }


def dashboards(today: date) -> list[Asked]:
    """Four dashboards whose widgets ask for much the same weeks."""
    widgets = {"agency-dv": 8, "agency-ads": 6, "retailer-dv": 4, "retailer-ads": 4}
    return [
        _asked(name, today, 7 + 7 * (number % 4), 1 + number % 2, ("normal", "scheduled")[number % 2])
        for name, count in widgets.items()
        for number in range(count)
    ]


def backfill(today: date) -> list[Asked]:
    """Months of history, newest first, that nobody is in a hurry for."""
    return [_asked("publisher-dv", today, 60 + 30 * n, 31 + 30 * n, "backfill") for n in range(MONTHS)]


def click(today: date) -> Asked:
    """Somebody of the publisher looks at last week and clicks refresh."""
    return _asked("publisher-dv", today, 7, 1, "premium")


def while_paused(today: date) -> list[Asked]:
    """One more month of each Google Ads account, just when the provider says *not now*."""
    return [_asked(name, today, 90, 61, "normal") for name in ("agency-ads", "retailer-ads")]


def calls_alone(asked: Iterable[Asked]) -> int:
    """Calls of a client that waits but does not merge, at least."""
    return sum(CALLS_ALONE[one.account.connector_type] for one in asked)


def _asked(name: str, today: date, first_ago: int, last_ago: int, priority: str) -> Asked:
    account = next(one for one in ACCOUNTS if one.name == name)
    start, end = today - timedelta(days=first_ago), today - timedelta(days=last_ago)
    return Asked(account, f"req_{uuid7().hex}", start, end, priority)
