"""Permits for calls that belong to no fetch: lists of accounts, checks of a connection.

They spend from the same buckets. Somebody is waiting for them, so they are of class 2: the reserve is theirs too, and
only fetches that were begun come before those of their class. Nothing can make them stale; an ask that is not answered
in time is sent anew.
"""

from __future__ import annotations

from app.domain import rate_limit
from app.domain.messages import Ask
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Bucket, Full
from app.domain.state import State

CLASS = 2
NO_BATCH = ""
"""What their permits' rows have for a batch."""


def rank(asked_at: int) -> tuple[int, int, int, int]:
    """Its place among the waiting asks, as ``permits`` orders them."""
    return (1, CLASS, asked_at, asked_at)


def test(state: State, message: Ask, connector: ConnectorFacts) -> tuple[list[Bucket], Full | None]:
    """The buckets the call spends from, and the one that has no room now."""
    buckets = state.limits_of(connector).of(message.charge, connector)
    return buckets, rate_limit.test(buckets, state.now, NO_BATCH, 1)
