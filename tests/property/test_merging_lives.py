"""Whole lives of requests in many parts, under faults: cut ranges, slices, columns that do not add up, full batches."""

from __future__ import annotations

import random
from datetime import date

import pytest

from app.domain.messages import Accept, Cancel, StepOutcome
from app.domain.retry import RetryPolicy
from app.domain.rules import Rules
from app.testing.planning import TODAY, accept, facts
from app.testing.planning_checks import left_over
from app.testing.planning_world import Faults, PlannerWorld, commands
from tests.property.merging_model import rules_with

LONGEST = 7
FAULTS = Faults(restart=0.03, drop=0.05, twice=0.1, die=0.05, pause=0.05, mute=0.1, fail=0.05, throttle=0.04)
LOSSES = Faults(restart=0.03, drop=0.05, twice=0.1, die=0.03, pause=0.05, mute=0.1, throttle=0.04)
COLUMNS = ((), (), ("reach",), ("views",), ("frequency", "reach"), ("forbidden",))


def sliced() -> Rules:
    """Short ranges, shorter slices, small batches, few slots."""
    return rules_with(
        LONGEST, 3, max_concurrent=2, max_members=3, retry=RetryPolicy(3, 2.0, 20.0), call_timeout_ms=20_000,
        closed_mark_ms=900_000,
    )  # fmt: skip


def drawn(number: int, draw: random.Random, columns: tuple[tuple[str, ...], ...]) -> Accept:
    start = TODAY - draw.randint(1, 20)
    return accept(
        number, start, min(TODAY, start + draw.randint(0, 15)), connector=facts(draw.choice([1, 1, 1, 2])),
        priority_class=draw.choice([1, 3, 5, 5]), fields=draw.choice(columns), force=draw.random() < 0.1,
        max_age_s=draw.choice([None, None, 86_400]),
    )  # fmt: skip


def lived(seed: int, faults: Faults, *, cancels: bool, columns: tuple[tuple[str, ...], ...] = COLUMNS) -> PlannerWorld:
    """One world to its end; what must hold of every one is checked."""
    draw = random.Random(seed)
    made = PlannerWorld(sliced(), seed, faults)
    accepts = [drawn(n, draw, columns) for n in range(1, draw.randint(4, 10))]
    for message, after_ms in commands(accepts, draw):
        made.tell(message, after_ms)
    for message in accepts:
        if cancels and draw.random() < 0.2:
            made.tell(Cancel(message.request_id, 1, message.connector.connector_id), draw.randint(0, 90_000))
    made.run()
    assert set(made.outcomes()) == {a.request_id for a in accepts}, f"seed {seed}"
    assert list(left_over(made.state)) == [], f"seed {seed}"
    files = [m.file for step in made.inbox for m, _ in step if isinstance(m, StepOutcome) and m.file is not None]
    assert all(f.start // LONGEST == f.end // LONGEST for f in files), f"seed {seed}: a file longer than may be"
    for event in made.events:
        if event.type == "data_fetched":
            days = {d for f in event.data["files"] for d in _days(f["from"], f["to"])}
            asked = event.data["date_range"]
            assert _days(asked["start"], asked["end"]) <= days, f"seed {seed}"
    return made


def _days(first: str, last: str) -> set[int]:
    return set(range(date.fromisoformat(first).toordinal(), date.fromisoformat(last).toordinal() + 1))


@pytest.mark.parametrize("seed", range(50_000, 50_150, 10))
def test_every_request_of_many_parts_ends_once(seed: int) -> None:
    for each in range(seed, seed + 10):
        lived(each, FAULTS, cancels=True)


@pytest.mark.parametrize("seed", range(51_000, 51_080))
def test_where_nothing_is_refused_everybody_is_served_and_the_calls_are_paid_exactly(seed: int) -> None:
    """Also those whose first parts' days are overwritten by a file without their columns while the last one waits."""
    made = lived(seed, LOSSES, cancels=False, columns=tuple(c for c in COLUMNS if "forbidden" not in c))
    assert set(made.outcomes().values()) == {"data_fetched"}
    assert made.unpaid == 0
    assert sum(made.cost.values()) == pytest.approx(made.granted, abs=1e-6)
