"""The circuit of one account at a provider: closed, open, half open (spec section 8, R9).

It opens after ``failure_threshold`` system failures in a row. When ``recovery_ms`` are over it is half open: one permit
at a time is the probe. A probe that fails, or never comes back, opens it for another ``recovery_ms``;
``success_threshold`` probes in a row that end well close it. Refusals, throttles and cancelled calls are neutral: they
count neither way, and a neutral probe is free again. A call that was permitted before the circuit's last move says
nothing any more.

Plain functions over a frozen row. Instants and spans in ms, ``now`` is passed in and never runs backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

LOST = "probe_lost"
"""``last_error`` of a circuit whose probe never came back."""


class Result(StrEnum):
    """How a call ended, as far as the breaker is concerned."""

    OK = "ok"
    FAILED = "failed"
    NEUTRAL = "neutral"


class Phase(StrEnum):
    """What a circuit lets through: everything, nothing, one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The settings ``circuit_breaker``. A span in ms."""

    failure_threshold: int = 5
    recovery_ms: int = 30_000
    success_threshold: int = 2


@dataclass(frozen=True, slots=True)
class Circuit:
    """One account's row. ``since``: when it opened or closed last; a failed probe moves ``retry_at`` alone.
    ``failures``: in a row, up to now; ``successes``: of probes in a row. ``probe``: the ask whose permit is the probe
    that is out, which comes back before ``probe_until`` or never. ``prober``: the batch that made the last one.
    ``last_error``: code of the last failure."""

    open: bool = False
    since: int = 0
    failures: int = 0
    successes: int = 0
    retry_at: int = 0
    probe: str | None = None
    probe_until: int = 0
    prober: str | None = None
    last_error: str = ""


CLOSED = Circuit()
"""An account that has no row."""


def phase(circuit: Circuit, now: int) -> Phase:
    """What the circuit lets through at ``now``."""
    if not circuit.open:
        return Phase.CLOSED
    return Phase.OPEN if now < circuit.retry_at else Phase.HALF_OPEN


def blocked(circuits: Mapping[str, Circuit], account: str, now: int) -> int | None:
    """None if a permit of this account may be given: any while the circuit is closed, else the probe. Otherwise when to
    ask again at the latest: the end of the recovery time or, while a probe is out, the time by which it is lost."""
    circuit = circuits.get(account, CLOSED)
    found = phase(circuit, now)
    if found is Phase.OPEN:
        return circuit.retry_at
    if found is Phase.HALF_OPEN and circuit.probe is not None:
        return max(circuit.probe_until, now + 1)
    return None


def probing(circuit: Circuit, ask_id: str, batch_id: str, until: int) -> Circuit:
    """The permit of an open circuit that ``blocked`` let through was granted: it is the probe, out until ``until`` at
    the latest."""
    return replace(circuit, probe=ask_id, probe_until=until, prober=batch_id)


def ended(
    circuit: Circuit, result: Result, *, ask_id: str, granted_at: int, now: int, policy: BreakerPolicy, error: str = ""
) -> Circuit:
    """The call of a permit granted at ``granted_at`` has ended; ``error`` is the code of a failure."""
    if circuit.open:
        return _probed(circuit, result, now, policy, error) if circuit.probe == ask_id else circuit
    if granted_at < circuit.since or result is Result.NEUTRAL:
        return circuit
    if result is Result.OK:
        return replace(circuit, failures=0) if circuit.failures else circuit
    failed = replace(circuit, failures=circuit.failures + 1, last_error=error)
    if failed.failures < policy.failure_threshold:
        return failed
    return replace(failed, open=True, since=now, retry_at=now + policy.recovery_ms, successes=0)


def lost(circuit: Circuit, ask_id: str, now: int, policy: BreakerPolicy) -> Circuit:
    """A permit's time is over and nothing was heard of its call. Only of the probe is that a failure."""
    if not circuit.open or circuit.probe != ask_id:
        return circuit
    return _probed(circuit, Result.FAILED, now, policy, LOST)


def _probed(circuit: Circuit, result: Result, now: int, policy: BreakerPolicy, error: str) -> Circuit:
    back = replace(circuit, probe=None, probe_until=0)
    if result is Result.NEUTRAL:
        return back
    if result is Result.FAILED:
        again = now + policy.recovery_ms
        return replace(back, failures=circuit.failures + 1, successes=0, retry_at=again, last_error=error)
    if circuit.successes + 1 < policy.success_threshold:
        return replace(back, successes=circuit.successes + 1)
    return Circuit(since=now)
