"""F14: kill -9 of a worker under load: until the planner's heir permits a call, until the fetch's heir calls."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.streams.topics import Names
from tests.bench.measured import Measured
from tests.e2e import inbox, traffic
from tests.e2e.gathering import read_topic
from tests.e2e.scenarios import RAISED, Place
from tests.e2e.world import World, world

SESSION_S = LEASE_S = 15.0
ALLOWANCE_S = 5.0
KILLS = 3
"""Of each kind: of the worker that plans, and of the one that does not."""
LATENCY_S = 1.0
"""The sandbox answers so slowly that a kill always meets calls under way."""
SETTLE_S = 6.0
_LOAD = 600


async def measure(place: Place, *, kills: int = KILLS) -> Measured:
    """Two workers under a load that lasts; by turns the planning and the other one is killed and started again."""
    settings = {
        **RAISED,
        "CONNECTOR__STREAMS__SESSION_TIMEOUT_S": f"{SESSION_S:g}",
        "CONNECTOR__STREAMS__LEASE_S": f"{LEASE_S:g}",
    }
    options = ("--quota", "reports_day=50000", "--report-seconds", "0.5", "--latency", f"{LATENCY_S:g}")
    async with world(
        place.stack_env, place.folder, sandbox=options, settings=settings, connectors=12, say=place.say
    ) as made:
        await asyncio.gather(made.start("w1"), made.start("w2"))
        bodies = [traffic.own_days(made.accounts[n % 12], n // 12) for n in range(_LOAD)]
        await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(body, avro=True) for body in bodies])
        moments = [await _one_kill(made, planning=number % 2 == 0) for number in range(2 * kills)]
        permits = [
            r.timestamp / 1000
            async for r in read_topic(made.bootstrap, Names(made.prefix).permits)
            if (message := json.loads(r.value))["k"] == "Answer" and message["v"]["denied"] is None
        ]
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
        recoveries = [s for life in made.lives.values() for log in life.logs for s in recovery_seconds(log)]
    first_permits = [first_after(permits, at) for at, planned in moments if planned]
    first_calls = [took for at, _ in moments for took in heirs_calls(calls, at)]
    return judge(first_permits, first_calls, recoveries)


async def _one_kill(made: World, *, planning: bool) -> tuple[float, bool]:
    """Kills the worker that plans, or the other one; unix seconds of the kill. Returns when it is up again."""
    await asyncio.sleep(SETTLE_S)
    planners = [name for name, life in made.lives.items() if 0 in inbox.planned_by(life.logs[-1])]
    victim = next(name for name in made.lives if (name in planners) == planning)
    made.say(f"kill {victim} ({'plans' if planning else 'does not plan'})")
    at = time.time()
    made.kill(victim)
    await asyncio.sleep(SESSION_S + 2 * ALLOWANCE_S)
    await made.start(victim)
    return at, planning


def first_after(instants: Sequence[float], at: float) -> float:
    """Seconds from ``at`` to the first later instant; infinite if there is none."""
    return min((instant - at for instant in instants if instant > at), default=float("inf"))


def heirs_calls(calls: Sequence[Mapping[str, Any]], at: float) -> list[float]:
    """For each batch whose call the kill cut off: seconds from the kill to the batch's next call. A batch is known by
    its query's title and its days, for no other has them."""
    cut = {
        (str(call["title"]), str(call["days"]))
        for call in calls
        if call["status"] == 0
        and call["title"]
        and call["days"]
        and call["arrived_at"] <= at <= call["arrived_at"] + call["took_s"] + 0.5
    }
    return [first_after([c["arrived_at"] for c in calls if (c["title"], c["days"]) == one], at) for one in sorted(cut)]


def recovery_seconds(log: Path) -> list[float]:
    """How long each take-over of a planner took, as a worker's log says."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line)["seconds"] for line in lines if "planner_took_over" in line and line.startswith("{")]


def judge(permits: Sequence[float], calls: Sequence[float], recoveries: Sequence[float]) -> Measured:
    """Medians against the timeouts; no sample of a kind makes the figure void."""
    recovery = statistics.median(recoveries) if recoveries else 0.0
    permit_target, call_target = SESSION_S + ALLOWANCE_S + recovery, LEASE_S + ALLOWANCE_S
    permit = statistics.median(permits) if permits else float("inf")
    call = statistics.median(calls) if calls else float("inf")
    detail = {
        "first_permit_s": [round(one, 1) for one in permits],
        "first_call_s": [round(one, 1) for one in calls],
        "median_recovery_s": round(recovery, 2),
        "session_timeout_s": SESSION_S,
        "lease_s": LEASE_S,
    }
    return Measured(
        "F14",
        {"first_permit_s": round(permit, 1), "first_call_s": round(call, 1)},
        f"first permit <= {permit_target:.1f} s; first call of the same batch <= {call_target:g} s",
        permit <= permit_target and call <= call_target,
        detail,
    )
