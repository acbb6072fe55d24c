"""Polls and new reports share one bucket: neither starves the other, however many reports wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.domain.messages import Ask, Offer, StepOutcome
from app.testing.planning import NOW, TODAY, accept, facts, quota, result_of, rules
from app.testing.planning_world import Faults, PlannerWorld

PER_SECOND = quota("per_second", 4, 1_000)
MINUTES = 6


@dataclass
class Reports(PlannerWorld):
    """A provider whose reports take ``takes_ms``; counts calls by (minute, step) and how late polls come."""

    takes_ms: int = 0
    born: dict[str, int] = field(default_factory=dict)
    made: Counter[tuple[int, str]] = field(default_factory=Counter)
    late_ms: list[int] = field(default_factory=list)
    due_at: dict[str, int] = field(default_factory=dict)

    def _call(self, task: Any, ask: Ask) -> None:
        self.made[(self.now - NOW) // 60_000, task.offer.step] += 1
        super()._call(task, ask)

    def _offer(self, offer: Offer) -> None:
        if offer.step == "poll":
            self.late_ms.append(self.now - self.due_at[offer.batch_id])
        super()._offer(offer)

    def _result(self, task: Any) -> StepOutcome:
        offer = task.offer
        born = self.born.setdefault(offer.batch_id, self.now)
        if offer.step == "poll" and self.now - born >= self.takes_ms:
            return self._outcome(task, file=result_of(offer))
        return self._outcome(task, remote={"report": offer.batch_id})

    def run_for(self, minutes: int) -> None:
        """Not to the end of all that is queued."""
        while self.now < NOW + minutes * 60_000 and self._advance():
            for batch in self.state.batches.values():
                if batch.state == "remote":
                    self.due_at[batch.batch_id] = batch.not_before

    def calls_of(self, step: str) -> int:
        """Over the last minutes."""
        return sum(self.made[minute, step] for minute in range(2, MINUTES))


def reports(takes_ms: int, polls_s: float, **changes: Any) -> Reports:
    known = rules((PER_SECOND,), polls_s=(polls_s,), call_timeout_ms=1_000, max_concurrent=10, **changes)
    world = Reports(known, 1, Faults(), takes_ms=takes_ms)
    for number in range(1, 450):
        world.tell(accept(number, TODAY, TODAY, connector=facts(number)))
    return world


def test_however_many_reports_wait_new_ones_have_their_half() -> None:
    """A slot is held for a period and the response, which takes 0.65 s here: 2.4 calls a second is all there is."""
    world = reports(60 * 60_000, polls_s=2.0)
    world.run_for(MINUTES)
    starts, polls = world.calls_of("start"), world.calls_of("poll")
    assert starts + polls >= 2.3 * 60 * (MINUTES - 2), "none of the quota is left unused"
    assert min(starts, polls) >= 0.4 * (starts + polls)


def test_however_many_are_queued_polls_come_when_they_are_due() -> None:
    world = reports(120_000, polls_s=30.0)
    world.run_for(MINUTES)
    assert len(world.late_ms) > 200
    assert max(world.late_ms) <= 1_000
    assert len([e for e in world.events if e.type == "data_fetched"]) > 50
