"""Three workers, one planner: each answers every question alike, also while the owner is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.access import Access, Answer
from tests.e2e.watching import watching
from tests.e2e.world import World, world

pytestmark = pytest.mark.timeout(180)
NAMES = ("w1", "w2", "w3")
BASE = "/api/v1/connectors"
BLOCK = {"route": "reports.create", "fault": "429_retry_after", "seconds": 600}
MOVING = ("as_of", "estimated_wait_seconds")
"""What differs between two moments, and so between two answers."""


def still(body: Any) -> Any:
    """A body without what moves by itself."""
    if isinstance(body, Mapping):
        return {name: still(value) for name, value in body.items() if name not in MOVING}
    return [still(one) for one in body] if isinstance(body, list) else body


async def each(made: World, access: Access, path: str, org_id: int) -> list[Answer]:
    """The same question to all workers that run, one after the other."""
    ports = [made.lives[name].port for name in NAMES if made.lives[name].wanted]
    return [await access.call(port, "GET", BASE + path, org_id) for port in ports]


async def alike(made: World, access: Access, path: str, org_id: int) -> dict[str, Any]:
    """The one answer that all workers give."""
    answers = await each(made, access, path, org_id)
    assert [a.status for a in answers] == [200] * len(answers), [a.body for a in answers]
    first, *others = [still(a.body) for a in answers]
    for other in others:
        assert other == first
    body: dict[str, Any] = answers[0].body
    return body


async def owner_of(made: World, access: Access) -> str:
    """The worker that owns DV360's planner."""
    for name in NAMES:
        if not made.lives[name].wanted:
            continue
        told = await access.call(made.lives[name].port, "GET", "/internal/planner/DV360", 1)
        if told.status == 200:
            return name
    raise AssertionError("nobody owns it")


async def test_every_worker_gives_the_same_answer(stack: Stack, tmp_path: Path) -> None:
    access = Access(tmp_path)
    async with world(stack.env(), tmp_path, settings=access.settings, connectors=5) as made:
        await asyncio.gather(*(made.start(name) for name in NAMES))
        mine, other = made.accounts[0], made.accounts[1]
        done = traffic.own_days(mine, 0, priority="normal")
        async with watching(made.bootstrap, made.prefix) as ends:
            await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(done, avro=True)])
            await ends.all_of({done["request_id"]}, stall_s=30)
        await made.tell_sandbox("faults", BLOCK)
        waiting = [traffic.own_days(mine, n, priority="normal") for n in (1, 2, 3)]
        foreign = traffic.own_days(other, 4, priority="normal")
        records = [traffic.encoded(body, avro=True) for body in (*waiting, foreign)]
        await traffic.produce(made.bootstrap, made.prefix, records)
        await _all_wait(made, access, mine.org_id, 4)

        ended = await alike(made, access, f"/requests/{done['request_id']}", mine.org_id)
        assert (ended["status"], ended["progress"]) == ("completed", 100)
        live = await alike(made, access, f"/requests/{waiting[1]['request_id']}", mine.org_id)
        assert live["waiting"]["reason"] == "quota"
        assert live["queue_position"] in range(1, 5)
        queue = await alike(made, access, "/queue", mine.org_id)
        assert queue["queue_status"]["total_queued"] == 4
        assert queue["queue_status"]["your_requests"] == len(queue["queue_status"]["positions"]) == 3
        assert queue["rate_limits"]["DV360"]["remaining"] == 0
        assert all(part["live"] for part in queue["parts"].values())
        listed = await alike(made, access, "", mine.org_id)
        [connector] = [c for c in listed["connectors"] if c["id"] == mine.connector_id]
        assert connector["health"]["status"] == "healthy"
        assert connector["health"]["calls"] >= 3
        assert other.connector_id not in {c["id"] for c in listed["connectors"]}
        requests = await alike(made, access, "/requests", mine.org_id)
        assert [r["request_id"] for r in requests["requests"]][-1] == done["request_id"]
        assert len(requests["requests"]) == 4
        for path in (f"/requests/{foreign['request_id']}", f"/requests/req_{'0' * 32}"):
            assert {a.status for a in await each(made, access, path, mine.org_id)} == {404}

        plans = []
        for name in NAMES:
            body = {"connector_id": mine.connector_id, "report_type": "campaign_performance",
                    "date_range": waiting[0]["date_range"]}  # fmt: skip
            port = made.lives[name].port
            plans.append((await access.call(port, "POST", BASE + "/fetch?dry_run=true", mine.org_id, body)).body)
        assert still(plans[0]) == still(plans[1]) == still(plans[2])
        assert plans[0]["outcome"] == "merge"

        owner = await owner_of(made, access)
        far = next(name for name in NAMES if name != owner)
        gone = f"{BASE}/requests/{waiting[0]['request_id']}"
        told = await access.call(made.lives[far].port, "DELETE", gone, mine.org_id)
        assert (told.status, told.body["status"]) == (200, "cancelled")
        again = await access.call(made.lives[owner].port, "DELETE", gone, mine.org_id)
        assert (again.status, again.body["status"]) == (200, "cancelled")
        late = await access.call(made.lives[far].port, "DELETE", f"{BASE}/requests/{done['request_id']}", mine.org_id)
        assert (late.status, late.body["type"]) == (409, "/problems/already_ended")

        made.kill(owner)
        await _asked_meanwhile(made, access, waiting[1]["request_id"], mine.org_id)
        assert (await owner_of(made, access)) != owner
        queue = await alike(made, access, "/queue", mine.org_id)
        assert queue["queue_status"]["total_queued"] == 3
        assert all(part["live"] for part in queue["parts"].values())
        listed = await alike(made, access, "", mine.org_id)
        [connector] = [c for c in listed["connectors"] if c["id"] == mine.connector_id]
        assert connector["health"]["calls"] >= 3, "health moves with the planner"


async def _all_wait(made: World, access: Access, org_id: int, count: int) -> None:
    """Until so many requests are queued, and nothing moves any more."""
    async with asyncio.timeout(30):
        while True:
            told = await access.call(made.lives["w1"].port, "GET", BASE + "/queue", org_id)
            if told.status == 200 and told.body["queue_status"]["total_queued"] == count:
                return
            await asyncio.sleep(0.3)


async def _asked_meanwhile(made: World, access: Access, request_id: str, org_id: int) -> None:
    """Asks the others while the planner has no owner, until somebody has it again: never a wrong answer, never long."""
    ends, live = time.monotonic() + 60, False
    while time.monotonic() < ends and not live:
        for path in (f"/requests/{request_id}", "/queue", "", "/requests"):
            for name in NAMES:
                if not made.lives[name].wanted:
                    continue
                began = time.monotonic()
                told = await access.call(made.lives[name].port, "GET", BASE + path, org_id)
                assert told.status == 200 or (told.status == 503 and told.headers["Retry-After"]), told
                assert time.monotonic() - began < 3.0, (path, time.monotonic() - began)
                if path == "/queue" and told.status == 200:
                    live = all(part["live"] for part in told.body["parts"].values())
        await asyncio.sleep(0.2)
    assert live, "nobody took the planner over"
