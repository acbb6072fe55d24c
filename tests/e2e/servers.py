"""One server after the other is killed under load and comes back on its data."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from deploy.local import Stack
from tests.e2e import scenarios, traffic
from tests.e2e.scenarios import Place, Result
from tests.e2e.traffic import Mix
from tests.e2e.watching import watching
from tests.e2e.world import World, world

AWAY_S = {"postgres": 12.0, "redis": 12.0, "kafka": 6.0}


async def run(
    stack: Stack, place: Place, *, commands: int = 2_000, names: Sequence[str] = ("postgres", "redis", "kafka")
) -> Result:
    """Two workers and steady commands while PostgreSQL, Valkey and the broker are killed and restarted in turn."""
    result, rng = Result(f"{', '.join(names)} killed in turn (seed {place.seed})"), random.Random(place.seed)
    over_s = sum(AWAY_S[name] for name in names) + 10.0 * len(names)
    async with world(
        place.stack_env, place.folder, sandbox=scenarios.SANDBOX,
        settings={**scenarios.RAISED, **scenarios.SHORT_LEASES},
        connectors=6, say=place.say,
    ) as made:  # fmt: skip
        records = list(traffic.overlapping(made.accounts, Mix(commands, eras=3, span_days=30), rng))
        await asyncio.gather(made.start("w1"), made.start("w2"))
        async with watching(made.bootstrap, made.prefix) as ends, scenarios.supervised(made):
            faults = asyncio.create_task(_faults(stack, made, names))
            sending = traffic.produce(made.bootstrap, made.prefix, records, per_second=commands / over_s)
            await asyncio.gather(sending, faults)
            await scenarios.wait(result, ends, traffic.ids_of(records), 120.0, place.say)
        return await scenarios.conclude(result, made)


async def _faults(stack: Stack, made: World, names: Sequence[str]) -> None:
    for name in names:
        await asyncio.sleep(5.0)
        made.say(f"{name} is killed")
        await asyncio.to_thread(stack.kill, name)
        await asyncio.sleep(AWAY_S[name])
        await asyncio.to_thread(stack.restart, name)
        made.say(f"{name} is back")
        await asyncio.sleep(5.0)
