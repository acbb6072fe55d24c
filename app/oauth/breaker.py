"""The circuit breaker around a token endpoint: aiobreaker, with its states replaced.

What the library (1.2.0) does otherwise, each with a test: one success closes; a half-open circuit lets everybody
through; times are naive, wrong outside UTC, and made by a call that newer Pythons deprecate; an excluded exception
counts as a success; the call that trips the circuit raises the library's error in place of its own; its shared storage
blocks the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

import aiobreaker
from aiobreaker.state import CircuitBreakerBaseState

from app.ports import Clock

T = TypeVar("T")
State = aiobreaker.CircuitBreakerState


class CircuitOpen(Exception):
    """Not called: the circuit is open. ``retry_in_s`` seconds until it is worth asking again."""

    def __init__(self, name: str, retry_in_s: float) -> None:
        super().__init__(f"the circuit to {name} is open")
        self.retry_in_s = retry_in_s


class Breaker(aiobreaker.CircuitBreaker):  # type: ignore[misc]
    """Opens after ``failure_threshold`` failures in a row, lets one trial at a time through after ``recovery_s``,
    closes after ``success_threshold`` successful trials in a row. ``neutral`` exceptions count neither way.

    Lives in one process and one event loop: there is no shared storage, on purpose.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        failure_threshold: int = 5,
        recovery_s: float = 30.0,
        success_threshold: int = 2,
        neutral: Collection[type[Exception]] = (),
    ) -> None:
        self.clock = clock
        self.success_threshold = success_threshold
        self.opened_at_s = 0.0
        super().__init__(
            fail_max=failure_threshold, timeout_duration=timedelta(seconds=recovery_s), exclude=neutral, name=name
        )

    async def guard(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, or its own exception; ``CircuitOpen`` when it was not called."""
        result: T = await self.call_async(work)
        return result

    @property
    def retry_in_s(self) -> float:
        """Seconds until an open circuit lets a trial through; 0 when it would now."""
        left = self.opened_at_s + self.timeout_duration.total_seconds() - self.clock.monotonic()
        return max(0.0, left) if self.current_state is State.OPEN else 0.0

    @property
    def opens_at(self) -> datetime | None:
        """When an open circuit lets a trial through (aware, UTC); None when it would now."""
        left = self.retry_in_s
        return datetime.fromtimestamp(self.clock.now() / 1000 + left, UTC) if left else None

    def open(self) -> None:
        """Opens the circuit from now on."""
        self.opened_at_s = self.clock.monotonic()
        self.state = self._state_storage.state = State.OPEN

    def _create_new_state(self, new_state: Any, prev_state: Any = None, notify: Any = False) -> CircuitBreakerBaseState:
        return _STATES[new_state](self, prev_state, bool(notify))


class _OwnState(CircuitBreakerBaseState):  # type: ignore[misc]
    """What all three states share: excluded exceptions count neither way, and nobody's exception is replaced."""

    kind: Any = None

    def __init__(self, breaker: Breaker, previous: Any, notify: bool) -> None:
        super().__init__(breaker, self.kind)
        if notify:
            for listener in breaker.listeners:
                listener.state_change(breaker, previous, self)

    def _handle_error(self, func: Any, exception: Exception) -> NoReturn:
        if self._breaker.is_system_error(exception):
            super()._handle_error(func, exception)
        raise exception


class _Closed(_OwnState):
    kind = State.CLOSED

    def __init__(self, breaker: Breaker, previous: Any, notify: bool) -> None:
        super().__init__(breaker, previous, notify)
        if notify:
            breaker._state_storage.reset_counter()  # noqa: SLF001 - the library's own base does the same

    def on_failure(self, exception: Exception) -> None:
        del exception
        # A call that began before the circuit opened may fail after it: it must not open it anew.
        if self._breaker.current_state is State.CLOSED and self._breaker.fail_counter >= self._breaker.fail_max:
            self._breaker.open()


class _Open(_OwnState):
    kind = State.OPEN

    async def call_async(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        left = self._breaker.retry_in_s
        if left > 0:
            raise CircuitOpen(self._breaker.name, left)
        self._breaker.half_open()
        return await self._breaker.call_async(func, *args, **kwargs)


class _HalfOpen(_OwnState):
    kind = State.HALF_OPEN

    def __init__(self, breaker: Breaker, previous: Any, notify: bool) -> None:
        super().__init__(breaker, previous, notify)
        self._trial_out = False
        self._successes = 0

    async def call_async(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        if self._trial_out:
            raise CircuitOpen(self._breaker.name, 1.0)
        self._trial_out = True
        try:
            return await super().call_async(func, *args, **kwargs)
        finally:
            self._trial_out = False

    def on_success(self) -> None:
        self._successes += 1
        if self._successes >= self._breaker.success_threshold:
            self._breaker.close()

    def on_failure(self, exception: Exception) -> None:
        del exception
        self._breaker.open()


_STATES: dict[Any, type[_OwnState]] = {State.CLOSED: _Closed, State.OPEN: _Open, State.HALF_OPEN: _HalfOpen}
