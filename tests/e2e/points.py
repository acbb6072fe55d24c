"""Deaths at every named crash point, one after the other in one world: nothing is lost, doubled or paid for twice.

Each death has commands of its own, overlapping ones, of which it is known how many reports they need. A worker starts
armed over them, must die at the point, and is started again unarmed. One step at a time runs (``MAX_CONCURRENT``), so
that a death disturbs one step and its price can be told: what the calls are more than those of the same commands
undisturbed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.config_sections import CRASH_POINTS
from tests.e2e import traffic
from tests.e2e.scenarios import RAISED, SANDBOX, SHORT_LEASES, Place, Result, conclude, wait
from tests.e2e.watching import watching
from tests.e2e.world import World, quiet, world

ONE_STEP = {"CONNECTOR__QUEUE__MAX_CONCURRENT": "1"}
COUNTED = "reports"
"""The sandbox's name of what a quota counts; a file behind a signed link and a token are no such calls."""

CALLING = frozenset({"request_sent", "response_begun", "object_spooled"})
"""A death here leaves a call whose outcome nobody has: it is made again."""

PAID = frozenset({"object_written", "outcome_sent"})
"""A death here costs no call whatever: the heir finds the object, or the outcome."""

ANY_TIME = frozenset({"offset_committed", "consumed", "transaction_sent", "committed"})
"""Faust commits by its clock, and the planner steps while a fetch calls: at which passing a call of the same process is
under way, and cut off with it, is a matter of time."""

FIRST_PASSING = {"consumed": 3, "transaction_sent": 3, "committed": 3}
"""The first steps of a planner that takes over hold no command yet."""

ONE_PASSING = frozenset({"in_inbox", "merged"})
"""Intake takes all commands of a death in one go, and the planner may."""

DIED_AT_A_POINT = 137
REACHED_S = 45.0
ENDED_S = 60.0


@dataclass(frozen=True, slots=True)
class Death:
    """A crash point and which passing of it is the last."""

    point: str
    passing: int

    def __str__(self) -> str:
        return f"{self.point}:{self.passing}"


def deaths(each: int, names: Sequence[str] = CRASH_POINTS) -> list[Death]:
    """``each`` deaths at each point, where there can be, at one passing after the other."""
    later = {name: 0 if name in ONE_PASSING else 1 for name in names}
    return [Death(name, FIRST_PASSING.get(name, 1) + at * later[name]) for name in names for at in range(each)]


async def points(place: Place, wanted: Sequence[Death]) -> Result:
    """One worker dies at each of the wanted points in turn."""
    result, rng = Result(f"{len(wanted)} deaths at crash points (seed {place.seed})"), random.Random(place.seed)
    settings = {**RAISED, **SHORT_LEASES, **ONE_STEP}
    sandbox = (*SANDBOX, "--report-seconds", "0.1")
    async with world(
        place.stack_env, place.folder, sandbox=sandbox, settings=settings, connectors=3, say=place.say
    ) as made:
        async with watching(made.bootstrap, made.prefix) as ends:
            usual = await _undisturbed(result, made, ends, rng)
            for number, death in enumerate(wanted, 2):
                if any(problem.startswith("stalled") for problem in result.problems):
                    break  # what still waits would be counted with the next death's
                began = time.monotonic()
                calls = await _round(result, made, ends, traffic.nested(made.accounts, number, rng), death)
                extra = calls - usual
                made.say(f"{death}: {_told(extra) or 'no call'} more, {time.monotonic() - began:.0f} s")
                _judge(result, death, extra)
        # The call that a death cut off is written when it must have ended: a planner has to be there then.
        await made.start("w1")
        return await conclude(result, made)


async def _undisturbed(result: Result, made: World, ends: Any, rng: random.Random) -> Counter[str]:
    """The first commands make the queries that all later ones run."""
    reports = len(made.accounts) * len(traffic.REPORT_TYPES)
    usual = Counter[str]()
    for number, routes in enumerate((("create", "run", "status"), ("run", "status"))):
        began = time.monotonic()
        usual = await _round(result, made, ends, traffic.nested(made.accounts, number, rng), None)
        made.say(f"undisturbed: {_told(usual)}, {time.monotonic() - began:.0f} s")
        wanted = {f"reports.{route}": reports for route in routes}
        if usual != wanted:
            result.problems.append(f"the commands need {_told(Counter(wanted))}, not {_told(usual)}")
    return usual


async def _round(
    result: Result, made: World, ends: Any, bodies: Sequence[dict[str, Any]], death: Death | None
) -> Counter[str]:
    """The calls by route that these commands cost, with a death on the way or without."""
    before = len(await _calls(made))
    records = [traffic.encoded(body, avro=at % 2 == 0) for at, body in enumerate(bodies)]
    await traffic.produce(made.bootstrap, made.prefix, records)
    if death is not None:
        await _die(result, made, death)
    await made.start("w1", ready=False)
    await wait(result, ends, {body["request_id"] for body in bodies}, ENDED_S, quiet)
    await made.stop("w1")
    return Counter(call["route"] for call in (await _calls(made))[before:] if call["quota_group"] == COUNTED)


async def _calls(made: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await made.ask_sandbox("calls", since=0))["calls"]
    return found


async def _die(result: Result, made: World, death: Death) -> None:
    life, began = await made.start("w1", ready=False, CONNECTOR__STREAMS__CRASH_AT=str(death)), time.monotonic()
    while made.alive("w1"):
        if time.monotonic() - began > REACHED_S:
            made.kill("w1")
            break
        await asyncio.sleep(0.1)
    code = made.processes.exit_code(life.process)
    if code != DIED_AT_A_POINT:
        result.problems.append(f"{death} was not reached: the worker ended with {code}")


def _judge(result: Result, death: Death, extra: Counter[str]) -> None:
    """What a death cost. Subtracting counters has left out what was less than usual."""
    first = death.passing == FIRST_PASSING.get(death.point, 1)
    half_done = death.point in CALLING or death.point in ANY_TIME or not first
    most = int(half_done and death.point not in PAID)
    if extra.total() > most:
        result.problems.append(f"{death} cost {_told(extra)} more than undisturbed, at most {most} may be")
    result.figures[str(death)] = result.figures.get(str(death), 0) + extra.total()


def _told(calls: Counter[str]) -> str:
    return ", ".join(f"{count} {route}" for route, count in sorted(calls.items()))
