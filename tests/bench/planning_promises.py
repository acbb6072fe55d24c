"""``python -m tests.bench.planning_promises greedy`` (or ``backfills``, ``million``): what the planner promises under
load, in simulated time, by the scenarios of the same names.

Each ends with one JSON line; the exit code is 0 only when the promise was kept.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from app.domain.model import PRIORITY_CLASS
from app.simulation import results
from app.simulation.engine import Simulation
from app.simulation.reading import load
from app.simulation.scenario import Scenario
from app.simulation.setup import declared
from tests.bench.measured import Measured, quantile

FLOOR = 0.5
"""Of a fair share, which everybody with work gets."""
LEAST_BACKFILL, MOST_SLOWER = 0.05, 2.0
MOST_S, MOST_MB = 300.0, 2_048


def _run(scenario: Scenario) -> Simulation:
    simulation = Simulation(scenario, declared())
    simulation.run()
    return simulation


def greedy() -> Measured:
    """One organisation asks for twenty times its share: the least that any other got, of its fair share, while it had
    work waiting. (Less than 1 also where one asked for less.)"""
    told = results.of(_run(load("greedy", declared().catalogue)))
    (connector,) = told["connectors"].values()
    shares = {name: share["share_of_fair"] for name, share in connector["shares"].items()}
    least = min(share for name, share in shares.items() if name != "greedy")
    waits = {name: org["start"] for name, org in told["waits"]["by_organisation"].items()}
    ok = least >= FLOOR and not told["over_quota"] and not told["commands"]["open"]
    return Measured("greedy", least, f">= {FLOOR} of its fair share", ok=ok, detail={"shares": shares, "waits": waits})


def backfills() -> Measured:
    """10,000 backfills wait, then 100 premium requests come: 99th percentile of their start against the same without
    the backfills, and the backfills' part of all starts until the last of them."""
    whole = load("backfills", declared().catalogue)
    people = [stream for stream in whole.streams if stream.priority == "premium"]
    loaded, alone = _run(whole), _run(whole.model_copy(update={"streams": people}))
    premium = PRIORITY_CLASS["premium"]
    with_, without = ([wait / 1000 for wait in one.measures.started[premium]] for one in (loaded, alone))
    first, last = people[0].at, people[0].at + max(with_)
    history = [at / 1000 for at in loaded.measures.started_at[PRIORITY_CLASS["backfill"]]]
    meanwhile = sum(first <= at <= last for at in history)
    part = meanwhile / (meanwhile + len(with_))
    slower = quantile(with_, 0.99) / max(quantile(without, 0.99), 1.0)
    detail = {
        "premium_p99_s": round(quantile(with_, 0.99), 3),
        "alone_p99_s": round(quantile(without, 0.99), 3),
        "backfills_meanwhile": meanwhile,
        "backfills_waiting": len(history) - sum(at < first for at in history),
        "open": len(loaded.measures.open),
    }
    measured = {"premium_p99_ratio": round(slower, 3), "backfill_part": round(part, 3)}
    ok = slower <= MOST_SLOWER and part >= LEAST_BACKFILL and not loaded.measures.open
    return Measured("backfills", measured, f"<= {MOST_SLOWER}; >= {LEAST_BACKFILL}", ok=ok, detail=detail)


def million() -> Measured:
    """A million commands: seconds of this machine, and the most memory it took."""
    started = time.perf_counter()
    told = results.of(_run(load("million", declared().catalogue)))
    took = round(time.perf_counter() - started, 1)
    peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    commands = told["commands"]
    clean = not told["over_quota"] and not commands["open"] and not commands["ended_twice"]
    ok = clean and commands["sent"] >= 1_000_000 and took < MOST_S and peak_mb < MOST_MB
    detail: dict[str, Any] = {"commands": commands, "over_quota": told["over_quota"], "saving": told["saving"]}
    return Measured("million", {"s": took, "mb": peak_mb}, f"< {MOST_S:.0f} s; < {MOST_MB} MB", ok=ok, detail=detail)


PROMISES: Mapping[str, Callable[[], Measured]] = {"greedy": greedy, "backfills": backfills, "million": million}


def main() -> int:
    """Exit code 0 only when the promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.planning_promises", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("promise", choices=[*PROMISES])
    found = PROMISES[parser.parse_args().promise]()
    sys.stdout.write(found.line() + "\n")
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
