"""When a failed step is tried again. Time and identity come in; jitter is drawn from them: a replay decides alike."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from app.domain.errors import Failure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of retrying. Spans in seconds; ``max_attempts`` counts the first try."""

    max_attempts: int = 3
    base_s: float = 5.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Again, not before ``not_before`` (ms)."""

    not_before: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt: the failure is final."""


def decide(failure: Failure, *, attempts: int, now: int, key: str, policy: RetryPolicy) -> Retry | GiveUp:
    """``attempts`` failed ones so far, this one included. The provider's own delay wins over the backoff."""
    if not failure.retryable or attempts >= policy.max_attempts:
        return GiveUp()
    delay = backoff_s(attempts, key, policy) if failure.retry_after_s is None else failure.retry_after_s
    return Retry(now + int(delay * 1000))


def backoff_s(attempts: int, key: str, policy: RetryPolicy) -> float:
    """Exponential with full jitter down to half: ``base * 2^(attempts-1)``, at most ``cap``, times 0.5 .. 1."""
    ceiling = min(policy.cap_s, policy.base_s * 2.0 ** (attempts - 1))
    draw = int.from_bytes(hashlib.sha256(f"{key}|{attempts}".encode()).digest()[:4], "big") / 2**32
    return ceiling * (0.5 + draw / 2)
