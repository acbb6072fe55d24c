"""What the raw internal topics and the workers' logs say of who did what."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from app.streams.topics import Names
from tests.e2e.gathering import read_topic


async def workers_of_steps(bootstrap: str, prefix: str) -> Counter[str]:
    """Worker's name -> how many steps it reported the outcome of."""
    found: Counter[str] = Counter()
    async for record in read_topic(bootstrap, Names(prefix).planner):
        message = json.loads(record.value)
        if message["k"] == "StepOutcome":
            found[message["v"]["worker"]] += 1
    return found


async def queued(bootstrap: str, prefix: str, *, at_least: int, of: int, within_s: float = 15.0) -> set[str]:
    """Requests whose newest view says ``queued``, once all ``of`` are known and still that many wait; else what there
    is in the end."""
    deadline = time.monotonic() + within_s
    while True:
        states: dict[str, str] = {}
        async for record in read_topic(bootstrap, Names(prefix).requests):
            if record.value is not None:
                states[record.key.decode()] = json.loads(record.value)["state"]
        waiting = {name for name, state in states.items() if state == "queued"}
        if (len(states) >= of and len(waiting) >= at_least) or time.monotonic() > deadline:
            return waiting
        await asyncio.sleep(0.1)


def planned_by(log: Path) -> set[int]:
    """The inbox partitions that a worker's log says it took over last."""
    found: set[int] = set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if "planner_took_over" in line and line.startswith("{"):
            found = set(json.loads(line)["partitions"])
    return found
