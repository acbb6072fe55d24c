"""F7: what one decision costs with a million batches queued against a thousand; the domain alone.

A decision is a whole step of the planner: a command comes, is planned and queued, the outcome of a fetch under way ends
another request, and the best waiting batch is leased. Commands are spread over 1,000 accounts of 50 organisations.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import count

from app.domain.messages import Accept, Offer, StepOutcome
from app.domain.planner import step
from app.domain.rules import Rules
from app.domain.state import State
from app.testing.planning import NOW, TODAY, accept, facts, result_of, rules
from tests.bench.measured import Measured
from tests.e2e.scenarios import Place

ACCOUNTS = 1_000
SLOTS = 10


def _commands() -> Iterator[Accept]:
    """No two of them merge: each asks for a day of its own of its account."""
    connectors = [facts(n + 1, org_id=n % 50 + 1) for n in range(ACCOUNTS)]
    for n in count(1):
        day = TODAY - n // ACCOUNTS
        yield accept(
            n, day, day, connector=connectors[n % ACCOUNTS], priority_class=(1, 2, 3, 3, 5)[n % 5], accepted_at=NOW
        )


def planning_rules() -> Rules:
    """No quota is in the way, so that every outcome makes room for one start."""
    return rules(max_concurrent=SLOTS, max_live=10_000_000)


class Queue:
    """A planner with so many batches waiting."""

    def __init__(self, queued: int) -> None:
        self.state, self._commands, self._offers = State(planning_rules(), now=NOW), _commands(), list[Offer]()
        while len(self.state.queue) < queued:
            some = [(next(self._commands), NOW) for _ in range(500)]
            self._offers += step(self.state, some).offers

    def decide(self) -> None:
        """One comes, one ends, one starts."""
        offer = self._offers.pop(0)
        ended = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=result_of(offer))
        changes = step(self.state, [(next(self._commands), NOW), (ended, NOW)])
        self._offers += changes.offers


def cost_us(queue: Queue, decisions: int) -> float:
    """Microseconds of one decision."""
    started = time.perf_counter()
    for _ in range(decisions):
        queue.decide()
    return (time.perf_counter() - started) / decisions * 1e6


def compare(small: int, large: int, rounds: int, decisions: int) -> dict[str, float]:
    """Both sizes in turns, so that whatever else the machine does meets both."""
    queues = Queue(small), Queue(large)
    gc.collect()
    gc.freeze()
    for queue in queues:
        cost_us(queue, decisions)
    pairs = [(cost_us(queues[0], decisions), cost_us(queues[1], decisions)) for _ in range(rounds)]
    return {
        "small_us": round(statistics.median(pair[0] for pair in pairs), 1),
        "large_us": round(statistics.median(pair[1] for pair in pairs), 1),
        "ratio": round(statistics.median(pair[1] / pair[0] for pair in pairs), 3),
    }


async def measure(_: Place) -> Measured:
    """The figure."""
    found = compare(1_000, 1_000_000, rounds=15, decisions=400)
    detail = found | {"small": 1_000, "large": 1_000_000, "rounds": 15, "decisions": 400}
    return Measured("F7", found["ratio"], "<= 2", ok=found["ratio"] <= 2.0, detail=detail)


def main() -> int:
    """For a look at other sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decisions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100_000)
    given = parser.parse_args()
    sys.stdout.write(f"{compare(given.small, given.large, rounds=9, decisions=300)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
