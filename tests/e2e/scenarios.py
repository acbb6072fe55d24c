"""The runs of the spine: each makes a world, does its worst, and answers with what was found wrong.

The provider's quotas are DV360's own (4 calls a second, 240 a minute and user), enforced by the sandbox; only the day's
2,000 are raised to 50,000 on both sides, so that no run depends on how many came before it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import broken, inbox, traffic
from tests.e2e.traffic import Mix
from tests.e2e.watching import Stalled, watching
from tests.e2e.world import Say, World, quiet, world

DAY_LIMIT = 50_000
RAISED = {
    "CONNECTOR__RATE_LIMIT__DV360__DAILY_LIMIT": str(DAY_LIMIT),
    # A killed worker's permits count until their calls could have ended (R2), and four of them are a whole second's
    # quota. The sandbox answers within milliseconds.
    "CONNECTOR__CALL__TIMEOUT_S": "5",
    # The ledger knows of a killed worker's download when it must have ended.
    "CONNECTOR__CALL__STREAM_TIMEOUT_S": "10",
}
SANDBOX = ("--quota", f"reports_day={DAY_LIMIT}", "--report-seconds", "0.5")
SHORT_LEASES = {"CONNECTOR__STREAMS__SESSION_TIMEOUT_S": "8", "CONNECTOR__STREAMS__LEASE_S": "8"}
PAUSE_S = 11.0


@dataclass(slots=True)
class Result:
    """How a run ended. ``problems`` empty: it passed. ``summary`` is the checker's, ``own_problems`` are not its."""

    name: str
    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    summary: str = ""

    @property
    def own_problems(self) -> list[str]:
        return [problem for problem in self.problems if problem not in self.summary]

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens: the stack's addresses, a folder for logs, a seed, and who hears of progress."""

    stack_env: Mapping[str, str]
    folder: Path
    seed: int
    say: Say = quiet


async def conclude(result: Result, made: World, *, refusals: int = 0) -> Result:
    """The result with what the outside checker found."""
    made.say("checking")
    report = await made.check(refusals=refusals)
    result.problems += report.problems
    result.summary = report.summary()
    result.figures |= {"restarts": made.restarts, "logs": str(made.folder)}
    return result


@asynccontextmanager
async def supervised(made: World) -> AsyncIterator[None]:
    task = asyncio.create_task(made.supervise())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made.supervised = False


async def backlog(place: Place, *, commands: int, connectors: int = 40, stall_s: float = 120.0) -> Result:
    """One worker starts over a backlog that was there before it."""
    result, rng = Result(f"start over a backlog of {commands} (seed {place.seed})"), random.Random(place.seed)
    settings = {**RAISED, "CONNECTOR__QUEUE__MAX_LIVE_REQUESTS": str(2 * commands)}
    async with world(
        place.stack_env, place.folder, sandbox=SANDBOX, settings=settings, connectors=connectors, say=place.say
    ) as made:
        records = list(traffic.overlapping(made.accounts, Mix(commands), rng))
        began = time.monotonic()
        await traffic.produce(made.bootstrap, made.prefix, records)
        place.say(f"{commands} commands on the topic after {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        await made.start("w1")
        result.figures["ready_s"] = round(time.monotonic() - began, 1)
        async with watching(made.bootstrap, made.prefix) as ends, supervised(made):
            await wait(result, ends, traffic.ids_of(records), stall_s, place.say)
        result.figures["handled_s"] = round(time.monotonic() - began, 1)
        if made.restarts:
            result.problems.append(f"the worker ended by itself {made.restarts} times")
        return await conclude(result, made)


async def wait(result: Result, ends: Any, wanted: set[str], stall_s: float, say: Say) -> None:
    """Waits until all wanted requests have ended; a stall is a problem of the result."""
    try:
        await ends.all_of(wanted, stall_s=stall_s, said=lambda n: say(f"{n} of {len(wanted)} ended"))
    except Stalled as stalled:
        result.problems.append(f"stalled: {stalled}")


async def storm(
    place: Place, *, commands: int, kills: int, pauses: int, over_s: float, connectors: int = 20, eras: int = 6
) -> Result:
    """Two workers, frozen and killed at random moments while commands keep coming."""
    name = f"{kills} kills and {pauses} pauses of {PAUSE_S:g} s over {commands} commands (seed {place.seed})"
    result, rng = Result(name), random.Random(place.seed)
    async with world(
        place.stack_env, place.folder, sandbox=SANDBOX, settings={**RAISED, **SHORT_LEASES}, connectors=connectors,
        say=place.say,
    ) as made:  # fmt: skip
        records = list(traffic.overlapping(made.accounts, Mix(commands, eras=eras, span_days=30), rng))
        await asyncio.gather(made.start("w1"), made.start("w2"))
        async with watching(made.bootstrap, made.prefix) as ends, supervised(made):
            faults = asyncio.create_task(_faults(made, rng, kills, pauses, over_s))
            sending = traffic.produce(made.bootstrap, made.prefix, records, per_second=commands / over_s)
            await asyncio.gather(sending, faults)
            await wait(result, ends, traffic.ids_of(records), 120.0, place.say)
        return await conclude(result, made)


async def _faults(made: World, rng: random.Random, kills: int, pauses: int, over_s: float) -> None:
    """Random moments and victims; a victim is never hit while it is still paused, so every fault is one."""
    kinds = ["kill"] * kills + ["pause"] * pauses
    rng.shuffle(kinds)
    moments = sorted(rng.uniform(0.05, 0.95) * over_s for _ in kinds)
    began = time.monotonic()
    for kind, at in zip(kinds, moments, strict=True):
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        victim = rng.choice(sorted(made.lives))
        made.say(f"{kind} {victim} at {time.monotonic() - began:.1f} s")
        if kind == "kill":
            made.kill(victim)
            await made.start(victim, ready=False)
        else:
            made.pause(victim)
            await asyncio.sleep(PAUSE_S)
            made.resume(victim)


async def adoption(place: Place, *, report_s: float = 12.0) -> Result:
    """The one worker is killed while twenty requests are queued and one report is running at the provider."""
    result = Result("killed with 20 queued and one report running")
    async with world(
        place.stack_env, place.folder, sandbox=SANDBOX, settings={**RAISED, **SHORT_LEASES}, connectors=8, say=place.say
    ) as made:
        await made.tell_sandbox("durations", {"reports": {"seconds": report_s}})
        await made.start("w1")
        slow = traffic.own_days(made.accounts[0], 0)
        queued = [traffic.own_days(made.accounts[n % 8], n) for n in range(1, 37)]
        async with watching(made.bootstrap, made.prefix) as ends:
            await _send(made, [slow])
            running = await _running_report(made)
            await made.tell_sandbox("durations", {"reports": {"seconds": 0.5}})
            await _send(made, queued)
            waiting = await inbox.queued(made.bootstrap, made.prefix, at_least=20, of=37)
            state = next(r["state"] for r in await _reports(made) if r["report_id"] == running["report_id"])
            made.kill("w1")
            if len(waiting) < 20 or state != "RUNNING":
                result.problems.append(f"at the kill {len(waiting)} requests were queued and the report was {state}")
            result.figures |= {"queued at the kill": len(waiting)}
            await made.start("w1", ready=False)
            await wait(result, ends, {one["request_id"] for one in [slow, *queued]}, 60.0, place.say)
        what = ("title", "start", "end")
        runs = [r for r in await _reports(made) if all(r[name] == running[name] for name in what)]
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
        creates = [c for c in calls if c["route"] == "reports.create" and c["title"] == running["title"]]
        read = {c["report_id"] for c in calls if c["route"] == "storage.download" and c["status"] == 200}
        if len(runs) != 1 or len(creates) != 1 or running["report_id"] not in read:
            result.problems.append(f"the running report was not adopted: {len(creates)} created, {len(runs)} run")
        return await conclude(result, made)


async def _send(made: World, bodies: list[dict[str, Any]]) -> None:
    records = [traffic.encoded(body, avro=at % 2 == 0) for at, body in enumerate(bodies)]
    await traffic.produce(made.bootstrap, made.prefix, records)


async def _reports(made: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await made.ask_sandbox("reports"))["reports"]
    return found


async def _running_report(made: World) -> dict[str, Any]:
    """The first report that is RUNNING and whose ids the planner has: it was asked for at least once."""
    async with asyncio.timeout(30):
        while True:
            for one in await _reports(made):
                if one["state"] == "RUNNING" and one["polls"] >= 1:
                    return one
            await asyncio.sleep(0.1)


async def sharing(place: Place, *, commands: int = 48, over_s: float = 12.0) -> Result:
    """Two workers: both run steps of the one type, one plans; then each of them is killed in turn."""
    result = Result("two workers share the steps, one plans, either may die")
    async with world(
        place.stack_env,
        place.folder,
        sandbox=SANDBOX,
        settings={**RAISED, **SHORT_LEASES},
        connectors=12,
        say=place.say,
    ) as made:
        await asyncio.gather(made.start("w1"), made.start("w2"))
        bodies = [traffic.own_days(made.accounts[n % 12], n) for n in range(commands)]
        async with watching(made.bootstrap, made.prefix) as ends:
            third = commands // 3
            await _send(made, bodies[:third])
            await wait(result, ends, {b["request_id"] for b in bodies[:third]}, 60.0, place.say)
            await _who_did_what(result, made)
            for victim, part in (("w1", bodies[third : 2 * third]), ("w2", bodies[2 * third :])):
                await _send(made, part)
                await asyncio.sleep(over_s / 6)
                made.kill(victim)
                place.say(f"killed {victim}")
                await wait(result, ends, {b["request_id"] for b in part}, 60.0, place.say)
                await made.start(victim)
        return await conclude(result, made)


async def _who_did_what(result: Result, made: World) -> None:
    workers = await inbox.workers_of_steps(made.bootstrap, made.prefix)
    for life in made.lives.values():
        count = sum(steps for name, steps in workers.items() if f":{life.port}/" in name)
        result.figures[f"steps of {life.name}"] = count
        if count == 0:
            result.problems.append(f"{life.name} ran no fetch step")
    planners = [life.name for life in made.lives.values() if 0 in inbox.planned_by(life.logs[-1])]
    result.figures["planner"] = ", ".join(planners)
    if len(planners) != 1:
        result.problems.append(f"{len(planners)} workers say that they plan DV360: {planners}")


async def plain_client(place: Place) -> Result:
    """JSON lines by a plain client, a dozen broken records between them."""
    result = Result("JSON by a plain client; broken records are put aside with reasons")
    async with world(
        place.stack_env, place.folder, sandbox=SANDBOX, settings=RAISED, connectors=2, say=place.say
    ) as made:
        await made.start("w1")
        good = [traffic.own_days(made.accounts[n % 2], n) for n in range(7)]
        bad = broken.records(made.accounts[0])
        async with watching(made.bootstrap, made.prefix) as ends:
            lines = broken.between([traffic.encoded(body, avro=False) for body in good], [one.record for one in bad])
            await traffic.produce(made.bootstrap, made.prefix, lines)
            await wait(result, ends, {body["request_id"] for body in good}, 60.0, place.say)
        result.problems += await broken.faults(made.bootstrap, made.prefix, bad)
        result.figures |= {"good": len(good), "broken": len(bad)}
        return await conclude(result, made, refusals=len(bad))
