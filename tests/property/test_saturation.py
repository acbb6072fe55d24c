"""Quotas that demand exceeds from all sides: never over, and hardly anything left unused (faults X28 and X30)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from app.domain.model import Quota
from app.testing.planning import NOW, TODAY, accept, facts, quota, rules
from app.testing.planning_world import Faults, PlannerWorld

WINDOW_MS = 20_000
WINDOWS = 3
SHARED = quota("app", 60, WINDOW_MS)
OWN = quota("account", 14, WINDOW_MS, scope="account")
USER = quota("user", 45, WINDOW_MS, scope="user")


@dataclass
class Busy(PlannerWorld):
    """Five workers; how long each permit was out."""

    held_ms: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._workers = [f"w{n}" for n in range(5)]

    def _give_back(self, ask_id: str, *ends: tuple[str, int, int], left: bool = False) -> None:
        self.held_ms.append(self.now - self.state.permits[ask_id].granted_at)
        super()._give_back(ask_id, *ends, left=left)


def busy(seed: int, quotas: tuple[Quota, ...], accounts: int, faults: Faults | None = None) -> Busy:
    world = Busy(rules(quotas, call_timeout_ms=2_000, max_concurrent=60, minimum=1), seed, faults or Faults())
    draw = random.Random(seed)
    for number in range(240):
        who = facts(number % accounts + 1, org_id=number % 3 + 1, subject=f"user{number % 2}")
        day = TODAY - 2 * (number // accounts)
        world.tell(accept(number + 1, day, day, connector=who, priority_class=draw.choice([1, 2, 3, 5])))
    return world


def run(world: Busy) -> None:
    while world.now < NOW + WINDOWS * WINDOW_MS and world._advance():
        pass


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("faults", [Faults(), Faults(die=0.05, mute=0.05, twice=0.1, drop=0.05, restart=0.02)])
def test_a_shared_quota_and_each_ones_own_are_both_kept(seed: int, faults: Faults) -> None:
    quotas = (SHARED, OWN, USER)
    world = busy(seed, quotas, 12, faults)
    run(world)
    for rule in quotas:
        assert world.busiest(rule) <= rule.limit, rule.name
    assert len(world.calls) > 100


@pytest.mark.parametrize(("rule", "accounts", "scopes"), [(SHARED, 12, 1), (OWN, 3, 3)])
def test_what_a_quota_gives_is_used_while_there_is_demand(rule: Quota, accounts: int, scopes: int) -> None:
    world = busy(1, (rule,), accounts)
    run(world)
    held = sum(world.held_ms) / len(world.held_ms)
    gives = scopes * rule.limit * WINDOWS * WINDOW_MS / (WINDOW_MS + held)
    assert len(world.calls) >= 0.99 * gives
