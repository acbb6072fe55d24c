"""Liveness: which planner is stuck."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api import readiness
from api.readiness import STUCK_S, Readiness
from app.domain.rows import Closure
from app.domain.state import State
from app.testing.planning import NOW, quota, rules


class World:
    """One owner, looked at again and again; the broker answered just now, unless it is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.owner = SimpleNamespace(lock=asyncio.Lock(), stepped_at=self.now)
        self.broker = True
        monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=lambda: self.now))
        ownership: Any = SimpleNamespace(owners={0: self.owner})
        nothing: Any = SimpleNamespace(check=None)
        self.readiness = Readiness(nothing, nothing, ownership, nothing, nothing, nothing)

    def alive(self, seconds: float, *, steps: bool) -> bool:
        """A look every second for so long; whether every one found it alive."""
        answers = []
        for _ in range(int(seconds)):
            self.now += 1
            if steps:
                self.owner.stepped_at = self.now - 0.1
            self.readiness._broker_at = self.now if self.broker else 1.0
            answers.append(self.readiness.alive())
        return all(answers)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch)
    await made.owner.lock.acquire()
    return made


async def test_a_planner_with_step_after_step_is_alive(world: World) -> None:
    assert world.alive(3 * STUCK_S, steps=True)


async def test_one_step_without_end_is_stuck(world: World) -> None:
    assert world.alive(STUCK_S, steps=False)
    assert not world.alive(5, steps=False)


async def test_an_idle_planner_is_alive(world: World) -> None:
    world.owner.lock.release()
    assert world.alive(3 * STUCK_S, steps=False)
    await world.owner.lock.acquire()
    assert world.alive(5, steps=False)


async def test_without_a_broker_nothing_is_stuck_nor_just_after_it_came_back(world: World) -> None:
    world.broker = False
    assert world.alive(3 * STUCK_S, steps=False)
    world.broker = True
    assert world.alive(5, steps=False)


async def test_an_owner_that_is_being_taken_over_is_alive(world: World) -> None:
    world.owner.stepped_at = 0.0
    assert world.alive(5, steps=False)


@pytest.mark.parametrize(("ahead_ms", "state"), [(60_000, "degraded"), (-60_000, "ok")])
def test_quotas_closed_because_rows_were_old_are_told_as_long_as_they_are(
    monkeypatch: pytest.MonkeyPatch, ahead_ms: int, state: str
) -> None:
    monkeypatch.setattr(readiness, "time", SimpleNamespace(time=lambda: NOW / 1000))
    planned = State(rules((quota(),)), now=NOW)
    planned.store("x/per_second|*", Closure(NOW + ahead_ms))
    planned.store("x/per_second|", Closure(NOW + 10**9))
    nothing: Any = SimpleNamespace(check=None)
    ownership: Any = SimpleNamespace(owners={0: SimpleNamespace(ready=True, state=planned)})
    check = Readiness(nothing, nothing, ownership, nothing, nothing, nothing)._quotas()
    assert (check.name, str(check.state)) == ("quotas", state)
