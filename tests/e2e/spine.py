"""The spine's long test: ``python -m tests.e2e.spine [--starts N] [--backlog N] [--commands N] [--only NAME]``.

Starts a stack of its own, runs the scenarios one after the other, prints a line for each and ``N passed, N failed``.
The exit code is 0 only when nothing failed. Seeds are printed; ``--seed`` repeats a run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from deploy.local import Stack
from tests.e2e import points, scenarios, servers
from tests.e2e.scenarios import Place, Result
from tests.e2e.world import loud, quiet

Run = Callable[[Place], Awaitable[Result]]
STORM_S_PER_COMMAND = 0.018
KILLS, PAUSES = 10, 5
NAMES = ("storm", "adoption", "sharing", "plain-client", "servers", "points", "backlog")


def runs(given: argparse.Namespace, stack: Stack) -> Iterator[tuple[str, Run]]:
    """(name, run), in order: the many starts come last, so that what is quick is known soon."""
    yield (
        "storm",
        lambda place: scenarios.storm(
            place, commands=given.commands, kills=KILLS, pauses=PAUSES, over_s=given.commands * STORM_S_PER_COMMAND
        ),
    )
    yield "adoption", scenarios.adoption
    yield "sharing", scenarios.sharing
    yield "plain-client", scenarios.plain_client
    yield "servers", lambda place: servers.run(stack, place)
    yield "points", lambda place: points.points(place, points.deaths(given.deaths))
    for _ in range(given.starts):
        yield "backlog", lambda place: scenarios.backlog(place, commands=given.backlog)


async def run_all(given: argparse.Namespace, stack: Stack, folder: Path) -> int:
    """Runs what was asked for; how many failed. Starts over a backlog go ``at_once`` side by side: each is a world of
    its own, and its one worker is busy on one core."""
    wanted = [(name, run) for name, run in runs(given, stack) if given.only in (None, name)]
    base = Place(stack.env(), folder, given.seed, loud if given.verbose else quiet)
    turns = asyncio.Semaphore(given.at_once)

    async def turn(number: int) -> Result:
        name, run = wanted[number]
        async with turns:
            loud(f"{name} {number + 1}/{len(wanted)} ...")
            return await _one(name, run, replace(base, seed=given.seed + number))

    alone = [number for number, (name, _) in enumerate(wanted) if name != "backlog"]
    results = [await turn(number) for number in alone]
    results += await asyncio.gather(*(turn(number) for number in range(len(wanted)) if number not in alone))
    failed = sum(not result.passed for result in results)
    sys.stdout.write(f"{len(results) - failed} passed, {failed} failed\n")
    return failed


async def _one(name: str, run: Run, place: Place) -> Result:
    began = time.monotonic()
    try:
        result = await run(place)
    except Exception as error:  # noqa: BLE001 - one broken run must not hide the others
        result = Result(f"{name} (seed {place.seed})", [f"{type(error).__name__}: {error}"])
    told = ", ".join(f"{key}: {value}" for key, value in result.figures.items())
    sys.stdout.write(f"{'ok  ' if result.passed else 'FAIL'} {result.name}, {time.monotonic() - began:.0f} s; {told}\n")
    if result.summary:
        sys.stdout.write(result.summary + "\n")
    for problem in result.own_problems:
        sys.stdout.write(f"  ! {problem}\n")
    sys.stdout.flush()
    return result


def main() -> int:
    """Exit code 0 when everything passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.spine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=20, help="starts over a backlog")
    parser.add_argument("--backlog", type=int, default=100_000, help="commands in the backlog")
    parser.add_argument("--commands", type=int, default=20_000, help="commands of the storm")
    parser.add_argument("--at-once", type=int, default=2, help="starts side by side")
    parser.add_argument("--deaths", type=int, default=1, help="deaths at each crash point")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--folder", type=Path, help="for data and logs; a temporary one if not given")
    parser.add_argument("--verbose", action="store_true", help="progress within each run")
    given = parser.parse_args()
    # The clients of this process say at length that a broker which was just killed is not there.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="connector-spine-"))
    with Stack.start(folder / "stack") as stack:
        sys.stdout.write(f"broker: {stack.broker_name}; seed {given.seed}; logs in {folder}\n")
        sys.stdout.flush()
        failed = asyncio.run(run_all(given, stack, folder))
        stack.stop(keep_data=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
