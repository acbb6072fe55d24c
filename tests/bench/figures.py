"""``python -m tests.bench.figures F13`` (or ``all``): measures figures of the specification on a stack of its own.

Each ends with one JSON line; the exit code is 0 only when all that was measured met its target. Progress goes to
standard error. How each is measured: docs/reference/figures.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from deploy.local import Stack
from tests.bench import decisions, faults, handover, idle, latency, planning_figures, reading, status_reads
from tests.bench.measured import Measured
from tests.e2e.scenarios import Place
from tests.e2e.world import loud

Measure = Callable[[Place], Awaitable[Measured]]

MEASURES: Mapping[str, Measure] = {
    "F1": lambda place: faults.measure(place, "F1"),
    "F2": lambda place: faults.measure(place, "F2"),
    "F3": lambda _place: asyncio.to_thread(planning_figures.f3, loud),
    "F4": lambda _place: asyncio.to_thread(planning_figures.f4, loud),
    "F5": lambda _place: asyncio.to_thread(planning_figures.f5, loud),
    "F7": decisions.measure,
    "F8": latency.measure,
    "F9": status_reads.measure,
    "F11": reading.measure,
    "F13": idle.measure,
    "F14": handover.measure,
}
ALONE = ("F3", "F4", "F5", "F7", "F11")
"""Measured on the code alone, without a stack."""
LATER: Mapping[str, str] = {
    "F6": ">= 0.1 of a bare aiokafka loop",
    "F10": "1 refresh per expiry; <= 2 with a kill",
    "F12": "changelog <= 3 x live rows; >= 7,000 rows/s to ready",
    "F15": "0 duplicate keys, 0 lost columns, 0 differing cells",
}
"""Figures whose parts are not built yet: named, so that nobody takes silence for a pass."""


def not_yet(figure: str) -> Measured:
    """What is said of a figure that cannot be measured yet."""
    return Measured(figure, None, LATER[figure], ok=False, detail={"note": "not yet measurable"})


def table(results: list[Measured]) -> str:
    """One line per figure for people."""
    rows = [("figure", "measured", "target", "ok")]
    rows += [(r.figure, str(r.measured if r.measured is not None else "not yet"), r.target, str(r.ok)) for r in results]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


async def measure(names: list[str], place: Place) -> list[Measured]:
    """One after the other; each result's line is printed as soon as it is there."""
    results = []
    for name in names:
        if name in MEASURES:
            loud(f"{name}: measuring")
            results.append(await MEASURES[name](place))
        else:
            results.append(not_yet(name))
        sys.stdout.write(results[-1].line() + "\n")
        sys.stdout.flush()
    return results


def main() -> int:
    """Exit code 0 only when every figure that can be measured met its target."""
    known = sorted({*MEASURES, *LATER}, key=lambda name: int(name[1:]))
    parser = argparse.ArgumentParser(prog="python -m tests.bench.figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", choices=[*known, "all"])
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    names = known if given.figure == "all" else [given.figure]
    results = asyncio.run(_on_a_stack(names, given.seed))
    if given.figure == "all":
        sys.stderr.write(table(results))
        return 0 if all(result.ok for result in results if result.measured is not None) else 1
    return 0 if results[0].ok else 1


async def _on_a_stack(names: list[str], seed: int) -> list[Measured]:
    folder = Path(tempfile.mkdtemp(prefix="connector-figures-"))
    if not any(name in MEASURES and name not in ALONE for name in names):
        return await measure(names, Place({}, folder, seed))
    stack = await asyncio.to_thread(lambda: Stack.start(folder / "stack", report=loud))
    try:
        loud(f"broker: {stack.broker_name}; seed {seed}; logs in {folder}")
        return await measure(names, Place(stack.env(), folder, seed, loud))
    finally:
        await asyncio.to_thread(lambda: stack.stop(keep_data=False))


if __name__ == "__main__":
    sys.exit(main())
