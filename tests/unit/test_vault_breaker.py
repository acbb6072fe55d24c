"""The circuit around a token endpoint: its rules, and each thing the library does otherwise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from app.oauth.breaker import Breaker, CircuitOpen, State


class FakeClock:
    """Wall and monotonic time that move only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> int:
        return int((1_700_000_000 + self.seconds) * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Broken(Exception):
    """What the guarded call raises."""


class Neutral(Exception):
    """What says nothing about the server."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> Breaker:
    return Breaker("it", clock, failure_threshold=3, recovery_s=30, success_threshold=2, neutral=(Neutral,))


async def good() -> str:
    return "good"


async def bad() -> str:
    raise Broken


async def neutral() -> str:
    raise Neutral


async def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Broken):
            await breaker.guard(bad)


async def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    await fail(breaker, 2)
    assert await breaker.guard(good) == "good"
    await fail(breaker, 2)
    assert breaker.current_state is State.CLOSED
    await fail(breaker, 1)
    assert breaker.current_state is State.OPEN
    with pytest.raises(CircuitOpen) as caught:
        await breaker.guard(good)
    assert caught.value.retry_in_s == 30


async def test_the_call_that_trips_it_keeps_its_own_error(breaker: Breaker) -> None:
    await fail(breaker, 3)
    assert breaker.current_state is State.OPEN


async def test_one_success_does_not_close_it(breaker: Breaker, clock: FakeClock) -> None:
    await fail(breaker, 3)
    clock.seconds += 30
    await breaker.guard(good)
    assert breaker.current_state is State.HALF_OPEN
    await breaker.guard(good)
    assert breaker.current_state is State.CLOSED


async def test_a_failed_trial_opens_it_anew_with_its_own_error(breaker: Breaker, clock: FakeClock) -> None:
    await fail(breaker, 3)
    clock.seconds += 30
    await breaker.guard(good)
    await fail(breaker, 1)
    assert breaker.retry_in_s == 30
    clock.seconds += 30
    await breaker.guard(good)
    assert breaker.current_state is State.HALF_OPEN


async def test_one_trial_at_a_time(breaker: Breaker, clock: FakeClock) -> None:
    await fail(breaker, 3)
    clock.seconds += 30
    running, calls = asyncio.Event(), 0

    async def slow() -> str:
        nonlocal calls
        calls += 1
        await running.wait()
        return "good"

    first = asyncio.create_task(breaker.guard(slow))
    await asyncio.sleep(0)
    others = await asyncio.gather(*[breaker.guard(slow) for _ in range(99)], return_exceptions=True)
    assert all(isinstance(other, CircuitOpen) for other in others)
    running.set()
    assert await first == "good"
    assert calls == 1


async def test_a_cancelled_trial_gives_its_permit_back(breaker: Breaker, clock: FakeClock) -> None:
    await fail(breaker, 3)
    clock.seconds += 30
    trial = asyncio.create_task(breaker.guard(asyncio.Event().wait))
    await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert await breaker.guard(good) == "good"


async def test_neutral_errors_count_neither_way(breaker: Breaker, clock: FakeClock) -> None:
    await fail(breaker, 2)
    with pytest.raises(Neutral):
        await breaker.guard(neutral)
    await fail(breaker, 1)
    assert breaker.current_state is State.OPEN
    clock.seconds += 30
    for _ in range(5):
        with pytest.raises(Neutral):
            await breaker.guard(neutral)
    assert breaker.current_state is State.HALF_OPEN


async def test_times_are_aware_and_its_clock_is_the_given_one(breaker: Breaker, clock: FakeClock) -> None:
    assert breaker.opens_at is None
    await fail(breaker, 3)
    assert breaker.opens_at == datetime.fromtimestamp(clock.now() / 1000 + 30, UTC)
    clock.seconds += 30
    assert breaker.opens_at is None


async def test_a_call_from_before_does_not_open_it_anew(breaker: Breaker, clock: FakeClock) -> None:
    gate = asyncio.Event()

    async def late() -> str:
        await gate.wait()
        raise Broken

    old = asyncio.create_task(breaker.guard(late))
    await asyncio.sleep(0)
    await fail(breaker, 3)
    clock.seconds += 10
    gate.set()
    with pytest.raises(Broken):
        await old
    assert breaker.retry_in_s == 20


def test_no_shared_storage_can_be_given(clock: FakeClock) -> None:
    with pytest.raises(TypeError):
        Breaker("it", clock, state_storage=object())  # type: ignore[call-arg]
