"""``python -m tests.bench.planning_figures F4`` (or ``F3``, ``F5``, ``saturated``): what the planner decides, in
simulated time, without a stack.

Each ends with one JSON line; the exit code is 0 only when the target was met. How each is measured:
docs/reference/figures.md.
"""

from __future__ import annotations

import argparse
import random
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.simulation import results
from app.simulation.engine import Simulation
from app.simulation.reading import load, packaged
from app.simulation.results import quantile
from app.simulation.scenario import Scenario
from app.simulation.setup import Declared, declared
from tests.bench.measured import Measured

F3_TARGET = "sliding: >= 99 % of limit x W/(W + mean response); calendar: >= 99 % outside the guard"
F4_TARGET = ">= 60 % of calls saved; <= 1.05 days requested per day needed"
F5_TARGET = "85-95 % of real starts inside p90; median error of p50 <= 20 %, by priority"
SATURATED_TARGET = "0 calls over any quota in any period"
LEAST_USED, LEAST_SAVED, MOST_DAYS = 0.99, 0.6, 1.05
INSIDE, MOST_ERROR = (0.85, 0.95), 0.2
F4_SEEDS = 20
_FEWEST = 20
"""Fewer estimates of one priority than this say nothing of it."""

Say = Callable[[str], None]


def simulated(scenario: Scenario, known: Declared) -> Simulation:
    """A run that has ended."""
    simulation = Simulation(scenario, known)
    simulation.run()
    return simulation


def f3(say: Say = lambda _line: None) -> Measured:
    """Each kind of quota by itself, with more work than it allows all the time."""
    known = declared()
    found: dict[str, dict[str, Any]] = {}
    for name, given in F3_RUNS.items():
        told = results.of(simulated(Scenario.model_validate(given), known))
        (connector,) = told["connectors"].values()
        (use,) = connector["quotas"].values()
        found[name] = use | {"mean_response_s": connector["mean_response_s"], "mean_held_s": connector["mean_held_s"]}
        say(f"F3: {name}: {use['used']:.4f} used, {use['over']} calls over")
    return judge_f3(found)


def judge_f3(found: Mapping[str, Mapping[str, Any]]) -> Measured:
    """The least used quota decides."""
    measured = {name: use["used"] for name, use in found.items()}
    ok = all(used is not None and used >= LEAST_USED for used in measured.values())
    ok = ok and not any(use["over"] for use in found.values())
    return Measured("F3", measured, F3_TARGET, ok=ok and bool(found), detail=dict(found))


def f4(say: Say = lambda _line: None) -> Measured:
    """The trace of 20 dashboards, under many seeds; the worst one decides."""
    known = declared()
    scenario = load("dashboards", known.catalogue)
    runs = []
    for seed in range(1, F4_SEEDS + 1):
        told = results.of(simulated(scenario.model_copy(update={"seed": seed}), known))
        runs.append(told["saving"] | {"over": told["over_quota"], "open": told["commands"]["open"]})
        say(f"F4: seed {seed}: {told['saving']['calls_saved']:.1%} of calls saved")
    return judge_f4(runs)


def judge_f4(runs: list[dict[str, Any]]) -> Measured:
    """Both halves, of every run."""
    if not runs:
        return Measured("F4", None, F4_TARGET, ok=False)
    saved = min(run["calls_saved"] for run in runs)
    days = max(run["days_per_day_needed"] for run in runs)
    clean = not any(run["over"] or run["open"] for run in runs)
    middle = {
        name: sorted(run[name] for run in runs)[len(runs) // 2] for name in ("calls_saved", "days_per_day_needed")
    }
    measured = {"calls_saved": saved, "days_per_day_needed": days}
    ok = clean and saved >= LEAST_SAVED and days <= MOST_DAYS
    return Measured("F4", measured, F4_TARGET, ok=ok, detail={"seeds": len(runs), "median": middle, "last": runs[-1]})


def f5(say: Say = lambda _line: None, names: Iterable[str] | None = None) -> Measured:
    """Estimates of all packaged scenarios together, by priority."""
    known = declared()
    errors: dict[str, array[float]] = {}
    inside: dict[str, list[int]] = {}
    detail: dict[str, Any] = {}
    for name in names or packaged():
        simulation = simulated(load(name, known.catalogue), known)
        told = results.estimates(simulation.measures)
        detail[name] = told["by_priority"]
        for number, part in simulation.measures.estimates.items():
            priority = results.priority_name(number)
            errors.setdefault(priority, array("d")).extend(part.errors)
            counts = inside.setdefault(priority, [0, 0])
            counts[0] += part.inside_p90
            counts[1] += part.with_p90
        say(f"F5: {name}: {told['all']['n']} requests waited")
    return judge_f5(errors, inside, detail)


def judge_f5(
    errors: Mapping[str, array[float]], inside: Mapping[str, list[int]], detail: Mapping[str, Any]
) -> Measured:
    """Every priority with enough estimates must be right; without a p90 the figure is not ok."""
    measured = {
        name: {
            "n": len(errors[name]),
            "inside_p90": round(inside[name][0] / inside[name][1], 4) if inside[name][1] else None,
            "median_error": round(quantile(sorted(errors[name]), 0.5), 4),
        }
        for name in sorted(errors)
        if len(errors[name]) >= _FEWEST
    }
    ok = bool(measured) and all(_calibrated(one) for one in measured.values())
    return Measured("F5", measured, F5_TARGET, ok=ok, detail=dict(detail))


def _calibrated(one: Mapping[str, Any]) -> bool:
    inside = one["inside_p90"]
    return inside is not None and INSIDE[0] <= inside <= INSIDE[1] and one["median_error"] <= MOST_ERROR


def saturated(runs: int, seed: int, say: Say = lambda _line: None) -> Measured:
    """Random quotas, organisations, delays and outages, with more work than there is quota; answers up to 2 s late."""
    known = declared()
    draw = random.Random(seed)
    over = calls = unfinished = 0
    bad: list[int] = []
    for number in range(1, runs + 1):
        own = draw.randrange(2**32)
        simulation = simulated(Scenario.model_validate(drawn(own)), known)
        told = results.of(simulation)
        over += told["over_quota"]
        calls += told["saving"]["calls"]
        unfinished += told["commands"]["open"] or told["commands"]["ended_twice"]
        if told["over_quota"]:
            bad.append(own)
        if number % 20 == 0:
            say(f"saturated: {number} of {runs} workloads, {calls} calls, {over} over a quota")
    detail = {"runs": runs, "seed": seed, "calls": calls, "seeds_over": bad[:20], "not_ended_once": unfinished}
    return Measured("F2", over, SATURATED_TARGET, ok=over == 0 and calls > 0 and not unfinished, detail=detail)


def drawn(seed: int) -> dict[str, Any]:
    """A random saturated workload of a minute or two, as a scenario's content."""
    draw = random.Random(seed)
    polls = draw.random() < 0.5
    kind = "DV360" if polls else "GOOGLE_ADS"
    quotas = [
        {"name": f"q{at}", "limit": draw.randint(1, 8) * max(1, period // draw.choice([1, 2, 5])), "period": period,
         "scope": draw.choice(["application", "account", "user"])}
        for at, period in enumerate(draw.sample([1, 2, 5, 10, 30, 60], draw.randint(1, 3)))
    ]  # fmt: skip
    if draw.random() < 0.3:
        quotas.append(
            {"name": "day", "limit": draw.randint(300, 800), "period": "1d", "calendar_zone": "America/Los_Angeles"}
        )
    outage = {"connector": kind, "begins": draw.randint(1, 40), "ends": draw.randint(41, 60)}
    outage |= {"kind": "throttle", "retry_after": draw.randint(1, 20)} if draw.random() < 0.5 else {}
    late = draw.choice([0.005, 0.05, 0.5])
    span = {"least": 0.001, "most": late}
    return {
        "seed": seed,
        "starts_at": "2026-03-17T06:59:00Z",  # a minute before midnight Pacific
        "duration": draw.choice(["1m", "2m"]),
        "drain": "3d",
        "delays": {"to_planner": span, "to_worker": span, "to_provider": span, "returned": span,
                   "step": draw.choice([0.005, 0.02, 0.1])},
        "planner": {"max_concurrent": draw.randint(2, 30)},
        "connectors": {kind: {
            "quotas": quotas,
            "preparation": {"median": draw.choice([1, 10]), "sigma": 0.5},
            "poll_schedule": ["2s", "5s"],
            "response": {"median": 0.2, "sigma": 0.5, "jitter": 2},
        }},
        "organisations": [
            {"name": f"org{at}", "accounts": draw.randint(1, 6), "users": draw.randint(1, 3)}
            for at in range(draw.randint(1, 4))
        ],
        "streams": [{"kind": "saturated", "depth": draw.randint(5, 30), "ending": "walk", "ranges": [3, 7]}],
        "outages": [outage] if draw.random() < 0.4 else [],
    }  # fmt: skip


def _alone(kind: str, quota: dict[str, Any], duration: str, **more: Any) -> dict[str, Any]:
    return {
        "seed": 3,
        "duration": duration,
        "drain": "1h",
        "planner": {"max_concurrent": 60},
        "connectors": {kind: {"quotas": [quota], **more}},
        "organisations": [{"name": "org", "count": 4, "accounts": 20, "users": 2}],
        "streams": [{"kind": "saturated", "depth": 60, "ending": "walk", "ranges": [7]}],
    }


F3_RUNS: Mapping[str, dict[str, Any]] = {
    "4 per second": _alone("DV360", {"name": "q", "limit": 4, "period": "1s"}, "20m"),
    "20 in 10 seconds": _alone("GOOGLE_ADS", {"name": "q", "limit": 20, "period": "10s"}, "1h"),
    "1,000 per day": _alone(
        "GOOGLE_ADS",
        {"name": "q", "limit": 1_000, "period": "1d", "calendar_zone": "America/Los_Angeles"},
        "60h",
    ),
}
"""Content of the scenarios of figure F3."""


def main() -> int:
    """Exit code 0 only when the target was met."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.planning_figures", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("figure", choices=["F3", "F4", "F5", "saturated"])
    parser.add_argument("--runs", type=int, default=200, help="workloads of `saturated`")
    parser.add_argument("--seed", type=int, default=1, help="of `saturated`")
    parser.add_argument("--scenarios", nargs="*", help="scenarios of F5; default: all that come with the product")
    given = parser.parse_args()
    measures: Mapping[str, Callable[[], Measured]] = {
        "F3": lambda: f3(_say),
        "F4": lambda: f4(_say),
        "F5": lambda: f5(_say, given.scenarios),
        "saturated": lambda: saturated(given.runs, given.seed, _say),
    }
    result = measures[given.figure]()
    sys.stdout.write(result.line() + "\n")
    return 0 if result.ok else 1


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
