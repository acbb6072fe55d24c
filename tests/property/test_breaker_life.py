"""Whole lives under an unsteady provider and a touchy breaker: circuits open and close all the while, workers are lost,
the planner moves, and every request still ends once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from app.domain.breaker import BreakerPolicy
from app.domain.errors import Failure
from app.domain.messages import Accept, Offer
from app.domain.retry import RetryPolicy
from app.domain.rules import Rules
from app.testing.planning import NOW, TODAY, accept, facts, quota, rules
from app.testing.planning_checks import left_over
from app.testing.planning_world import FAILURES, Faults, PlannerWorld, commands

UNSTEADY = Faults(restart=0.03, drop=0.05, twice=0.1, die=0.05, pause=0.05, mute=0.1, fail=0.2)
POLICY = BreakerPolicy(failure_threshold=2, recovery_ms=4_000, success_threshold=2)


def touchy() -> Rules:
    return rules(
        (quota("per_second", 5, 1_000),),
        max_concurrent=4,
        retry=RetryPolicy(3, 2.0, 20.0),
        call_timeout_ms=20_000,
        stream_timeout_ms=30_000,
        closed_mark_ms=900_000,
        breaker=POLICY,
    )


@dataclass(slots=True)
class Watched(PlannerWorld):
    """Looks at the circuits after every step."""

    opened: int = 0

    def _failure(self, offer: Offer) -> Failure | None:
        """Every third minute the provider is down altogether."""
        down = (self.now - NOW) // 60_000 % 3 == 1
        return FAILURES[0] if down else PlannerWorld._failure(self, offer)

    def _step(self, messages: list[Any]) -> None:
        before = dict(self.state.circuits)
        told = len(self.events)
        PlannerWorld._step(self, messages)
        state, seed = self.state, self.seed
        probes = [p for p in state.permits.values() if p.probe and p.returned_at is None]
        # One that is lost is out no longer, though its row may stay until its minute is told.
        out = Counter(p.account_id for p in probes if state.latest_end(p) > state.now)
        assert not out or max(out.values()) == 1, f"seed {seed}: two probes are out"
        for account, circuit in state.circuits.items():
            held = [p.ask_id for p in state.permits.values() if p.account_id == account and p.probe]
            assert circuit.probe is None or circuit.probe in held, f"seed {seed}: a probe without a permit"
            if circuit.open and (old := before.get(account)) is not None and old.open:
                early = [p for p in state.permits.values() if p.account_id == account and p.granted_at == state.now]
                assert state.now >= old.retry_at or not early, f"seed {seed}: a permit while it was open"
        names = [e.type for e in self.events[told:] if e.type.startswith("circuit")]
        moved = [a for a in {*before, *state.circuits} if _open(before, a) != _open(state.circuits, a)]
        assert len(names) >= len(moved), f"seed {seed}: a move without its event"
        self.opened += names.count("circuit_opened")


def _open(circuits: dict[str, Any], account: str) -> bool:
    return account in circuits and circuits[account].open


def drawn(number: int, draw: random.Random) -> Accept:
    start = TODAY - draw.randint(1, 12)
    return accept(
        number,
        start,
        min(TODAY, start + draw.randint(0, 6)),
        connector=facts(draw.choice([1, 1, 2])),
        priority_class=draw.choice([1, 2, 3, 5]),
        force=draw.random() < 0.1,
        deadline_at=NOW + draw.randint(1_000, 400_000) if draw.random() < 0.15 else None,
    )


def live(seed: int) -> Watched:
    draw = random.Random(seed)
    made = Watched(touchy(), seed, UNSTEADY)
    accepts = [drawn(n, draw) for n in range(1, draw.randint(4, 12))]
    for message, after_ms in commands(accepts, draw):
        made.tell(message, after_ms)
    later = [replace(drawn(100 + n, draw), accepted_at=NOW + 600_000, max_age_s=0) for n in range(6)]
    for message in later:
        made.tell(message, draw.randint(600_000, 660_000))
    made.run()
    assert set(made.outcomes()) == {a.request_id for a in [*accepts, *later]}, f"seed {seed}: requests without an end"
    assert list(left_over(made.state)) == [], f"seed {seed}"
    assert not made.state.stale
    by_account: dict[str, list[str]] = {}
    for event in made.events:
        if event.type.startswith("circuit"):
            by_account.setdefault(event.data["account_id"], []).append(event.type)
    for names in by_account.values():
        assert all(a != b for a, b in pairwise(names)), f"seed {seed}: {names}"
        assert names[0] == "circuit_opened"
    return made


@pytest.mark.parametrize("seed", range(0, 150, 15))
def test_every_request_ends_once_while_circuits_open_and_close(seed: int) -> None:
    made = [live(each) for each in range(seed, seed + 15)]
    assert sum(m.opened for m in made) > 10
    assert any(e.data.get("stale") for m in made for e in m.events), "some of them from older data"
