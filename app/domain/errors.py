"""What can go wrong, named once. ``ErrorClass`` and the codes are stable slugs: the same in REST, gRPC and events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorClass(StrEnum):
    """Error classes of spec section 13."""

    INVALID_COMMAND = "invalid_command"
    INVALID_REQUEST = "invalid_request"
    AUTHORISATION = "authorisation"
    NOT_FOUND = "not_found"
    QUOTA = "quota"
    PROVIDER_SYSTEM = "provider_system"
    PROVIDER_RESPONSE = "provider_response"
    TOO_LARGE = "too_large"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: a stable slug, a JSON pointer to the place, and a sentence saying what to do."""

    code: str
    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """A provider said *not now*. ``quota`` is the name of the quota it named (None: it named none); ``until_s`` seconds
    from the answer until it may be tried again (None: it did not say)."""

    quota: str | None = None
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """How one fetch step failed: the row of the error table that matched.

    ``retryable`` decides between a later attempt and ``fetch_failed``; ``retry_after_s`` is the provider's own delay.
    ``system`` failures (5xx, timeouts, truncated answers) count against the circuit breaker, others never do.
    ``remote_lost`` says that the provider no longer knows the report, so that an attempt must create a new one.
    """

    error_class: ErrorClass
    code: str
    message: str
    retryable: bool
    provider_code: str | None = None
    retry_after_s: float | None = None
    throttle: Throttle | None = None
    system: bool = False
    remote_lost: bool = False


class ProviderError(Exception):
    """Raised inside a fetch step; carries the classified failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class PermitDenied(Exception):
    """The planner will not let this step call: ``stale`` (another epoch holds the batch, stop silently), ``quota`` or
    ``circuit`` (``retry_in_s`` seconds until it is worth asking again: hand the step back)."""

    def __init__(self, reason: str, retry_in_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_in_s = retry_in_s
