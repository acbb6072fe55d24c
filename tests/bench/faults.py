"""F1 and F2 in short: kills and a freeze under load, counted by the checker; ``make spine-test`` is the long form."""

from __future__ import annotations

from tests.bench.measured import Measured
from tests.e2e import scenarios
from tests.e2e.scenarios import Place

TARGETS = {"F1": "0 requests lost, ended twice or in two kinds", "F2": "0 calls over any quota in any window"}


async def measure(place: Place, figure: str) -> Measured:
    """2,000 commands, two kills, one freeze."""
    result = await scenarios.storm(place, commands=2_000, kills=2, pauses=1, over_s=45.0, connectors=6, eras=2)
    mine = [problem for problem in result.problems if problem.startswith(figure)]
    others = [problem for problem in result.problems if problem not in mine]
    detail = {"run": result.name, "problems": mine, "other_problems": others}
    # Another kind of problem voids the count: what stalled has not been counted to its end.
    return Measured(figure, len(mine), TARGETS[figure], not result.problems, detail)
