"""The planner between simulated workers and a simulated provider, in simulated time: one seed is one run.

Workers take offers, ask for permits, call, give back and report, as the fetch shell does; messages arrive late, workers
die or freeze, the planner moves. What must hold after every step is checked after every step.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain import lifecycle, planner
from app.domain.coverage import DataSet
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.ledger import LedgerRecord
from app.domain.messages import Accept, Answer, Ask, Event, Heartbeat, Members, Offer, Returned, StepOutcome, Tick
from app.domain.model import ConnectorFacts, Quota
from app.domain.rules import Rules
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, Rows, by_day, result_of
from app.testing.planning_checks import check_in_flight, most_within

TERMINAL_EVENTS = {
    "data_fetched": "completed",
    "fetch_failed": "failed",
    "fetch_cancelled": "cancelled",
    "data_written": "completed",
    "write_failed": "failed",
}
LONGEST_MS = 3 * 86_400_000
MOST_STEPS = 20_000
_HEARTBEAT_MS = 3_000


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances of what goes wrong: per planner step (``restart``), per step of a fetch (``drop`` to ``pause``), per
    heartbeat, return or call (the rest)."""

    restart: float = 0.0
    drop: float = 0.0
    twice: float = 0.0
    die: float = 0.0
    pause: float = 0.0
    mute: float = 0.0
    fail: float = 0.0
    throttle: float = 0.0
    cut: float = 0.0
    """A call that left and of whose end nothing is known, as when its step was cancelled."""
    refused_column: str = "forbidden"


@dataclass(slots=True)
class _Step:
    """One offered step in a worker's hands. ``left`` are the calls still to make: (charge, data)."""

    offer: Offer
    worker: str
    left: list[tuple[str, bool]]
    made: int = 0
    first_at: int | None = None
    asked: tuple[str, int] | None = None
    over: bool = False
    frozen: bool = False


@dataclass(slots=True)
class PlannerWorld:
    """State, durable rows and everybody the planner talks to. Times in ms; ``latest_ms`` bounds a message's delay."""

    rules: Rules
    seed: int
    faults: Faults = Faults()
    latest_ms: int = 40
    now: int = NOW
    rows: Rows = field(default_factory=Rows)
    events: list[Event] = field(default_factory=list)
    ledger: list[LedgerRecord] = field(default_factory=list)
    calls: list[tuple[str, ConnectorFacts, int]] = field(default_factory=list)
    """Calls as the provider saw them: (charge, connector, arrival)."""
    inbox: list[list[tuple[Any, int]]] = field(default_factory=list)
    """All that the planner was told: step by step, in order."""
    views: dict[str, str] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    granted: int = 0
    unpaid: int = 0
    """Calls of fetches whose last member had gone before they ended: nobody is left to pay for them."""
    steps: int = 0
    dead: int = 0
    state: State = field(init=False)
    _random: random.Random = field(init=False)
    _agenda: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _number: int = 0
    _due: list[Any] = field(default_factory=list)
    _held: list[_Step] = field(default_factory=list)
    _workers: list[str] = field(default_factory=lambda: ["w0", "w1"])
    _asks: dict[str, tuple[Ask, _Step]] = field(default_factory=dict)
    _polls: Counter[str] = field(default_factory=Counter)
    _versions: dict[str, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = State(self.rules, now=self.now)
        self._random = random.Random(self.seed)
        self._at(_HEARTBEAT_MS, self._beat)

    # what a test does

    def tell(self, message: Any, after_ms: int = 0) -> None:
        """Puts a message into the planner's inbox after a while."""
        self._at(after_ms, lambda: self._due.append(message))

    def run(self, *, restart_after: int | None = None) -> None:
        """Until nothing is left that could still happen. ``restart_after``: the planner moves after that step."""
        while self._advance():
            restarted = self.steps == restart_after or self._random.random() < self.faults.restart
            if restarted and self._due == []:
                self.state = restore(self.rules, self.rows.read(), self.now)
            if self.now - NOW > LONGEST_MS or self.steps > MOST_STEPS:
                raise AssertionError(f"seed {self.seed}: not done after {self.now - NOW} ms and {self.steps} steps")

    def outcomes(self) -> dict[str, str]:
        """Request id -> type of its terminal event; two of them are an error."""
        found = [(e.request_id or "", e.type) for e in self.events if e.type in TERMINAL_EVENTS]
        assert len(found) == len(dict(found)), f"seed {self.seed}: two terminal events: {found}"
        return dict(found)

    def busiest(self, rule: Quota) -> int:
        """The most calls of any scope value within any interval of the rule's period, both ends included."""
        times: dict[str, list[int]] = {}
        for charge, connector, at in self.calls:
            if charge == rule.charge:
                scope = {"application": "", "account": connector.account_id, "user": connector.subject}[rule.scope]
                times.setdefault(scope, []).append(at)
        return max((most_within(sorted(t), rule.period_ms) for t in times.values()), default=0)

    # time

    def _at(self, after_ms: int, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.now + after_ms, self._number, do))

    def _advance(self) -> bool:
        """Moves to the next instant at which something happens; False when nothing will."""
        due = planner.next_due(self.state)
        others = self._agenda[0][0] if self._busy() else None
        if due is None and others is None:
            return False
        at = min(t for t in (due, others) if t is not None)
        ticks = due is not None and at >= due
        self.now = max(self.now, at)
        while self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()
        messages, self._due = self._due, []
        if messages or ticks:
            self._step([*messages, *([Tick()] if ticks else [])])
        return True

    def _busy(self) -> bool:
        """More on the agenda than the next heartbeat, or somebody to beat for."""
        return len(self._agenda) > 1 or bool(self._held)

    def _soon(self) -> int:
        return self._random.randint(1, self.latest_ms)

    def _chance(self, of: float) -> bool:
        return of > 0 and self._random.random() < of

    # the planner

    def _step(self, messages: list[Any]) -> None:
        self.inbox.append([(m, self.now) for m in messages])
        left = {b.batch_id: b.calls for b in self.state.batches.values() if not b.members}
        changes = planner.step(self.state, self.inbox[-1])
        self.steps += 1
        ended = [n for n, c in left.items() if n not in self.state.batches or self.state.batches[n].calls < c]
        self.unpaid += sum(left[name] for name in ended)
        self.rows.write(changes)
        self._check(changes)
        self.events += changes.events
        self.ledger += changes.ledger
        self.dead += len(changes.dead)
        for offer in changes.offers:
            self._offer(offer)
        for answer in changes.answers:
            self.granted += answer.denied is None
            self._at(self._soon(), lambda a=answer: self._hear(a))  # type: ignore[misc]

    def _check(self, changes: Changes) -> None:
        state, seed = self.state, self.seed
        for name, view in changes.views.items():
            if view is not None:
                assert self.views.get(name) not in lifecycle.TERMINAL, f"seed {seed}: {name} moved after its end"
                self.views[name] = view.state
                self.cost[name] = float(view.cost or 0)
        for key, row in changes.rows.items():
            if isinstance(row, DataSet):
                self._check_versions(key, row)
        for answer in changes.answers:
            ask = self._asks[answer.ask_id][0]
            if answer.denied is None:
                batch = state.batches[ask.batch_id or ""]
                now = (batch.state, batch.epoch, batch.step_no)
                assert now == ("leased", ask.epoch, ask.step_no), f"seed {seed}: a permit for {ask}, but it is {now}"
        check_in_flight(state, f"seed {seed}")

    def _check_versions(self, key: str, data: DataSet) -> None:
        """No day goes back to an older version, and a newer version was never read earlier (R7)."""
        held = by_day(data)
        older = {d: v for d, v in self._versions.get(key, {}).items() if held.get(d, 0) < v}
        assert not older, f"seed {self.seed}: {key} lost {older}"
        self._versions[key] = held
        readings = [run.read_at for run in sorted(data.runs, key=lambda r: r.version)]
        assert readings == sorted(readings), f"seed {self.seed}: {key} has versions out of order"

    # workers

    def _offer(self, offer: Offer) -> None:
        if self._chance(self.faults.drop):
            return
        takers = 2 if self._chance(self.faults.twice) else 1
        for worker in self._random.sample(self._workers, takers):
            self._at(self._soon(), lambda w=worker: self._take(offer, w))  # type: ignore[misc]

    def _take(self, offer: Offer, worker: str) -> None:
        if worker not in self._workers:
            return
        task = _Step(offer, worker, self._calls_of(offer))
        self._held.append(task)
        if self._chance(self.faults.die):
            self._at(self._random.randint(1, 5_000), lambda: self._die(worker))
        if self._chance(self.faults.pause):
            task.frozen = True
            self._at(self._random.randint(5_000, 40_000), lambda: self._thaw(task))
        else:
            self._ask(task)

    def _calls_of(self, offer: Offer) -> list[tuple[str, bool]]:
        """What a step calls: (charge, data)."""
        return [("reports", False)] * 2 if offer.step == "start" else [("reports", True)]

    def _thaw(self, task: _Step) -> None:
        task.frozen = False
        self._ask(task)

    def _die(self, worker: str) -> None:
        """A worker ends with all it holds; another one starts. The group may or may not be told."""
        if worker not in self._workers:
            return
        for task in self._held:
            task.over = task.over or task.worker == worker
        self._held = [t for t in self._held if not t.over]
        self._number += 1
        self._workers = [w for w in self._workers if w != worker] + [f"w{self._number}"]
        if self._chance(0.5):
            self.tell(Members(tuple(self._workers)), self._soon())

    def _beat(self) -> None:
        for worker in self._workers:
            held = tuple((t.offer.batch_id, t.offer.epoch) for t in self._held if t.worker == worker and not t.frozen)
            if held and not self._chance(self.faults.mute):
                self.tell(Heartbeat(worker, held), self._soon())
        self._at(_HEARTBEAT_MS, self._beat)

    def _ask(self, task: _Step) -> None:
        if task.over:
            return
        charge, data = task.left[0]
        self._number += 1
        offer, name = task.offer, f"ask{self._number}"
        ask = Ask(name, task.worker, offer.batch_id, offer.epoch, offer.step_no, charge, data)
        task.asked = (ask.ask_id, self.now)
        self._asks[ask.ask_id] = (ask, task)
        self.tell(ask, self._soon())
        self._at(self.rules.permit_valid_ms, lambda: self._ask_again(task, ask.ask_id))

    def _ask_again(self, task: _Step, ask_id: str) -> None:
        if task.asked is not None and task.asked[0] == ask_id:
            self._ask(task)

    def _hear(self, answer: Answer) -> None:
        """An answer to an ask that is no longer waited for, or that comes too late, goes back unused."""
        ask, task = self._asks.pop(answer.ask_id)
        waited = task.asked is not None and task.asked[0] == answer.ask_id and not task.over
        if not waited or task.asked is None:
            if answer.denied is None and task.worker in self._workers:
                self._give_back(answer.ask_id)
            return
        sent, task.asked = task.asked[1], None
        if answer.denied == "stale":
            self._end(task, None)
        elif answer.denied is not None:
            after = max(200, (answer.retry_at or 0) - self.now) / 1000
            self._end(task, self._outcome(task, released=True, not_before_s=after))
        else:
            usable = sent + self.rules.permit_valid_ms - self.now
            self._at(self._random.randint(0, min(usable, self.latest_ms)), lambda: self._call(task, ask))

    def _call(self, task: _Step, ask: Ask) -> None:
        """The provider counts the call now; its answer takes a while. A dead worker calls nobody, returns nothing."""
        if task.over:
            return
        self.calls.append((ask.charge, task.offer.connector, self.now))
        task.left.pop(0)
        task.made += 1
        task.first_at = self.now if task.first_at is None else task.first_at
        took = self._random.choice([self._soon(), self._soon(), 2_000, self.rules.call_timeout_ms // 2])
        self._arrives(task.offer, ask, took)
        self._at(took, lambda: self._answered(task, ask, took))

    def _arrives(self, offer: Offer, ask: Ask, took_ms: int) -> None:
        """A call is on its way to the provider, which has done what it asks at the latest when it answers, whatever
        has become of the worker."""

    def _answered(self, task: _Step, ask: Ask, took_ms: int) -> None:
        if task.over:
            return
        muted = self._chance(self.faults.mute)
        failure = self._failure(task.offer)
        if not muted:
            end = (ask.ask_id, took_ms, 1 if failure is None else 0 if failure.system else 2)
            told = not self._chance(self.faults.cut)
            self._give_back(ask.ask_id, *([end] if told else []), left=True)
        if failure is not None:
            self._end(task, self._outcome(task, failure=failure))
        elif task.left:
            self._ask(task)
        else:
            self._end(task, self._result(task))

    def _give_back(self, ask_id: str, *ends: tuple[str, int, int], left: bool = False) -> None:
        self.tell(Returned((ask_id,), ends, (ask_id,) if left else ()), self._soon())

    def _end(self, task: _Step, outcome: StepOutcome | None) -> None:
        task.over = True
        self._held = [t for t in self._held if t is not task]
        if outcome is not None:
            self.tell(outcome, 30_000 if self._chance(self.faults.pause) else self._soon())

    # the provider

    def _failure(self, offer: Offer) -> Failure | None:
        if self.faults.refused_column in offer.fields:
            return Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "A column cannot be had.", retryable=False)
        if self._chance(self.faults.throttle):
            throttle = Throttle(None, self._random.choice([None, 2.0]))
            return Failure(ErrorClass.QUOTA, "rate_limited", "Not now.", retryable=True, throttle=throttle)
        if self._chance(self.faults.fail):
            return self._random.choice(FAILURES)
        return None

    def _result(self, task: _Step) -> StepOutcome:
        offer = task.offer
        run = f"{offer.batch_id}-{offer.run}"
        self._polls[run] += 1
        if offer.step == "start" or (self._polls[run] < 4 and self._chance(0.3)):
            return self._outcome(task, remote={"report": run}, percent=self._random.choice([None, 50]))
        return self._outcome(task, file=result_of(offer, reading=run))

    def _outcome(self, task: _Step, **what: Any) -> StepOutcome:
        offer = task.offer
        base = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, task.worker, task.made)
        return replace(base, first_call_at=task.first_at, ended_at=self.now, **what)


FAILURES = (
    Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True),
    Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, retry_after_s=90.0, system=True),
    Failure(ErrorClass.PROVIDER_RESPONSE, "report_failed", "The report failed.", retryable=True, remote_lost=True),
    Failure(ErrorClass.NOT_FOUND, "account_unknown", "No such account.", retryable=False),
    Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "Refused as it stands.", retryable=False),
    Failure(ErrorClass.INTERNAL, "internal", "the step broke", retryable=True),
)


def commands(accepts: list[Accept], draw: random.Random) -> Iterator[tuple[Accept, int]]:
    """The accepts with delays of up to a minute, some of them sent again later."""
    for message in accepts:
        at = draw.randint(0, 60_000)
        yield message, at
        if draw.random() < 0.3:
            yield message, at + draw.randint(0, 600_000)
