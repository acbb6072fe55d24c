"""The breaker against an obvious model: all that happened, as a list, told again from its beginning at every look."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.domain.breaker import CLOSED, BreakerPolicy, Circuit, Phase, Result, blocked, ended, lost, phase, probing

ACCOUNT = "acc"
LIFETIME_MS = 130


@dataclass(frozen=True)
class Happened:
    """A call's end as the model remembers it: ``lost`` ones have no result."""

    ask_id: str
    granted_at: int
    at: int
    result: Result | None


@dataclass
class Told:
    """What the list of ends says. ``moves``: every (instant, opened or closed)."""

    open: bool = False
    moved_at: int = 0
    bad: int = 0
    good: int = 0
    closed_until: int = 0
    moves: tuple[tuple[int, str], ...] = ()


def tell(history: list[Happened], probes: set[str], policy: BreakerPolicy) -> Told:
    """Reads the list from its beginning."""
    told = Told()
    for one in history:
        if told.open and one.ask_id in probes:
            if one.result is Result.OK:
                told.good += 1
            elif one.result is not Result.NEUTRAL:
                told.good, told.closed_until = 0, one.at + policy.recovery_ms
            if told.good == policy.success_threshold:
                told = Told(moved_at=one.at, moves=(*told.moves, (one.at, "closed")))
        elif not told.open and one.granted_at >= told.moved_at and one.result is not None:
            told.bad = {Result.OK: 0, Result.FAILED: told.bad + 1, Result.NEUTRAL: told.bad}[one.result]
            if told.bad == policy.failure_threshold:
                until = one.at + policy.recovery_ms
                told = Told(open=True, moved_at=one.at, closed_until=until, moves=(*told.moves, (one.at, "opened")))
    return told


class Breaker(RuleBasedStateMachine):
    """Calls are permitted, end in any order, or never; time goes on; the row is written and read back."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy()
        self.circuit: Circuit = CLOSED
        self.now = 1_000
        self.out: dict[str, int] = {}
        """Permits whose calls have not ended: ask id -> granted at."""
        self.history: list[Happened] = []
        self.probes: set[str] = set()
        self.moves: list[tuple[int, str]] = []
        self.failed_at: list[int] = []
        """When probes failed."""

    @initialize(failures=st.integers(1, 5), successes=st.integers(1, 3), recovery=st.integers(1, 300))
    def begin(self, failures: int, successes: int, recovery: int) -> None:
        self.policy = BreakerPolicy(failures, recovery, successes)

    @rule(ms=st.integers(1, 200))
    def time_goes_on(self, ms: int) -> None:
        self.now += ms
        for ask_id, granted_at in list(self.out.items()):
            if granted_at + LIFETIME_MS <= self.now:
                del self.out[ask_id]
                self.history.append(Happened(ask_id, granted_at, self.now, None))
                if ask_id == self.circuit.probe:
                    self.failed_at.append(self.now)
                self._becomes(lost(self.circuit, ask_id, self.now, self.policy))

    @rule()
    def somebody_asks(self) -> None:
        told = tell(self.history, self.probes, self.policy)
        until = blocked({ACCOUNT: self.circuit}, ACCOUNT, self.now)
        probe_out = told.open and any(name in self.probes for name in self.out)
        may = not told.open or (self.now >= told.closed_until and not probe_out)
        assert (until is None) is may
        if until is not None:
            assert until > self.now
            if self.now < told.closed_until:
                assert until == told.closed_until
            return
        ask_id = f"ask{len(self.history)}.{len(self.out)}.{self.now}.{len(self.probes)}"
        self.out[ask_id] = self.now
        if self.circuit.open:
            assert all(self.now >= at + self.policy.recovery_ms for at in self.failed_at), "one per recovery time"
            self.probes.add(ask_id)
            self.circuit = probing(self.circuit, ask_id, "bat", self.now + LIFETIME_MS)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 99), result=st.sampled_from([*Result, Result.FAILED]))
    def a_call_ends(self, which: int, result: Result) -> None:
        ask_id = sorted(self.out)[which % len(self.out)]
        self._end(ask_id, result)

    @precondition(lambda self: self.circuit.probe is not None)
    @rule(result=st.sampled_from([Result.OK, Result.OK, Result.FAILED, Result.NEUTRAL]))
    def the_probe_ends(self, result: Result) -> None:
        self._end(self.circuit.probe or "", result)

    @rule(result=st.sampled_from([Result.OK, Result.FAILED]))
    def an_end_is_told_twice(self, result: Result) -> None:
        """The planner asks once per permit; a probe that was settled must be no probe any more, all the same."""
        settled = [h.ask_id for h in self.history if h.ask_id in self.probes]
        if settled and self.circuit.open:
            again = {"ask_id": settled[-1], "granted_at": 0, "now": self.now, "policy": self.policy}
            assert ended(self.circuit, result, **again) == self.circuit  # type: ignore[arg-type]
            assert lost(self.circuit, settled[-1], self.now, self.policy) == self.circuit

    def _end(self, ask_id: str, result: Result) -> None:
        granted_at = self.out.pop(ask_id)
        if ask_id == self.circuit.probe and result is Result.FAILED:
            self.failed_at.append(self.now)
        self.history.append(Happened(ask_id, granted_at, self.now, result))
        self._becomes(
            ended(
                self.circuit, result, ask_id=ask_id, granted_at=granted_at, now=self.now, policy=self.policy,
                error=f"code{len(self.history)}" if result is Result.FAILED else "",
            )
        )  # fmt: skip

    def _becomes(self, new: Circuit) -> None:
        if new.open != self.circuit.open:
            self.moves.append((self.now, "opened" if new.open else "closed"))
        self.circuit = new

    @invariant()
    def it_is_as_the_list_says(self) -> None:
        told = tell(self.history, self.probes, self.policy)
        assert self.circuit.open is told.open
        assert self.circuit.successes == told.good
        assert tuple(self.moves) == told.moves
        if told.open:
            assert self.circuit.retry_at == told.closed_until
            assert phase(self.circuit, self.now) is (Phase.OPEN if self.now < told.closed_until else Phase.HALF_OPEN)
            assert self.circuit.last_error, "why it is open is never forgotten"
        else:
            assert self.circuit.failures == told.bad
            assert phase(self.circuit, self.now) is Phase.CLOSED

    @invariant()
    def one_probe_is_out_at_most(self) -> None:
        out = [name for name in self.out if name in self.probes]
        assert len(out) <= 1
        assert self.circuit.probe == (out[0] if out else None)


def test_the_breaker_does_what_the_list_of_ends_says() -> None:
    run_state_machine_as_test(Breaker, settings=settings(max_examples=300, stateful_step_count=60, deadline=None))
