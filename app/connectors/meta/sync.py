"""Insights asked for and answered in one call, without a run: ``GET act_<id>/insights``.

Only for what is small. All pages are read before the first row is looked at, so that an answer which turns out too
large can still become a run within the same step; that also bounds what is held of it.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from app.connectors.meta.pages import Source, pages
from app.connectors.meta.reports import is_by_account
from app.domain.errors import ProviderError
from app.domain.messages import Offer
from app.ports import Calls

MOST_PAGES = 4
"""More pages than these are a run's business: each is a call, and the figures of the last one should not be much later
than those of the first, whose instant is the data set's (R7)."""
ACCOUNT_SHARE = 10
"""So many days of an account are as small as one day of its campaigns. How many campaigns there are is not known before
they are read; an account has one row a day."""
_TOO_LARGE = ("too_much_data", "response_too_large")


def is_small(offer: Offer, most_days: int) -> bool:
    """Whether an offer is asked for without a run: at most ``most_days`` days by campaign, ten times as many by
    account; 0 days: never."""
    return offer.end - offer.start + 1 <= most_days * (ACCOUNT_SHARE if is_by_account(offer) else 1)


async def small_answer(calls: Calls, source: Source) -> list[list[Any]] | None:
    """The rows of each page; None where the provider finds it too much, or there are too many pages. Raises
    ``ProviderError`` for everything else that is wrong."""
    found: list[list[Any]] = []
    try:
        async with aclosing(pages(calls, source)) as read:
            async for rows in read:
                if len(found) == MOST_PAGES:
                    return None
                found.append(rows)
    except ProviderError as error:
        if error.failure.code in _TOO_LARGE:
            return None
        raise
    return found
