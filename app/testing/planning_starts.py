"""The planner with workers that are always there and a provider that always answers: who starts when, nothing else.

Every offer ends with its data ``service_ms`` after it was made. No calls are asked for unless a test asks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.domain import planner
from app.domain.messages import Accept, Offer, StepOutcome, Tick
from app.domain.rules import Rules
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, result_of


@dataclass(frozen=True, slots=True)
class Start:
    """A fetch that began at ``at``; ``request_id`` is its first member, ``priority_class`` the batch's own."""

    at: int
    request_id: str
    batch_id: str
    org_id: int
    priority_class: int


@dataclass(slots=True)
class Starts:
    """A planner in simulated time (ms). ``log``: all that started; ``more``: called before every step of ``run`` for
    messages to put before it, such as an endless backlog; ``durable``: rows are written, so that it may ``move``."""

    rules: Rules
    service_ms: int = 1_000
    now: int = NOW
    more: Callable[[], list[Any]] = list
    durable: bool = False
    log: list[Start] = field(default_factory=list)
    rows: Rows = field(default_factory=Rows)
    state: State = field(init=False)
    _ends: list[tuple[int, int, Offer]] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.state = State(self.rules, now=self.now)

    def request(self, org_id: int, priority_class: int, **connector: Any) -> Accept:
        """A request for one day of a connector of its own, so that it merges with nothing; its account is its own
        unless one is named."""
        self._number += 1
        number = self._number
        given = {"account_id": f"acc{number}", "subject": f"user{org_id}"} | connector
        who = facts(number, org_id=org_id, **given)
        return accept(
            number, TODAY - 30, TODAY - 30, connector=who, priority_class=priority_class, accepted_at=self.now
        )

    def requests(self, count: int, org_id: int, priority_class: int, **connector: Any) -> list[Accept]:
        """Several of them."""
        return [self.request(org_id, priority_class, **connector) for _ in range(count)]

    def take(self, *messages: Any, at: int | None = None) -> Changes:
        """One step over messages that arrive together; a tick if there are none."""
        self.now = self.now if at is None else at
        changes = planner.step(self.state, [(m, self.now) for m in messages or (Tick(),)])
        if self.durable:
            self.rows.write(changes)
        for offer in changes.offers:
            first = self.state.batches[offer.batch_id].members[0]
            self.log.append(Start(self.now, first, offer.batch_id, offer.connector.org_id, offer.priority_class))
            self._number += 1
            heapq.heappush(self._ends, (self.now + self.service_ms, self._number, offer))
        return changes

    def run(self, *, starts: int | None = None, until: int | None = None) -> None:
        """Until so many fetches have started in all, or until a time, or until nothing will happen any more."""
        while (starts is None or len(self.log) < starts) and (at := self.next_at()) is not None:
            if until is not None and at > until:
                self.now = until
                return
            self.take(*self.ended(at), *self.more(), at=at)

    def next_at(self) -> int | None:
        """When something happens next: a fetch ends, or the planner wants to be woken."""
        due = planner.next_due(self.state)
        times = [] if due is None else [max(due, self.now)]
        return min([*times, *(end for end, _, _ in self._ends[:1])], default=None)

    def ended(self, at: int) -> Iterator[StepOutcome]:
        """The outcomes of all fetches that end by then."""
        while self._ends and self._ends[0][0] <= at:
            offer = heapq.heappop(self._ends)[2]
            yield StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 0, file=result_of(offer))

    def move(self) -> None:
        """The planner moves: memory is lost, rows are read back."""
        self.state = restore(self.rules, self.rows.read(), self.now)
