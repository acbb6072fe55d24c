"""One worker's part against the planner's step, a message at a time: for tests that tell a story of one account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from app.domain import breaker, planner
from app.domain.breaker import CLOSED, Circuit, Phase
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Answer, Ask, Event, Offer, Returned, StepOutcome, Tick
from app.domain.retry import RetryPolicy
from app.domain.rows import Batch
from app.domain.rules import Rules
from app.domain.state import Changes, State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, rules, take

WIDE = quota("per_minute", 1_000, 60_000)
FAILED, OK, NEUTRAL = 0, 1, 2
"""Third number of a call's end (``messages.Returned``)."""
ACCOUNT = facts().account_id
DOWN = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)
RECOVERY_MS = 30_000
LIFETIME_MS = 130_000
"""How long after its grant a call that a quota counts has ended at the latest."""


def wide(**changes: Any) -> Rules:
    """Rules under which nothing but the breaker keeps anybody, and no lease runs out."""
    given: dict[str, Any] = {"max_concurrent": 20, "retry": RetryPolicy(3, 2.0, 20.0), "lease_ms": 10**9}
    return rules([WIDE], **(given | changes))


@dataclass
class Play:
    """A planner and one worker's part, a message at a time; everything durable is kept."""

    rule: Rules = field(default_factory=wide)
    state: State = field(init=False)
    rows: Rows = field(default_factory=Rows)
    events: list[Event] = field(default_factory=list)
    offers: dict[str, Offer] = field(default_factory=dict)
    """Newest offer by batch."""
    asked: int = 0

    def __post_init__(self) -> None:
        self.state = State(self.rule, now=NOW)

    def tell(self, *messages: Any, after_ms: int = 0) -> Changes:
        changes = take(self.state, *(messages or (Tick(),)), at=self.state.now + after_ms)
        self.rows.write(changes)
        self.events += changes.events
        self.offers |= {o.batch_id: o for o in changes.offers}
        return changes

    def wait(self, ms: int) -> Changes:
        """Only as far as the planner asks to be woken, again and again, while leases are kept alive."""
        until, last = self.state.now + ms, Changes()
        while self.state.now < until:
            due = planner.next_due(self.state)
            last = self.tell(
                after_ms=min(until, until if due is None else max(due, self.state.now + 1)) - self.state.now
            )
        return last

    def move(self) -> None:
        """Another owner takes over."""
        self.state = restore(self.rule, self.rows.read(), self.state.now)
        self.tell()

    def ask(self, offer: Offer, charge: str = "reports") -> Answer | None:
        """The answer to one ask; None while there is none."""
        self.asked += 1
        name = f"ask{self.asked}"
        ask = Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, charge)
        return next((a for a in self.tell(ask).answers if a.ask_id == name), None)

    def granted(self, offer: Offer, charge: str = "reports") -> str:
        answer = self.ask(offer, charge)
        assert answer is not None, "no answer"
        assert answer.denied is None, answer
        return answer.ask_id

    def end(self, ask_id: str, verdict: int | None, code: str = "http_503") -> Changes:
        if verdict is None:
            return self.tell(Returned((ask_id,)))
        errors = ((ask_id, code),) if verdict == FAILED else ()
        return self.tell(Returned((ask_id,), ((ask_id, 10, verdict),), errors=errors))

    def call(self, offer: Offer, verdict: int | None) -> str:
        ask_id = self.granted(offer)
        self.end(ask_id, verdict)
        return ask_id

    def hand_back(self, offer: Offer, **what: Any) -> Changes:
        given: dict[str, Any] = what or {"released": True, "not_before_s": 5.0}
        return self.tell(StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **given))

    @property
    def circuit(self) -> Circuit:
        return self.state.circuits.get(ACCOUNT, CLOSED)

    def phase(self) -> Phase:
        return breaker.phase(self.circuit, self.state.now)

    def batch(self, offer: Offer) -> Batch:
        return self.state.batches[offer.batch_id]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [e.data for e in self.events if e.type == kind]


def begun(count: int = 1, rule: Rules | None = None, **changes: Any) -> tuple[Play, list[Offer]]:
    """``count`` requests for one day each of one account, all offered."""
    play = Play(rule or wide())
    play.tell(*(accept(n, TODAY - 40 - n, TODAY - 40 - n, **changes) for n in range(1, count + 1)))
    offers = list(play.offers.values())
    assert len(offers) == count
    return play, offers


def opened(count: int = 1, rule: Rules | None = None, **changes: Any) -> tuple[Play, list[Offer]]:
    """The same, and the circuit has just been opened by the first of them, which is still at it."""
    play, offers = begun(count, rule, **changes)
    for _ in range(play.rule.breaker.failure_threshold):
        play.call(offers[0], FAILED)
    assert play.phase() is Phase.OPEN
    return play, offers


def half_open(rule: Rules | None = None) -> tuple[Play, Offer]:
    """One batch, offered again after the recovery time."""
    play, (offer,) = opened(1, rule)
    play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS)
    assert play.phase() is Phase.HALF_OPEN
    return play, next(iter(play.offers.values()))
