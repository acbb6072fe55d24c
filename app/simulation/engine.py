"""Simulated time: a heap of what will happen, and one planner for each connector type.

A planner takes all messages that came while its last step was being made durable, as the worker's does; what a step
decides leaves when it is durable. Everything else is ``workers`` and ``provider``.
"""

from __future__ import annotations

import gc
import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain import planner
from app.domain.messages import Tick
from app.domain.state import State
from app.simulation.measures import Measures
from app.simulation.provider import Provider
from app.simulation.scenario import Scenario
from app.simulation.setup import Declared, organisations_of, rules_of, steps_of
from app.simulation.timeline import MS, Timeline, lasting_ms
from app.simulation.workers import Crew
from app.simulation.workload import Order, Workload

Progress = Callable[[float, int, int], None]
"""Share of the simulated time that has passed, commands sent, commands ended."""

SAMPLES = 240
"""Points of every plot over time."""
_TELL_EVERY = 20_000


@dataclass(slots=True)
class Desk:
    """The planner of one connector type."""

    name: str
    state: State
    line: Timeline
    step_ms: int
    measures: Measures
    crew: Crew
    inbox: list[tuple[Any, int]] = field(default_factory=list)
    steps: int = 0
    _wakes_at: int | None = None
    _free_at: int = 0

    def tell(self, message: Any) -> None:
        """A message is appended to the inbox now."""
        self.inbox.append((message, self.line.now))
        self._wake(self._free_at)

    def _wake(self, at: int) -> None:
        at = max(at, self.line.now)
        if self._wakes_at is None or at < self._wakes_at:
            self._wakes_at = at
            self.line.at(at, self._run, at)

    def _run(self, at: int) -> None:
        if at != self._wakes_at:
            return  # an earlier wake came between
        self._wakes_at = None
        now, due = self.line.now, planner.next_due(self.state)
        messages = self.inbox
        self.inbox = []
        if due is not None and due <= now:
            messages.append((Tick(), now))
        if messages:
            self._step(messages)
        due = planner.next_due(self.state)
        if due is not None:
            self._wake(max(due, self._free_at))

    def _step(self, messages: list[tuple[Any, int]]) -> None:
        state, line = self.state, self.line
        changes = planner.step(state, messages)
        self.steps += 1
        self._free_at = line.now + self.step_ms
        waits, provider = state.queued > 0, self.crew.provider
        if waits != (provider.waiting_since is not None):
            provider.demand(line.now, waits=waits)
        self.measures.seen(changes)
        if changes.offers or changes.answers:
            # The planner stamps a permit with its own now; what leaves has to wait until the step is durable.
            line.at(self._free_at, self.crew.durable, changes.offers, changes.answers, state.now)


class Simulation:
    """One run of a scenario. ``run`` once; what came of it is in ``measures`` and the desks' providers."""

    def __init__(self, scenario: Scenario, known: Declared) -> None:
        self.scenario = scenario
        self.rules = rules_of(scenario, known)
        self.begins_at = int(scenario.starts_at.timestamp() * MS)
        self.ends_at = self.begins_at + int(scenario.duration * MS)
        self.line = Timeline(self.begins_at, random.Random(f"{scenario.seed}|world"))
        self.orgs = organisations_of(scenario)
        self.workload = Workload(scenario, self.orgs, known.catalogue, self.begins_at)
        self.measures = Measures(scenario.seed, self.begins_at, self.orgs)
        self.measures.on_end(self._after)
        self.desks: dict[str, Desk] = {}
        self._naive = random.Random(f"{scenario.seed}|naive")
        self._orders = self.workload.orders()
        self._coming: Order | None = None
        for name in scenario.connectors:
            self._open_desk(name)

    def run(self, progress: Progress = lambda _share, _sent, _ended: None) -> None:
        """Until all commands ended, or the time given to them is over."""
        last = self.ends_at + int(self.scenario.drain * MS)
        line, entries, measures = self.line, self.line.entries, self.measures
        self._next_order()
        every_ms = max(1, (self.ends_at - self.begins_at) // SAMPLES)
        line.at(self.begins_at + every_ms, self._sample, every_ms)
        happened = 0
        with _few_collections():
            while entries and entries[0][0] <= last:
                line.now, _, do, what = heapq.heappop(entries)
                do(*what)
                happened += 1
                if happened % _TELL_EVERY == 0:
                    progress(self._share(), self.workload.sent, measures.ended)
                if self._coming is None and not measures.open and self._idle():
                    break
        for desk in self.desks.values():
            desk.crew.provider.close(line.now)
        progress(1.0, self.workload.sent, measures.ended)

    def _share(self) -> float:
        whole = self.ends_at - self.begins_at
        return min(1.0, (self.line.now - self.begins_at) / whole)

    def _idle(self) -> bool:
        return not any(desk.crew.held or desk.inbox for desk in self.desks.values())

    def _open_desk(self, name: str) -> None:
        rules = self.rules.connectors[name]
        own = replace(self.rules, connectors={name: rules})
        crew = Crew(
            line=self.line, scenario=self.scenario, name=name, steps=steps_of(rules), provider=Provider(rules.quotas),
            measures=self.measures, rules=own, begins_at=self.begins_at,
        )  # fmt: skip
        step_ms = max(1, int(self.scenario.delays.step * MS))
        desk = Desk(name, State(own, now=self.begins_at), self.line, step_ms, self.measures, crew)
        crew.tell = desk.tell
        self.desks[name] = desk
        self.measures.open_type(name)

    # commands

    def _next_order(self) -> None:
        self._coming = next(self._orders, None)
        if self._coming is not None:
            self.line.at(self._coming.at, self._send_coming)

    def _send_coming(self) -> None:
        order = self._coming
        assert order is not None
        self._send(order)
        self._next_order()

    def _send(self, order: Order) -> None:
        accept = self.workload.accept(order)
        kind = order.connector.connector_type
        desk = self.desks[kind]
        self.measures.sent(accept, order.stream, self._calls_alone(desk))
        self.line.after(self.scenario.delays.to_planner, desk.tell, accept)

    def _after(self, stream: int, org_id: int, kind: str) -> None:
        """A command ended: a closed stream sends the next one."""
        order = self.workload.next_after(stream, org_id, kind, self.line.now)
        if order is not None:
            self.line.at(self.line.now, self._send, order)

    def _calls_alone(self, desk: Desk) -> int:
        """Calls that a client makes for one command by itself: no merging, no reuse, the same polling."""
        steps, spec = desk.crew.steps, self.scenario.connectors[desk.name]
        if not steps.polls:
            return len(steps.start)
        left = lasting_ms(spec.preparation, self._naive)
        schedule = self.rules.connectors[desk.name].poll_schedule_s
        for polls, span_s in enumerate(schedule[:-1], 1):
            left -= int(span_s * MS)
            if left <= 0:
                return len(steps.start) + polls
        # In one go: a report of years, asked for every moment, must not be counted poll by poll.
        last_ms = max(1, int(schedule[-1] * MS))
        return len(steps.start) + len(schedule) - 1 + max(1, -(-left // last_ms))

    # plots

    def _sample(self, every_ms: int) -> None:
        for name, desk in self.desks.items():
            state = desk.state
            remote = sum(batch.state == "remote" for batch in state.batches.values())
            counted = {key: use.calls for key, use in desk.crew.provider.uses.items()}
            self.measures.sample(name, self.line.now, state.queued, len(state.leases), remote, counted)
        if self.measures.open or self._coming is not None:
            self.line.at(self.line.now + every_ms, self._sample, every_ms)


@contextmanager
def _few_collections() -> Iterator[None]:
    """The cyclic collector walks all that lives again and again; nearly nothing here is in cycles."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
