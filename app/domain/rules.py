"""What the planner goes by: the settings, and what each adapter declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.breaker import BreakerPolicy
from app.domain.coverage import Freshness
from app.domain.lanes import Fairness
from app.domain.model import Catalogue, Quota
from app.domain.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ConnectorRules:
    """What the planner must know of one connector type; declared by its adapter, corrected by the settings."""

    quotas: tuple[Quota, ...] = ()
    steps: tuple[str, ...] = ("start",)
    minimum_calls: Mapping[str, int] = field(default_factory=dict)
    write_calls: Mapping[str, int] = field(default_factory=dict)
    """The same of a write; empty for a type that can only be read."""
    poll_schedule_s: tuple[float, ...] = (5.0,)
    cost_per_call: str = "1"
    max_remote_jobs: int | None = None
    """Most fetches begun and not ended, where a provider works on reports (None: any number)."""

    def calls(self, *, write: bool) -> Mapping[str, int]:
        """Charge -> the fewest calls that a write or a fetch takes."""
        return self.write_calls if write else self.minimum_calls


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings of the planner. Spans in ms."""

    connectors: Mapping[str, ConnectorRules]
    catalogue: Catalogue
    window_ms: int = 300_000
    max_members: int = 200
    backfill_slice_days: int = 31
    max_concurrent: int = 10
    fairness: Fairness = field(default_factory=Fairness)
    max_live: int = 100_000
    freshness: Freshness = field(default_factory=Freshness)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    permit_valid_ms: int = 10_000
    call_timeout_ms: int = 120_000
    stream_timeout_ms: int = 300_000
    """The same for calls that no quota counts."""
    lease_ms: int = 15_000
    clock_guard_ms: int = 60_000
    ask_hold_ms: int = 30_000
    closed_mark_ms: int = 3_600_000
    retention_ms: int = 90 * 86_400_000
    cost_unit: str = "calls"

    @property
    def writers(self) -> frozenset[str]:
        """Connector types that can be written to."""
        return frozenset(name for name, one in self.connectors.items() if one.write_calls)
