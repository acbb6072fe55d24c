"""Queries that were made for earlier fetches, by what they ask: to run one again costs a call less than to make one.

What is kept may be lost, or no longer be true: then a query is made again, and nothing else is the worse for it. Two
workers that make the same query at once leave one that nobody runs again.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import orjson

from app.connectors.dv360 import reports
from app.domain.messages import Offer
from app.ports import Kept

QUERY_ID: Final = re.compile(r"[0-9]{1,19}")
"""An int64 as JSON carries it. It becomes part of a URL."""
KEPT_S: Final = 30 * 86_400.0
"""The provider keeps a query until it is deleted. What is not run for so long is forgotten here."""


class SavedQueries:
    """The queries at one ``base`` URL, in ``kept`` (None: each is forgotten at once)."""

    def __init__(self, kept: Kept | None, base: str) -> None:
        self._kept = kept
        self._base = base

    async def find(self, offer: Offer) -> str | None:
        """The id of a query that asks what the offer does, whatever its days. None: make one."""
        if self._kept is None:
            return None
        found = await self._kept.get(self._key(offer))
        text = (found or b"").decode("ascii", "replace")
        return text if QUERY_ID.fullmatch(text) else None

    async def keep(self, offer: Offer, query_id: str) -> None:
        """``query_id`` asks what the offer does."""
        if self._kept is not None:
            await self._kept.put(self._key(offer), query_id.encode(), KEPT_S)

    async def forget(self, offer: Offer, query_id: str) -> None:
        """``query_id`` is of no use. One that another worker has made meanwhile stays."""
        if self._kept is not None and await self.find(offer) == query_id:
            await self._kept.drop(self._key(offer))

    def _key(self, offer: Offer) -> str:
        """Of everything that decides what a query asks and who may run it: only its maker may, so the grant and its
        user belong to it."""
        facts = offer.connector
        who = [facts.org_id, facts.connector_id, facts.grant_id, facts.subject]
        asked = [self._base, *who, offer.report_type, reports.params(offer)]
        return f"connector:dv360-query:{hashlib.sha256(orjson.dumps(asked)).hexdigest()}"
