"""F13: what a worker costs that has all its tables and nothing to do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.bench.measured import Measured
from tests.e2e import traffic
from tests.e2e.scenarios import RAISED, SANDBOX, Place
from tests.e2e.traffic import Mix
from tests.e2e.watching import watching
from tests.e2e.world import World, world

CPU_TARGET, MEMORY_TARGET = 3.0, 150.0
SETTLE_S, MEASURE_S = 10.0, 60.0
COMMANDS, CONNECTORS = 500, 10


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, from ``/proc``."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(place: Place, *, measure_s: float = MEASURE_S) -> Measured:
    """A worker serves some hundred requests and stops; the next one takes its tables over and has nothing to do."""
    async with world(
        place.stack_env, place.folder, sandbox=SANDBOX, settings=RAISED, connectors=CONNECTORS, say=place.say
    ) as made:
        await made.start("w1")
        await _work(made, place)
        after_work = resident_mb(made.lives["w1"].pid)
        await made.stop("w1")
        life = await made.start("w1")
        await asyncio.sleep(SETTLE_S)
        place.say(f"idle for {measure_s:g} s")
        before = cpu_seconds(life.pid)
        await asyncio.sleep(measure_s)
        percent = 100 * (cpu_seconds(life.pid) - before) / measure_s
        return judge(percent, resident_mb(life.pid), after_work, measure_s)


async def _work(made: World, place: Place) -> None:
    import random

    bodies = list(traffic.overlapping(made.accounts, Mix(COMMANDS, repeats=0.0), random.Random(place.seed)))
    async with watching(made.bootstrap, made.prefix) as ends:
        await traffic.produce(made.bootstrap, made.prefix, bodies)
        await ends.all_of(traffic.ids_of(bodies), stall_s=60)


def judge(percent: float, resident: float, after_work: float, measure_s: float) -> Measured:
    """Both halves must hold."""
    measured = {"cpu_percent_of_a_core": round(percent, 2), "resident_mb": round(resident, 1)}
    ok = percent <= CPU_TARGET and resident <= MEMORY_TARGET
    detail = {
        "seconds": measure_s,
        "requests_in_its_tables": COMMANDS,
        "resident_mb_of_a_worker_that_has_written_results": round(after_work, 1),
    }
    return Measured("F13", measured, f"<= {CPU_TARGET:g} % of one core; <= {MEMORY_TARGET:g} MB resident", ok, detail)
