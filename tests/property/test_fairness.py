"""Who starts when organisations compete: bounds that hold at every moment, over whole runs of the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.lanes import Fairness
from app.domain.model import Quota
from app.domain.rules import Rules
from app.testing.planning import NOW, quota, rules
from app.testing.planning_starts import Starts

PLANS = {1: "standard", 2: "premium", 3: "standard", 4: "standard"}
COST = 3


def world(slots: int = 2, quotas: tuple[Quota, ...] = (), **fairness: Any) -> Starts:
    """Every fetch takes a second; a plan called premium weighs two."""
    given: dict[str, Any] = {"weights": {"premium": 2}, "floor_percent": 50, "aging_ms": 10**9}
    return Starts(rules(quotas, max_concurrent=slots, fairness=Fairness(**(given | fairness))))


def ask(w: Starts, count: int, org_id: int, class_: int) -> list[Any]:
    return w.requests(count, org_id, class_, plan=PLANS.get(org_id, "standard"))


def turns(w: Starts, since: int = 0) -> Counter[int]:
    """Organisation -> its starts."""
    return Counter(s.org_id for s in w.log[since:])


def endless(w: Starts, *needs: tuple[int, int]) -> Callable[[], list[Any]]:
    """Of each (organisation, class) a few wait at any moment."""

    def more() -> list[Any]:
        have = Counter((b.connector.org_id, b.priority_class) for b in w.state.batches.values() if b.state == "queued")
        return [m for org, class_ in needs for m in ask(w, 2 * w.rules.max_concurrent - have[org, class_], org, class_)]

    return more


@settings(max_examples=15, deadline=None)
@given(
    orgs=st.sets(st.sampled_from(sorted(PLANS)), min_size=2),
    percent=st.sampled_from([0, 30, 50, 100]),
    slots=st.integers(1, 5),
)
@example(orgs={1, 2}, percent=0, slots=1)
def test_with_a_backlog_services_differ_by_one_fetch(orgs: set[int], percent: int, slots: int) -> None:
    """From the beginning one fetch at most; over any interval the bound of start-time fair queueing, one of each by
    weight. Turns of the floors go by what was served, not by tags, and may add to that."""
    w = world(slots, floor_percent=percent)
    w.take(*(m for org in orgs for m in ask(w, 60, org, 3)))
    w.run(starts=25 * len(orgs))
    weight = {org: 1 + (PLANS[org] == "premium") for org in orgs}
    had: dict[int, float] = dict.fromkeys(orgs, 0.0)
    ahead: dict[tuple[int, int], list[float]] = {(a, b): [0.0] for a in orgs for b in orgs}
    for start in w.log:
        had[start.org_id] += COST / weight[start.org_id]
        assert max(had.values()) - min(had.values()) <= COST
        for (a, b), so_far in ahead.items():
            so_far.append(had[a] - had[b])
    for (a, b), so_far in ahead.items() if not percent else ():
        assert max(so_far) - min(so_far) <= COST / weight[a] + COST / weight[b] + 1e-9, (a, b)


def test_twice_the_weight_is_twice_the_starts() -> None:
    w = world(3)
    w.take(*ask(w, 300, 1, 3), *ask(w, 300, 2, 3))
    w.run(starts=300)
    assert turns(w)[1] == pytest.approx(100, abs=2)


def test_a_thousand_that_came_first_delay_anothers_first_by_one_turn() -> None:
    w = world(2)
    w.take(*ask(w, 1_000, 1, 3))
    w.run(starts=100)
    w.take(*ask(w, 10, 3, 3), at=w.now + 1)
    w.run(starts=130)
    mine = [n for n, s in enumerate(w.log[100:]) if s.org_id == 3]
    assert mine[0] <= 2
    assert all(n <= 2 * k + 2 for k, n in enumerate(mine))
    assert len(mine) == 10


@settings(max_examples=20, deadline=None)
@given(
    percent=st.sampled_from([20, 30, 50, 100]),
    slots=st.integers(1, 4),
    others=st.lists(
        st.tuples(st.sampled_from([2, 3, 4]), st.sampled_from([1, 5])), min_size=1, unique_by=lambda o: o[0]
    ),
)
@example(percent=50, slots=2, others=[(3, 5)])
@example(percent=30, slots=1, others=[(2, 5)])
def test_everybody_with_work_gets_the_floor_of_its_fair_share(
    percent: int, slots: int, others: list[tuple[int, int]]
) -> None:
    """Organisation 1 has endless premium work, others that or only backfills. At every moment each has had its floor of
    what its weight is due, but for a fetch or two; half of it by default."""
    w = world(slots, floor_percent=percent)
    w.more = endless(w, (1, 1), *others)
    w.take(*w.more())
    w.run(starts=240)
    orgs = [1, *(org for org, _ in others)]
    weight = {org: 1 + (PLANS[org] == "premium") for org in orgs}
    for until in range(40, len(w.log) + 1, 20):
        had = Counter(s.org_id for s in w.log[:until])
        for org in orgs:
            due = until * percent / 100 * weight[org] / sum(weight.values())
            assert had[org] >= due - 2 * weight[org] - slots, (org, until, had)


def test_backfills_beside_endless_premium_work_get_a_quarter_of_two() -> None:
    w = world(2)
    w.more = endless(w, (1, 1), (3, 5))
    w.take(*w.more())
    w.run(starts=400)
    assert turns(w)[3] == pytest.approx(100, abs=2)


def test_what_one_does_not_use_another_has_and_nobody_saves_it() -> None:
    """Alone, the first gets everything; the second then begins level, and both keep to their shares."""
    w = world(2)
    w.more = endless(w, (1, 1))
    w.take(*w.more())
    w.run(starts=200)
    assert turns(w) == {1: 200}
    w.more = endless(w, (1, 1), (3, 5))
    w.run(starts=400)
    assert turns(w, 200)[3] == pytest.approx(50, abs=3)


@pytest.mark.parametrize(("ahead", "back"), [(1, 3), (3, 1)])
def test_who_was_kept_back_has_saved_nothing_either(ahead: int, back: int) -> None:
    """A provider shuts one organisation's bucket for a while; then all get their shares, the third too."""
    w = world(2, (quota("per_minute", 1_000, 60_000, scope="user"),))
    w.state.limits_of_type("DV360").close(f"per_minute|user{back}", NOW + 100_000)
    w.more = endless(w, (ahead, 1), (4, 5), (back, 5))
    w.take(*w.more())
    w.run(until=NOW + 99_999)
    before = len(w.log)
    assert turns(w)[back] == 0
    w.run(starts=before + 300)
    had = turns(w, before)
    assert had[back] == pytest.approx(50, abs=4)
    assert had[4] == pytest.approx(50, abs=4)


def test_who_comes_while_all_others_are_kept_back_begins_level() -> None:
    """The only one with ready work, and yet it owes and is owed nothing."""
    w = world(2, (quota("per_minute", 1_000, 60_000, scope="user"),))
    w.more = endless(w, (1, 5))
    w.take(*w.more())
    w.run(starts=200)
    w.state.limits_of_type("DV360").close("per_minute|user1", w.now + 10_000)
    w.more = endless(w, (1, 5), (3, 1))
    w.run(until=w.now + 10_000)
    before = len(w.log)
    w.run(starts=before + 200)
    assert turns(w, before)[1] == pytest.approx(50, abs=4)


def test_in_one_organisation_the_better_class_goes_first() -> None:
    w = world(2)
    classes = [5, 3, 2, 1, 2, 3, 5] * 4
    w.take(*(m for c in classes for m in ask(w, 1, 1, c)))
    w.run()
    assert [s.priority_class for s in w.log] == sorted(classes)


AGING = 60_000


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("orgs", [1, 3])
def test_nothing_waits_for_ever(slots: int, orgs: int) -> None:
    """Of endless normal work each start moves the one that rose on: it stands behind what its organisation had queued
    for class 2 when it rose (``queue``), and those behind the other organisations' like numbers. One rises at a time,
    so that the n-th oldest waits n times as long."""
    w = world(slots, aging_ms=AGING)
    w.more = endless(w, *((org, 2) for org in range(1, orgs + 1)))
    old = ask(w, 3, 1, 5)
    w.take(*w.more(), *old)
    w.run(until=NOW + AGING + 200_000)
    queue = 2 * slots + 1
    bound = (queue + 1) * orgs * w.service_ms // slots + 2 * w.service_ms
    begun = [s.at for s in w.log if s.request_id in {m.request_id for m in old}]
    assert len(begun) == 3, "all of them"
    assert begun[0] - NOW >= AGING
    for n, at in enumerate(begun, 1):
        assert at - NOW <= AGING + n * bound


def test_ten_thousand_backfills_delay_a_normal_request_by_one_that_rose() -> None:
    w = world(1, aging_ms=AGING)
    w.take(*ask(w, 10_000, 1, 5))
    w.take(at=NOW + AGING)
    for n in range(10):
        before = len(w.log)
        w.run(starts=before + n)
        w.take(*ask(w, 1, 1, 2), at=w.now + 1)
        came = len(w.log)
        w.run(starts=came + 2)
        assert 2 in [s.priority_class for s in w.log[came : came + 2]]


def p99(rules_: Rules, backfills: int, orgs: int) -> tuple[int, float]:
    """When the 99th of a hundred premium requests starts, in ms after they came, and the backfills' share till then."""
    w = Starts(rules_)
    w.take(*(w.request(1 + n % orgs, 5) for n in range(backfills)))
    w.run(starts=30 if backfills else None)
    before, came = len(w.log), w.now + 1
    w.take(*w.requests(100, 99, 1), at=came)
    while sum(s.org_id == 99 for s in w.log) < 100:
        w.run(starts=len(w.log) + 1)
    waits = sorted(s.at - came for s in w.log if s.org_id == 99)
    return waits[98], sum(s.priority_class == 5 for s in w.log[before:]) / len(w.log[before:])


@pytest.mark.parametrize(("slots", "orgs"), [(1, 2), (4, 3), (10, 5)])
def test_ten_thousand_backfills_at_most_double_the_start_of_premium_work(slots: int, orgs: int) -> None:
    settings_ = rules(max_concurrent=slots)
    unloaded, _ = p99(settings_, 0, 1)
    loaded, share = p99(settings_, 10_000, orgs)
    assert loaded <= 2 * unloaded
    assert share >= 0.05
