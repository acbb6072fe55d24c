"""The simulated provider's count, against the obvious one."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from app.domain.model import ConnectorFacts, Quota
from app.simulation.measures import Shares
from app.simulation.provider import Calendar, Provider, Sliding

ZONE = "America/Los_Angeles"
SPRING = int(datetime(2026, 3, 7, 20, tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)
"""The evening before the night that has only 23 hours."""
gaps = st.lists(st.integers(0, 40), max_size=60)


def facts(account: int = 1, user: str = "a") -> ConnectorFacts:
    return ConnectorFacts(f"conn_{account:032x}", 1, "DV360", f"account{account}", "grant_1", user)


def instants(steps: list[int], unit: int = 1) -> list[int]:
    at, found = 1_000_000, []
    for step in steps:
        at += step * unit
        found.append(at)
    return found


@given(gaps, st.integers(1, 100))
def test_a_sliding_count_is_that_of_all_calls_within_one_period(steps: list[int], period: int) -> None:
    times, counter = instants(steps), Sliding(period)
    for number, at in enumerate(times):
        assert counter.count(at) == sum(at - other <= period for other in times[: number + 1])


@given(st.lists(st.integers(0, 9 * 3_600_000), max_size=40))
def test_a_calendar_count_is_that_of_the_zones_own_day(steps: list[int]) -> None:
    zone, at = ZoneInfo(ZONE), SPRING
    counter, seen = Calendar(zone), Counter[str]()
    for step in steps:
        at += step
        day = datetime.fromtimestamp(at / 1000, zone).date().isoformat()
        seen[day] += 1
        assert counter.count(at) == seen[day]
    *ended, _ = [*seen.values(), 0]
    assert [calls for _, calls in counter.days] == ended[: len(counter.days)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2), st.sampled_from("ab")), max_size=60))
def test_a_call_is_refused_by_each_quota_it_exceeds_and_counts_all_the_same(
    calls: list[tuple[int, int, str]],
) -> None:
    quotas = (
        Quota("all", "DV360", "reports", "application", 4, 50),
        Quota("mine", "DV360", "reports", "account", 2, 30),
        Quota("user", "DV360", "reports", "user", 3, 90),
    )
    provider, at = Provider(quotas), 1_000
    made: list[tuple[int, int, str]] = []
    over: Counter[str] = Counter()
    for step, account, user in calls:
        at += step
        made.append((at, account, user))
        within = {
            "all": sum(at - t <= 50 for t, _, _ in made),
            "mine": sum(at - t <= 30 and a == account for t, a, _ in made),
            "user": sum(at - t <= 90 and u == user for t, _, u in made),
        }
        exceeded = {q.name for q in quotas if within[q.name] > q.limit}
        over.update(exceeded)
        refused = provider.arrive("reports", facts(account, user), at)
        assert (refused in exceeded) if exceeded else refused is None
    assert {name: use.over for name, use in provider.uses.items() if use.over} == dict(over)
    assert provider.arrive("downloads", facts(), at) is None
    assert (provider.calls, provider.counted) == (len(calls) + 1, len(calls))


def test_demand_counts_from_one_period_on() -> None:
    provider = Provider((Quota("q", "DV360", "reports", "application", 4, 1_000),))
    provider.demand(0, waits=True)
    for at in (500, 1_500, 2_500):
        provider.arrive("reports", facts(), at)
    provider.demand(4_000, waits=False)
    provider.arrive("reports", facts(), 9_000)
    provider.demand(10_000, waits=True)
    provider.close(10_500)
    use = provider.uses["q"]
    assert (use.calls, use.demanded, use.demand_ms) == (4, 2, 3_000)


@given(st.lists(st.tuples(st.sampled_from(["wait", "start", "call"]), st.integers(1, 3)), max_size=80))
def test_a_call_is_shared_out_among_those_who_wait(happened: list[tuple[str, int]]) -> None:
    weights = {1: 1.0, 2: 2.0, 3: 0.5}
    shares, waiting = Shares(weights), Counter[int]()
    fair, served = dict.fromkeys(weights, 0.0), Counter[int]()
    for what, org in happened:
        if what == "call":
            shares.call(org)
            now = [one for one in weights if waiting[one]]
            served[org] += org in now
            for one in now:
                fair[one] += weights[one] / sum(weights[other] for other in now)
        elif what == "wait" or waiting[org]:
            step = 1 if what == "wait" else -1
            waiting[org] += step
            shares.wait(org, step)
    shares.settle()
    assert {org: calls for org, calls in shares.served.items() if calls} == {o: n for o, n in served.items() if n}
    assert all(abs(shares.fair.get(org, 0.0) - fair[org]) < 1e-9 for org in weights)
