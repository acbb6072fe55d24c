"""Runs in simulated time: the same seed the same result, nothing lost, nothing counted that had no permit."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from app.domain.messages import Ask
from app.domain.model import ConnectorFacts, Quota
from app.simulation import results
from app.simulation.engine import Simulation
from app.simulation.measures import Estimates, Open, Shares, Traffic
from app.simulation.provider import Provider
from app.simulation.scenario import Scenario
from app.simulation.setup import declared, organisations_of
from app.simulation.timeline import Timeline
from app.simulation.workers import Crew, Task
from app.simulation.workload import Workload, dashboards, first_day

KNOWN = declared()
SMALL: dict[str, Any] = {
    "seed": 11,
    "duration": "5m",
    "drain": "1d",
    "planner": {"max_concurrent": 4},
    "connectors": {
        "DV360": {
            "quotas": [
                {"name": "second", "limit": 2, "period": "1s"},
                {"name": "minute", "limit": 30, "period": "1m", "scope": "user"},
            ],
            "preparation": {"median": "4s", "sigma": 0.5},
            "response": {"median": "200ms", "sigma": 0.5, "jitter": "2s"},
        },
        "GOOGLE_ADS": {"quotas": [{"name": "minute", "limit": 20, "period": "1m"}]},
    },
    "organisations": [{"name": "one", "count": 2, "accounts": 2}, {"name": "two", "weight": 2}],
    "streams": [
        {"kind": "poisson", "per_hour": 300},
        {"kind": "bursts", "size": 5, "times": 2, "every": "2m", "priority": "backfill", "ranges": [30]},
        {"kind": "saturated", "depth": 2, "priority": "scheduled", "ending": "walk", "ranges": [3]},
    ],
}
OUTAGES = [
    {"connector": "DV360", "begins": "1m", "ends": "90s"},
    {"connector": "GOOGLE_ADS", "begins": "1m", "ends": "2m", "kind": "throttle", "retry_after": "10s"},
    {"connector": "GOOGLE_ADS", "begins": "3m", "ends": "200s", "kind": "throttle"},
]
SLOW = {"to_planner": {"least": 1, "most": 5}, "to_worker": {"least": 1, "most": 7}}
"""Answers so late that the worker has asked again, and permits too old to call with."""


def run(**changes: Any) -> Simulation:
    simulation = Simulation(Scenario.model_validate(SMALL | changes), KNOWN)
    simulation.run()
    return simulation


def test_the_same_seed_gives_the_same_result_and_another_seed_another_one() -> None:
    first, again, other = (results.of(run(seed=seed)) for seed in (11, 11, 12))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("outages", "delays"), [([], {}), (OUTAGES, {}), ([], SLOW)])
def test_every_command_ends_once_and_every_call_has_a_permit(
    outages: list[dict[str, Any]], delays: dict[str, Any]
) -> None:
    simulation = run(outages=outages, delays=delays)
    told, commands = results.of(simulation), results.of(simulation)["commands"]
    assert commands["sent"] == commands["ended"] == sum(commands["outcomes"].values()) > 100
    assert (commands["open"], commands["ended_twice"]) == (0, 0)
    assert told["over_quota"] == 0
    for one in told["connectors"].values():
        permits = one["permits"]
        assert permits["called"] == permits["granted"] - permits["unused"] > 50
        assert bool(permits["unused"]) or not delays
        assert sum(use["calls"] > 0 for use in one["quotas"].values()) == len(one["quotas"])
    assert set(commands["outcomes"]) <= ({"completed", "failed"} if outages else {"completed"})
    for desk in simulation.desks.values():
        assert not desk.crew.held
        assert not desk.state.requests


def test_no_call_arrives_with_a_permit_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[int] = []
    arrive = Crew._arrive

    def watched(crew: Crew, task: Task, ask: Ask) -> None:
        late.append(crew.line.now - task.asked_at - crew.rules.permit_valid_ms)
        arrive(crew, task, ask)

    monkeypatch.setattr(Crew, "_arrive", watched)
    run(delays=SLOW | {"to_provider": {"least": 1, "most": 5}})
    assert -1_000 < max(late) <= 0


def test_a_quota_that_the_planner_does_not_know_is_found_exceeded_and_waited_for() -> None:
    simulation = Simulation(Scenario.model_validate(SMALL), KNOWN)
    hidden = Quota("second", "GOOGLE_ADS", "operations", "application", 1, 5_000)
    simulation.desks["GOOGLE_ADS"].crew.provider = Provider((hidden,))
    simulation.run()
    told = results.of(simulation)
    assert told["over_quota"] == told["connectors"]["GOOGLE_ADS"]["calls_over_quota"] > 0
    assert simulation.desks["GOOGLE_ADS"].state.closures  # the refusal reached the planner
    assert told["connectors"]["DV360"]["calls_over_quota"] == 0
    assert told["commands"]["open"] == 0


def test_identical_requests_cost_one_fetch_and_the_days_of_one() -> None:
    burst = {"kind": "bursts", "size": 20, "ranges": [7], "connectors": ["GOOGLE_ADS"], "organisations": ["two"]}
    told = results.of(run(streams=[burst | {"report_types": ["campaign_performance"]}]))
    saving = told["saving"]
    assert (saving["calls"], saving["calls_alone"], saving["fetches"]) == (1, 20, 1)
    assert saving["days_requested"] == saving["days_needed"] == 7
    assert saving["calls_saved"] == 0.95
    assert told["waits"]["done_by_priority"]["normal"]["n"] == 20
    assert told["commands"]["outcomes"] == {"completed": 20}


def test_a_polled_report_costs_its_start_and_its_polls() -> None:
    one = {"kind": "bursts", "size": 1, "ranges": [7], "connectors": ["DV360"], "organisations": ["two"]}
    spec = {"preparation": {"median": 12}, "poll_schedule": [5], "response": {"median": 0.1}}
    told = results.of(run(streams=[one], connectors={"DV360": SMALL["connectors"]["DV360"] | spec}))
    # Two calls start it, the polls after 5 and 10 s find it unfinished, the one after 15 s does not.
    assert (told["saving"]["calls"], told["saving"]["calls_alone"]) == (5, 5)
    assert told["connectors"]["DV360"]["permits"]["called"] == 6  # and the download, which no quota counts
    assert 15 < told["waits"]["done_by_priority"]["normal"]["p50"] < 18


def test_polls_of_years_and_of_no_span_are_counted_in_one_go() -> None:
    one = {"kind": "bursts", "size": 1, "ranges": [7], "connectors": ["DV360"], "organisations": ["two"]}
    slow = {"preparation": {"median": "3650d"}, "poll_schedule": ["40d", "100ms"]}
    told = results.of(run(streams=[one], drain=0, connectors={"DV360": SMALL["connectors"]["DV360"] | slow}))
    assert told["saving"]["calls_alone"] == 2 + 1 + 3_610 * 864_000
    slow["poll_schedule"] = ["0.4ms"]
    told = results.of(run(streams=[one], drain=0, connectors={"DV360": SMALL["connectors"]["DV360"] | slow}))
    assert told["saving"]["calls_alone"] == 2 + 3_650 * 86_400_000


def test_a_closed_stream_keeps_as_many_open_as_it_was_told() -> None:
    stream = {"kind": "saturated", "depth": 3, "ending": "walk", "ranges": [2], "connectors": ["GOOGLE_ADS"]}
    simulation = Simulation(Scenario.model_validate(SMALL | {"streams": [stream]}), KNOWN)
    others_open: list[int] = []

    def ended(number: int, org_id: int, kind: str) -> None:
        if simulation.line.now < simulation.ends_at:
            others_open.append(sum(one.org_id == org_id for one in simulation.measures.open.values()))
        simulation._after(number, org_id, kind)

    simulation.measures.on_end(ended)
    simulation.run()
    told = results.of(simulation)
    assert len(others_open) > 50
    assert max(others_open) == 2  # two that end in one step are followed by two
    assert told["commands"]["sent"] == 3 * 3 + len(others_open)
    assert told["connectors"]["GOOGLE_ADS"]["quotas"]["minute"]["used"] == pytest.approx(1.0, abs=0.06)
    assert told["saving"]["days_per_day_needed"] == 1.0
    shares = told["connectors"]["GOOGLE_ADS"]["shares"]
    assert sum(share["fair"] for share in shares.values()) == pytest.approx(told["saving"]["calls"], rel=0.1)
    assert shares["two"]["fair"] == pytest.approx(2 * shares["one 1"]["fair"], rel=0.1)


def test_estimates_are_those_that_were_told_first() -> None:
    burst = {"kind": "bursts", "size": 30, "ending": "walk", "ranges": [2], "connectors": ["GOOGLE_ADS"]}
    simulation = run(streams=[burst])
    (part,) = simulation.measures.estimates.values()
    told = results.estimates(simulation.measures)["all"]
    assert told["n"] == len(simulation.measures.scatter) == len(part.errors) > 60
    assert 0 <= told["inside_p90"] <= 1
    error = sorted(abs(p50 - wait) / max(wait, 10.0) for _, p50, wait in simulation.measures.scatter)
    assert told["error"]["p50"] == pytest.approx(results.quantile(error, 0.5), abs=1e-3)


@pytest.mark.parametrize(
    ("p50_s", "wait_s", "error"), [(5, 1, 0.4), (12, 2, 1.0), (20, 20, 0.0), (10, 40, 0.75), (90, 30, 2.0)]
)
def test_an_error_is_measured_against_the_wait_or_ten_seconds(p50_s: float, wait_s: int, error: float) -> None:
    part = Estimates()
    one = Open(0, 2, 1, 0, "DV360", p50_s=p50_s, p90_s=30.0)
    part.add(one, wait_s * 1000)
    part.add(replace(one, p90_s=None), wait_s * 1000)
    told = results.calibration(part)
    assert told["n"] == 2
    assert told["error"]["p50"] == error
    assert told["inside_p90"] == (wait_s <= 30)


def test_a_calendar_quota_is_measured_by_its_whole_days() -> None:
    quota = Quota("day", "DV360", "reports", "application", 4, 86_400_000, calendar_zone="UTC")
    provider, facts = Provider((quota,)), ConnectorFacts("conn_1", 1, "DV360", "a", "grant_1", "u")
    for day, calls in enumerate((1, 3, 2)):
        for _ in range(calls):
            provider.arrive("reports", facts, day * 86_400_000 + 3_600_000)
    provider.close(2 * 86_400_000 + 7_200_000)
    told = results.quota_use(provider.uses["day"], Traffic(Shares({})))
    assert (told["days"], told["used"], told["fullest"]) == ([0.25, 0.75], 0.75, 3)


def test_the_trace_of_dashboards_is_as_the_figure_says() -> None:
    scenario = Scenario.model_validate(SMALL | {"organisations": [{"name": "a", "accounts": 3}]})
    (org,) = organisations_of(scenario)
    sets = [(facts, "campaign_performance") for kind in org.connectors for facts in org.connectors[kind]]
    trace = dashboards(4, sets, 1_773_748_800_000)
    assert trace == dashboards(4, sets, 1_773_748_800_000) != dashboards(5, sets, 1_773_748_800_000)
    assert len(trace) == 80
    assert sorted(Counter(order.at for order in trace).values()) == [4] * 20
    assert len({order.connector.connector_id for order in trace}) == 6
    assert {order.end - order.start + 1 for order in trace} == {7, 14, 30, 17}
    assert min(order.at for order in trace) - 1_773_748_800_000 >= 0
    assert max(order.at for order in trace) - 1_773_748_800_000 < 600_000


def test_walked_ranges_of_a_data_set_do_not_overlap() -> None:
    stream = {"kind": "bursts", "size": 60, "ending": "walk", "ranges": [5, 9], "connectors": ["DV360"]}
    scenario = Scenario.model_validate(SMALL | {"streams": [stream]})
    workload = Workload(scenario, organisations_of(scenario), KNOWN.catalogue, 1_773_748_800_000)
    days = [
        (order.connector.connector_id, order.report_type, day)
        for order in workload.orders()
        for day in range(order.start, order.end + 1)
    ]
    assert len(days) == len(set(days)) > 500


def test_month_to_date_begins_with_the_month() -> None:
    day = date(2026, 3, 17).toordinal()
    assert first_day("month_to_date", day) == date(2026, 3, 1).toordinal()
    assert first_day(7, day) == date(2026, 3, 11).toordinal()


def test_what_is_due_at_one_instant_happens_in_the_order_it_was_noted() -> None:
    line, happened = Timeline(0, random.Random(1)), list[int]()
    for number in range(50):
        line.at(5, happened.append, number)
    while line.entries:
        _, _, do, what = heapq.heappop(line.entries)
        do(*what)
    assert happened == list(range(50))


def test_open_commands_are_told_when_the_time_is_over() -> None:
    told = results.of(run(drain=0, duration="1m"))
    assert told["commands"]["open"] > 0
    assert told["commands"]["sent"] == told["commands"]["ended"] + told["commands"]["open"]
