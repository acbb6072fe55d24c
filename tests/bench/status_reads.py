"""F9: ``GET /api/v1/connectors/requests/{id}`` at its owner against a bare aiohttp handler with the same route and body
size, by turns in one run."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence

from deploy.local.machine import free_port
from deploy.local.processes import Program
from tests.bench.hammer import rate
from tests.bench.measured import Measured
from tests.e2e import traffic
from tests.e2e.access import Access
from tests.e2e.scenarios import Place
from tests.e2e.watching import watching
from tests.e2e.world import ROOT, World, world

TARGET = 0.6
ROUNDS = 7
PATH = "/api/v1/connectors/requests/"
_BLOCK = {"route": "reports.*", "fault": "429_retry_after", "seconds": 600}


async def measure(place: Place, *, rounds: int = ROUNDS) -> Measured:
    """One ended and one waiting request of the worker that owns their planner; the smaller ratio counts."""
    access = Access(place.folder)
    options = ("--report-seconds", "0.3")
    async with world(place.stack_env, place.folder, sandbox=options, settings=access.settings, connectors=2) as made:
        life = await made.start("w1")
        ended, waiting = await _two(made)
        found = {}
        for name, request_id in (("ended", ended), ("waiting", waiting)):
            told = await access.call(life.port, "GET", PATH + request_id, made.accounts[0].org_id)
            assert told.status == 200, told.body
            place.say(f"{name}: status {told.body['status']}, waiting {told.body['waiting']}")
            size = int(told.headers["Content-Length"])
            token = access.token(made.accounts[0].org_id)
            found[name] = await _against_bare(made, life.port, PATH + request_id, token, size, rounds)
    return judge(found)


async def _two(made: World) -> tuple[str, str]:
    """Ids of a request that has ended, and of one that the provider keeps waiting."""
    first = traffic.own_days(made.accounts[0], 0, priority="normal")
    second = traffic.own_days(made.accounts[0], 1, priority="normal")
    async with watching(made.bootstrap, made.prefix) as ends:
        await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(first, avro=True)])
        await ends.all_of({first["request_id"]}, stall_s=30)
    await made.tell_sandbox("faults", _BLOCK)
    await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(second, avro=True)])
    await asyncio.sleep(3.0)
    return first["request_id"], second["request_id"]


async def _against_bare(
    made: World, port: int, path: str, token: str, size: int, rounds: int
) -> tuple[Sequence[float], Sequence[float], int]:
    """Answers per second of the worker and of the bare handler, round by round, and the body's size."""
    bare, name = free_port(), f"bare-{size}"
    argv = [sys.executable, "-m", "tests.bench.bare_server", str(bare), str(size)]
    made.processes.spawn(Program(name, argv, made.folder / f"{name}.log", ROOT, made.env))
    try:
        await _listens(bare)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(await rate(port, path, token))
            theirs.append(await rate(bare, path, token))
    finally:
        await asyncio.to_thread(made.processes.stop, name, 5.0)
    return ours, theirs, size


async def _listens(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def judge(found: dict[str, tuple[Sequence[float], Sequence[float], int]]) -> Measured:
    """The smaller of the two ratios of medians."""
    ratios = {n: statistics.median(ours) / statistics.median(theirs) for n, (ours, theirs, _) in found.items()}
    detail = {
        name: {
            "ratio": round(ratios[name], 3),
            "worker_per_s": round(statistics.median(ours)),
            "bare_per_s": round(statistics.median(theirs)),
            "body_bytes": size,
        }
        for name, (ours, theirs, size) in found.items()
    }
    least = min(ratios.values())
    return Measured("F9", round(least, 3), f">= {TARGET} of a bare aiohttp handler", ok=least >= TARGET, detail=detail)
