"""What a worker does before its consumer leaves the group."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app import main


class Leaving:
    """A worker's parts that leaving touches; ``order`` tells what was asked, ``refuse`` is raised by the commit."""

    def __init__(self, refuse: BaseException | None = None, answer_s: float = 0.0) -> None:
        self.order: list[str] = []
        self._refuse, self._answer_s = refuse, answer_s
        consumer = SimpleNamespace(commit=self._commit)
        self.topology = SimpleNamespace(app=SimpleNamespace(consumer=consumer))
        self.fetches = SimpleNamespace(stop=self._stop)

    async def _stop(self, _limit_s: float) -> None:
        self.order.append("steps ended")

    async def _commit(self) -> bool:
        await asyncio.sleep(self._answer_s)
        self.order.append("offsets committed")
        if self._refuse is not None:
            raise self._refuse
        return True


def leave(worker: Any) -> None:
    asyncio.run(main._leave(worker))


def test_what_was_read_is_noted_once_the_steps_have_ended() -> None:
    worker = Leaving()
    leave(worker)
    assert worker.order == ["steps ended", "offsets committed"]


def test_a_refused_commit_does_not_keep_a_worker_from_leaving() -> None:
    worker = Leaving(refuse=OSError("no broker"))
    leave(worker)
    assert worker.order == ["steps ended", "offsets committed"]


def test_a_silent_broker_does_not_keep_a_worker_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "COMMIT_S", 0.01)
    worker = Leaving(answer_s=60.0)
    leave(worker)
    assert worker.order == ["steps ended"]
