"""Whole lives of requests under faults: the planner between simulated workers and a provider, one seed a run."""

from __future__ import annotations

import random

import pytest

from app.domain import planner
from app.domain.messages import Accept, Cancel
from app.domain.model import Quota
from app.domain.retry import RetryPolicy
from app.domain.rules import Rules
from app.domain.state import State
from app.testing.planning import NOW, TODAY, Rows, accept, by_day, facts, quota, rules
from app.testing.planning_checks import left_over, most_within
from app.testing.planning_world import Faults, PlannerWorld, commands

SLIDING = (quota("per_second", 2, 1_000), quota("per_user", 6, 10_000, scope="user"))
DAILY = quota("per_day", 400, 86_400_000, calendar_zone="America/Los_Angeles")
FEW = Faults(restart=0.02, drop=0.05, twice=0.1, die=0.05, pause=0.05, mute=0.1, fail=0.08, throttle=0.04)
MANY = Faults(restart=0.1, drop=0.15, twice=0.3, die=0.15, pause=0.15, mute=0.3, fail=0.15, throttle=0.15)
FIELDS = ((), (), ("reach",), ("views", "clicks"), ("forbidden",))


def tight(quotas: tuple[Quota, ...] = (*SLIDING, DAILY)) -> Rules:
    """Two slots, small quotas, short spans: everything is scarce."""
    return rules(
        quotas,
        max_concurrent=2,
        max_members=4,
        retry=RetryPolicy(3, 2.0, 20.0),
        call_timeout_ms=20_000,
        closed_mark_ms=900_000,
    )


def drawn(number: int, draw: random.Random, *, leaving: bool = True) -> Accept:
    """Any request for some of the last days of one of two connectors."""
    start = TODAY - draw.randint(1, 12)
    return accept(
        number,
        start,
        min(TODAY, start + draw.randint(0, 6)),
        connector=facts(draw.choice([1, 1, 2])),
        priority_class=draw.choice([1, 2, 3, 5]),
        fields=draw.choice(FIELDS),
        force=draw.random() < 0.1,
        deadline_at=NOW + draw.randint(1_000, 120_000) if leaving and draw.random() < 0.15 else None,
        max_age_s=draw.choice([None, None, 0, 600]),
    )


def world(seed: int, faults: Faults, *, leaving: bool = True) -> tuple[PlannerWorld, list[Accept]]:
    """A world with a few requests on their way, some sent twice, some cancelled before or after they arrive."""
    draw = random.Random(seed)
    made = PlannerWorld(tight(), seed, faults)
    accepts = [drawn(n, draw, leaving=leaving) for n in range(1, draw.randint(3, 9))]
    for message, after_ms in commands(accepts, draw):
        made.tell(message, after_ms)
    for message in accepts:
        if leaving and draw.random() < 0.15:
            who = message.connector
            made.tell(Cancel(message.request_id, who.org_id, who.connector_id), draw.randint(0, 90_000))
    return made, accepts


def live(seed: int, faults: Faults) -> None:
    """One run; every promise is checked."""
    made, accepts = world(seed, faults)
    made.run()
    ends = made.outcomes()
    assert set(ends) == {a.request_id for a in accepts}, f"seed {seed}: requests without an end"
    states = {"data_fetched": "completed", "fetch_failed": "failed", "fetch_cancelled": "cancelled"}
    assert {name: states[kind] for name, kind in ends.items()} == made.views
    for rule in SLIDING:
        assert made.busiest(rule) <= rule.limit, f"seed {seed}: over {rule.name}"
    assert list(left_over(made.state)) == [], f"seed {seed}"
    versions = [(e.connector_id, e.data["version"]) for e in made.events if e.type == "dataset_updated"]
    assert len(versions) == len(set(versions)), f"seed {seed}: a version announced twice"
    assert made.dead == 0
    _only_the_refused_column_hurts(made, accepts)
    _files_hold_what_was_asked(made)


def _only_the_refused_column_hurts(made: PlannerWorld, accepts: list[Accept]) -> None:
    bad = {a.request_id for a in accepts if "forbidden" in a.fields}
    hurt = {
        e.request_id for e in made.events if (e.data.get("error") or {}).get("message") == "A column cannot be had."
    }
    assert hurt <= bad, f"seed {made.seed}: {hurt - bad} failed of another's column"


def _files_hold_what_was_asked(made: PlannerWorld) -> None:
    for event in made.events:
        if event.type == "data_fetched":
            asked = event.data["date_range"]
            files = sorted((f["from"], f["to"]) for f in event.data["files"])
            assert files[0][0] <= asked["start"]
            assert max(f[1] for f in files) >= asked["end"]


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_every_request_ends_once_whatever_fails(seed: int) -> None:
    for each in range(seed, seed + 10):
        live(each, FEW)


@pytest.mark.parametrize("seed", range(10_000, 10_100, 10))
def test_every_request_ends_once_when_nearly_everything_fails(seed: int) -> None:
    for each in range(seed, seed + 10):
        live(each, MANY)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20_000, 22_000, 100))
def test_every_request_ends_once_in_two_thousand_runs(seed: int) -> None:
    for each in range(seed, seed + 100):
        live(each, MANY if each % 2 else FEW)


@pytest.mark.parametrize("seed", range(30_000, 30_030))
def test_the_costs_of_requests_add_up_to_the_permits_granted(seed: int) -> None:
    """Each call is paid once, but for those of a fetch whose members' other fetches failed. Told exactly."""
    made, _ = world(seed, FEW, leaving=False)
    made.run()
    assert sum(made.cost.values()) == pytest.approx(made.granted - made.unpaid, abs=1e-6)
    assert len(made.calls) <= made.granted


@pytest.mark.parametrize("seed", range(40_000, 40_010))
def test_the_same_inbox_gives_the_same_rows_and_events(seed: int) -> None:
    made, _ = world(seed, Faults(drop=0.05, twice=0.1, die=0.1, fail=0.1, throttle=0.05))
    made.run()
    state, rows, events = State(made.rules, now=NOW), Rows(), []
    for messages in made.inbox:
        changes = planner.step(state, messages)
        rows.write(changes)
        events += changes.events
    assert events == made.events
    assert rows.read() == made.rows.read()


def scripted(restart_after: int | None = None) -> PlannerWorld:
    """Overlapping requests, one refused, one cancelled, one after all others have ended; nothing fails by chance."""
    made = PlannerWorld(tight(), seed=1)
    days = [(20, 14), (16, 10), (12, 10), (9, 5), (20, 5)]
    for n, (first, last) in enumerate(days, 1):
        made.tell(accept(n, TODAY - first, TODAY - last, fields=("forbidden",) if n == 3 else ()), 10 * n)
    made.tell(accept(6, TODAY - 8, TODAY - 4), 10)
    made.tell(Cancel(accept(6, 0, 0).request_id, 1, facts().connector_id), 300)
    made.tell(accept(7, TODAY - 9, TODAY, max_age_s=86_400), 400_000)
    made.run(restart_after=restart_after)
    return made


def test_a_planner_that_moves_after_any_step_comes_to_the_same_end() -> None:
    straight = scripted()
    held = [set(by_day(d)) for d in straight.state.data_sets.values()]
    assert set(straight.outcomes().values()) == {"data_fetched", "fetch_failed", "fetch_cancelled"}
    moments = [n for n in range(1, straight.steps) if n < 40 or n % 7 == 0]
    for moment in moments:
        moved = scripted(restart_after=moment)
        assert moved.outcomes() == straight.outcomes(), f"moved after step {moment}"
        assert [set(by_day(d)) for d in moved.state.data_sets.values()] == held
        assert list(left_over(moved.state)) == []


def test_the_busiest_interval_is_closed_at_both_ends() -> None:
    assert most_within([0, 1_000, 2_001], 1_000) == 2
    assert most_within([], 1_000) == 0
