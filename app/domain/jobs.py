"""Reports that wait at the provider: how many there may be, and how often they are asked for."""

from __future__ import annotations

import math

from app.domain.model import ConnectorFacts
from app.domain.rate_limit import LONG_PERIOD_MS, Bucket
from app.domain.rows import Batch
from app.domain.state import State


def full(state: State, connector_type: str) -> bool:
    """Whether as many fetches as allowed are begun and not ended; each of them is, or will be, a report that waits.
    Types that answer at once have none."""
    bound = most(state, connector_type)
    return bound is not None and len(state.in_flight.get(connector_type, ())) >= bound


def most(state: State, connector_type: str) -> int | None:
    """How many fetches may be begun and not ended; None: any number."""
    rules = state.rules.connectors.get(connector_type)
    return None if rules is None or len(rules.steps) < 2 else rules.max_remote_jobs


def poll_delay_ms(state: State, batch: Batch, wished_ms: int) -> int:
    """How long to wait before a report is asked for again: longer than wished where all that wait, asked for so often,
    would take more than half of a short bucket. Polls go before new fetches, which so keep the other half."""
    limits = state.limits_of(batch.connector)
    spent = [b for c in state.rules_of(batch.connector).minimum_calls for b in limits.of(c, batch.connector)]
    return max((wished_ms, *(_least_ms(state, batch.connector, b) for b in spent if _short(b))))


def _short(bucket: Bucket) -> bool:
    return bucket.quota.enforced and not bucket.calendar and bucket.quota.period_ms < LONG_PERIOD_MS


def _least_ms(state: State, connector: ConnectorFacts, bucket: Bucket) -> int:
    """In which half of the bucket lets all that spend from it be asked for once."""
    who = {"application": "connector_type", "account": "account_id", "user": "subject"}[bucket.quota.scope]
    others = (state.batches[name].connector for name in state.in_flight.get(connector.connector_type, ()))
    waiting: int = sum(getattr(other, who) == getattr(connector, who) for other in others)
    held_ms = bucket.quota.period_ms + bucket.response_ms
    return math.ceil(2 * waiting * held_ms / bucket.quota.limit)
