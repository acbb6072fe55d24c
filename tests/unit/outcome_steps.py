"""Steps that begin fetches and end them, for the tests of what follows."""

from __future__ import annotations

from typing import Any

from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Accept, Ask, Offer, StepOutcome
from app.domain.model import Quota
from app.domain.retry import RetryPolicy
from app.domain.state import Changes, State
from app.testing.planning import (
    NOW,
    quota,
    rules,
    take,
)

UNAVAILABLE = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)
REFUSED = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No such column.", retryable=False)
SLIDING = quota("per_minute", 100, 60_000)


def begun(*accepts: Accept, quotas: tuple[Quota, ...] = (), **changes: Any) -> tuple[State, Changes]:
    state = State(rules(quotas, retry=RetryPolicy(3, 8.0, 300.0), **changes), now=NOW)
    return state, take(state, *accepts)


def ended(offer: Offer, **what: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **what)


def call(state: State, offer: Offer, *names: str, data: bool = False) -> None:
    """Permits for some calls of a step."""
    take(state, *(Ask(n, "w", offer.batch_id, offer.epoch, offer.step_no, "reports", data) for n in names))


def throttled(quota_name: str | None = None, until_s: float | None = None) -> Failure:
    return Failure(ErrorClass.QUOTA, "rate_limited", "429", retryable=True, throttle=Throttle(quota_name, until_s))


def ends(changes: Changes) -> dict[str | None, dict[str, Any]]:
    return {e.request_id: {"type": e.type} | e.data for e in changes.events if e.request_id}
