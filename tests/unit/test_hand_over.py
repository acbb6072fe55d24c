"""A step under way ends before somebody else plans, and before this worker leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.state import State
from app.streams import faust_touches, ownership, planner_shell
from app.streams.ownership import Owner, Ownership
from app.streams.planner_shell import PlannerShell
from app.testing.planning import rules


class Died(Exception):
    """The process would have ended."""


def planning(monkeypatch: pytest.MonkeyPatch, step: Callable[[], Any]) -> asyncio.Task[None]:
    """A planner shell with one record in its stream; ``step`` is what planning it does."""

    async def take(_stream: Any) -> AsyncIterator[list[Any]]:
        yield [SimpleNamespace(message=SimpleNamespace(partition=0))]

    async def planned(_self: Any, _partition: int, _records: Any) -> None:
        await step()

    def die(why: str) -> None:
        raise Died(why)

    monkeypatch.setattr(faust_touches, "take", take)
    monkeypatch.setattr(PlannerShell, "_step", planned)
    monkeypatch.setattr(planner_shell, "die", die)
    return asyncio.create_task(PlannerShell.__new__(PlannerShell).run(None))


async def test_a_worker_that_leaves_carries_its_step_through(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end, done = asyncio.Event(), asyncio.Event(), []

    async def step() -> None:
        began.set()
        await may_end.wait()
        done.append("committed")

    task = planning(monkeypatch, step)
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["committed"]


async def test_a_step_that_fails_while_its_worker_leaves_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        began.set()
        await may_end.wait()
        raise RuntimeError("fenced")

    task = planning(monkeypatch, step)
    await began.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    may_end.set()
    with pytest.raises(Died):
        await task


def owning(*owners: Owner) -> Ownership:
    made = Ownership.__new__(Ownership)
    made.owners = {owner.partition: owner for owner in owners}
    return made


async def test_a_rebalance_waits_for_the_step_under_way_and_lets_none_begin() -> None:
    owner = Owner(0, State(rules()))
    owner.ready = True
    await owner.lock.acquire()
    settling = asyncio.create_task(owning(owner).settle())
    await asyncio.sleep(0.01)
    assert not settling.done()
    assert not owner.ready
    owner.lock.release()
    await settling


async def test_a_rebalance_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "SETTLE_S", 0.02)
    owner = Owner(0, State(rules()))
    await owner.lock.acquire()
    async with asyncio.timeout(1):
        await owning(owner).settle()
