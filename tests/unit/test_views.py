"""REST's look-ups while PostgreSQL accepts and says nothing, and its client cannot be stopped at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.ports import BrokerUnavailable, ViewUnavailable
from app.streams import views
from app.streams.kafka import Commands
from app.streams.views import WorkerConnectors, WorkerViews


async def _silent(_id: str) -> Any:
    try:
        await asyncio.sleep(1.0)
    finally:
        # What a driver does that waits for the server to confirm the cancellation.
        await asyncio.sleep(1.0)


async def _away(_id: str) -> Any:
    raise ConnectionError


async def _nothing(_id: str) -> Any:
    return None


Find = Callable[[str], Awaitable[Any]]
NOBODY: Any = SimpleNamespace(view=lambda _id: None, connectors={})


def _both(find: Find) -> tuple[Find, Find]:
    store: Any = SimpleNamespace(find=find)
    return WorkerViews(NOBODY, store).get, WorkerConnectors(NOBODY, store).find


@pytest.mark.parametrize("which", [0, 1])
async def test_a_silent_store_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    assert views.LOOK_UP_S <= 1.5
    monkeypatch.setattr(views, "LOOK_UP_S", 0.1)
    began = time.monotonic()
    with pytest.raises(ViewUnavailable):
        await _both(_silent)[which]("x")
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("which", [0, 1])
async def test_a_store_that_is_away_or_knows_nothing(which: int) -> None:
    assert await _both(_nothing)[which]("x") is None
    with pytest.raises(ViewUnavailable):
        await _both(_away)[which]("x")


async def test_a_silent_broker_is_waited_for_less_than_two_seconds() -> None:
    given: list[float] = []

    async def send(_records: Any, *, timeout_s: float) -> None:
        given.append(timeout_s)
        raise BrokerUnavailable

    publisher: Any = SimpleNamespace(send=send)
    with pytest.raises(BrokerUnavailable):
        await Commands(publisher, "connector.commands").publish("conn", b"{}")
    assert given[0] < 2
