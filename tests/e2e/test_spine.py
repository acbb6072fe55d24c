"""The spine's promises in short form: real servers, a sandbox, workers as processes; the outside checker judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import Stack
from tests.e2e import points, scenarios
from tests.e2e.scenarios import Place, Result

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def place(stack: Stack, tmp_path: Path) -> Place:
    return Place(stack.env(), tmp_path, seed=1, say=print)


def accept(result: Result) -> None:
    """Fails with everything that was found."""
    print(result.name, result.figures)
    print(result.summary)
    assert result.problems == []


async def test_a_start_over_a_backlog_handles_all_of_it(place: Place) -> None:
    accept(await scenarios.backlog(place, commands=3_000, connectors=10, stall_s=60.0))


async def test_kills_and_a_freeze_lose_nothing_and_double_nothing(place: Place) -> None:
    accept(await scenarios.storm(place, commands=1_500, kills=2, pauses=1, over_s=32.0, connectors=6, eras=2))


async def test_a_running_report_is_adopted_after_a_kill(place: Place) -> None:
    accept(await scenarios.adoption(place))


@pytest.mark.long
async def test_two_workers_share_the_steps_and_either_may_die(place: Place) -> None:
    accept(await scenarios.sharing(place, commands=24, over_s=6.0))


async def test_deaths_at_crash_points_lose_nothing_and_cost_a_call_at_most(place: Place) -> None:
    """One point at each seam, since a death takes 17 s: the planner's transaction, the provider's call, into the result
    store. ``make spine-test`` has them all."""
    seams = ["transaction_sent", "request_sent", "object_written"]
    accept(await points.points(place, points.deaths(1, seams)))


async def test_plain_json_is_served_and_broken_records_are_put_aside(place: Place) -> None:
    accept(await scenarios.plain_client(place))
