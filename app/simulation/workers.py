"""The workers of one connector type and the provider's answers: takes offers, asks, calls, gives back, reports.

The order within a step is the fetch shell's: ask, wait for the answer, call, give the permit back, next call, outcome.
A worker that hears of no answer asks again when the permit could no longer be used; an answer to the earlier ask is
then given back unused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Answer, Ask, Heartbeat, Offer, Returned, StepOutcome, StoredFile
from app.domain.rules import Rules
from app.simulation.measures import Measures
from app.simulation.provider import Provider
from app.simulation.scenario import Outage, Scenario
from app.simulation.setup import Call, Steps
from app.simulation.timeline import MS, Timeline

SHORTEST_WAIT_MS = 200
"""A worker hands a step back for at least this long, whatever time it was told."""


@dataclass(slots=True, eq=False)
class Task:
    """One offered step in a worker's hands. ``left``: calls still to make; ``ready_at``: the report is made (ms)."""

    offer: Offer
    worker: str
    left: deque[Call]
    ready_at: int
    made: int = 0
    first_at: int | None = None
    ask: Ask | None = None
    asked_at: int = 0
    granted_at: int = 0
    data: bool = False


@dataclass(slots=True)
class Crew:
    """All workers of one connector type. ``held``: the steps in their hands, by worker."""

    line: Timeline
    scenario: Scenario
    name: str
    steps: Steps
    provider: Provider
    measures: Measures
    rules: Rules
    begins_at: int
    tell: Callable[[Any], None] = field(init=False)
    """Appends a message to the planner's inbox now."""
    held: dict[str, dict[int, Task]] = field(default_factory=dict)
    granted: int = 0
    unused: int = 0
    _asks: dict[str, Task] = field(default_factory=dict)
    _taken: int = 0
    _number: int = 0
    _beating: bool = False

    def durable(self, offers: list[Offer], answers: list[Answer], granted_at: int) -> None:
        """A step of the planner is durable: what it decided goes to the workers."""
        line, span = self.line, self.scenario.delays.to_worker
        for offer in offers:
            self._taken += 1
            worker = f"worker-{self._taken % self.scenario.workers}"
            line.after(span, self._take, offer, worker)
        for answer in answers:
            self.granted += answer.denied is None
            line.after(span, self._hear, answer, granted_at)

    def _take(self, offer: Offer, worker: str) -> None:
        calls = self.steps.start if offer.step == "start" else self.steps.poll
        ready_at = int((offer.remote or {}).get("ready_at", 0))
        task = Task(offer, worker, deque(calls), ready_at)
        self.held.setdefault(worker, {})[id(task)] = task
        if not self._beating:
            self._beating = True
            self.line.at(self.line.now + int(self.scenario.heartbeat * MS), self._beat)
        self._ask(task)

    def _beat(self) -> None:
        for worker, tasks in self.held.items():
            if tasks:
                held = tuple((task.offer.batch_id, task.offer.epoch) for task in tasks.values())
                self._tell(Heartbeat(worker, held))
        self._beating = bool(self.held)
        if self._beating:
            self.line.at(self.line.now + int(self.scenario.heartbeat * MS), self._beat)

    def _tell(self, message: Any) -> None:
        self.line.after(self.scenario.delays.to_planner, self.tell, message)

    # permits

    def _ask(self, task: Task) -> None:
        charge, task.data = task.left[0]
        self._number += 1
        offer = task.offer
        ask = Ask(f"{self._number:032x}", task.worker, offer.batch_id, offer.epoch, offer.step_no, charge, task.data)
        task.ask, task.asked_at = ask, self.line.now
        self._asks[ask.ask_id] = task
        self._tell(ask)
        self.line.at(self.line.now + self.rules.permit_valid_ms, self._ask_again, task, ask)

    def _ask_again(self, task: Task, ask: Ask) -> None:
        if task.ask is ask:
            # An answer may be under way; the planner forgets an ask that is as old as that.
            self.line.at(self.line.now + self.rules.permit_valid_ms, self._asks.pop, ask.ask_id, None)
            self._ask(task)

    def _hear(self, answer: Answer, granted_at: int) -> None:
        task = self._asks.pop(answer.ask_id, None)
        ask = None if task is None else task.ask
        if task is None or ask is None or ask.ask_id != answer.ask_id:
            if answer.denied is None:
                self._give_back(answer.ask_id, None)
            return
        task.ask = None
        if answer.denied is None:
            self._depart(task, ask, granted_at)
        elif answer.denied == "quota":
            wait_ms = max(SHORTEST_WAIT_MS, (answer.retry_at or 0) - self.line.now)
            self._end(task, released=True, not_before_s=wait_ms / MS)
        else:
            self._drop(task)

    def _depart(self, task: Task, ask: Ask, granted_at: int) -> None:
        """Sends the call, unless its permit would be stale by the time it leaves."""
        task.granted_at = granted_at
        arrives_at = self.line.now + self.line.between(self.scenario.delays.to_provider)
        if arrives_at > task.asked_at + self.rules.permit_valid_ms:
            self._give_back(ask.ask_id, None)
            self._ask(task)
        else:
            self.line.at(arrives_at, self._arrive, task, ask)

    def _give_back(self, ask_id: str, ended: tuple[int, bool] | None) -> int:
        """Tells that a permit's call has ended, or was never made; when the planner's inbox has it (ms)."""
        self.unused += ended is None
        ends = () if ended is None else ((ask_id, ended[0], int(ended[1])),)
        at = self.line.now + self.line.between(self.scenario.delays.returned)
        self.line.at(at, self.tell, Returned((ask_id,), ends))
        return at

    # calls

    def _arrive(self, task: Task, ask: Ask) -> None:
        """The provider counts the call now; its answer takes a while."""
        line, spec = self.line, self.scenario.connectors[self.name]
        task.left.popleft()
        task.made += 1
        if task.first_at is None:
            task.first_at = line.now
        exceeded = self.provider.arrive(ask.charge, task.offer.connector, line.now)
        download = self.steps.polls and ask.charge == self.steps.download[0][0]
        took_ms = max(1, line.lasting(spec.download if download else spec.response))
        took_ms = min(took_ms, self.rules.call_timeout_ms)
        self.measures.called(task.offer, ask, counted=not download)
        failure = _over(exceeded) if exceeded is not None else self._outage(line.now)
        if ask.data and failure is None:
            task.ready_at = line.now + took_ms + line.lasting(spec.preparation)
        line.at(line.now + took_ms, self._answered, task, ask, took_ms, failure)

    def _outage(self, now: int) -> Failure | None:
        for outage in self.scenario.outages:
            if outage.connector == self.name and outage.begins * MS <= now - self.begins_at < outage.ends * MS:
                return _failure(outage)
        return None

    def _answered(self, task: Task, ask: Ask, took_ms: int, failure: Failure | None) -> None:
        held_ms = self._give_back(ask.ask_id, (took_ms, failure is None or not failure.system)) - task.granted_at
        if ask.charge != self.steps.download[0][0]:
            self.measures.answered(self.name, took_ms, held_ms)
        if failure is not None:
            self._end(task, failure=failure)
            return
        if not task.left and task.offer.step != "start" and ask.charge == self.steps.poll[-1][0]:
            if self.line.now < task.ready_at:
                self._end(task, remote=dict(task.offer.remote or {}))
                return
            task.left.extend(self.steps.download)
        if task.left:
            self._ask(task)
        elif self.steps.polls and task.offer.step == "start":
            self._end(task, remote={"ready_at": str(task.ready_at)})
        else:
            self._end(task, file=_file(task.offer))

    def _end(self, task: Task, **what: Any) -> None:
        self._drop(task)
        offer = task.offer
        self._tell(
            StepOutcome(
                offer.batch_id, offer.epoch, offer.step_no, task.worker, task.made,
                first_call_at=task.first_at, ended_at=self.line.now, **what,
            )
        )  # fmt: skip

    def _drop(self, task: Task) -> None:
        mine = self.held[task.worker]
        mine.pop(id(task), None)
        if not mine:
            del self.held[task.worker]


def _over(quota: str) -> Failure:
    text = f"the provider refused the call: {quota} is exceeded"
    return Failure(ErrorClass.QUOTA, "rate_limited", text, retryable=True, throttle=Throttle(quota))


def _failure(outage: Outage) -> Failure:
    if outage.kind == "throttle":
        throttle = Throttle(None, outage.retry_after)
        return Failure(ErrorClass.QUOTA, "rate_limited", "Not now.", retryable=True, throttle=throttle)
    return Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)


def _file(offer: Offer) -> StoredFile:
    days = _days(offer.start, offer.end)
    uri = f"file:///{offer.batch_id}-{offer.run}.parquet"
    return StoredFile(uri, offer.start, offer.end, len(days), 1_000 * len(days), "sha256:00", days, {})


@lru_cache(maxsize=10_000)
def _days(start: int, end: int) -> tuple[tuple[int, int, str], ...]:
    return tuple((day, 1, f"{day:016x}") for day in range(start, end + 1))
