"""Three workers, one planner: each answers every question alike, also while the owner is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.access import Access, Answer
from tests.e2e.evidence import Account
from tests.e2e.watching import watching
from tests.e2e.world import World, world

pytestmark = pytest.mark.timeout(180)
NAMES = ("w1", "w2", "w3")
BASE = "/api/v1/connectors"
BLOCK = {"route": "reports.*", "fault": "429_retry_after", "seconds": 600}
MOVING = ("as_of", "estimated_wait_seconds", "estimated_wait_p90_seconds")
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


@dataclass(frozen=True)
class Asked:
    """One ended request of an organisation, three that the provider keeps waiting, and one of another's."""

    account: Account
    done: str
    waiting: list[dict[str, Any]]
    foreign: str


async def test_every_worker_gives_the_same_answer(stack: Stack, tmp_path: Path) -> None:
    access = Access(tmp_path)
    async with world(stack.env(), tmp_path, settings=access.settings, connectors=5) as made:
        await asyncio.gather(*(made.start(name) for name in NAMES))
        asked = await _ask(made, access)
        await _reads_are_alike(made, access, asked)
        await _plans_are_alike(made, access, asked)
        owner = await owner_of(made, access)
        await _cancel_from_afar(made, access, asked, owner)
        made.kill(owner)
        await _asked_meanwhile(made, access, asked.waiting[1]["request_id"], asked.account.org_id)
        assert (await owner_of(made, access)) != owner
        queue = await alike(made, access, "/queue", asked.account.org_id)
        assert queue["queue_status"]["total_queued"] == 3
        assert all(part["live"] for part in queue["parts"].values())
        health = (await _own_connector(made, access, asked))["health"]
        assert health["calls"] >= 3, "health moves with the planner"


async def _ask(made: World, access: Access) -> Asked:
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
    return Asked(mine, done["request_id"], waiting, foreign["request_id"])


async def _reads_are_alike(made: World, access: Access, asked: Asked) -> None:
    org_id = asked.account.org_id
    ended = await alike(made, access, f"/requests/{asked.done}", org_id)
    assert (ended["status"], ended["progress"]) == ("completed", 100)
    live = await alike(made, access, f"/requests/{asked.waiting[1]['request_id']}", org_id)
    assert live["waiting"]["reason"] == "quota"
    assert live["queue_position"] in range(1, 5)
    queue = await alike(made, access, "/queue", org_id)
    assert queue["queue_status"]["total_queued"] == 4
    assert queue["queue_status"]["your_requests"] == len(queue["queue_status"]["positions"]) == 3
    assert queue["rate_limits"]["DV360"]["remaining"] == 0
    assert all(part["live"] for part in queue["parts"].values())
    health = (await _own_connector(made, access, asked))["health"]
    assert health["status"] == "healthy"
    assert health["calls"] >= 3
    requests = await alike(made, access, "/requests", org_id)
    assert [r["request_id"] for r in requests["requests"]][-1] == asked.done
    assert len(requests["requests"]) == 4
    for path in (f"/requests/{asked.foreign}", f"/requests/req_{'0' * 32}"):
        assert {a.status for a in await each(made, access, path, org_id)} == {404}


async def _own_connector(made: World, access: Access, asked: Asked) -> dict[str, Any]:
    """The organisation's one connector, as every worker shows it, and no other's."""
    listed = (await alike(made, access, "", asked.account.org_id))["connectors"]
    assert made.accounts[1].connector_id not in {c["id"] for c in listed}
    [connector] = [c for c in listed if c["id"] == asked.account.connector_id]
    found: dict[str, Any] = connector
    return found


async def _plans_are_alike(made: World, access: Access, asked: Asked) -> None:
    body = {
        "connector_id": asked.account.connector_id,
        "report_type": "campaign_performance",
        "date_range": asked.waiting[0]["date_range"],
    }
    path, org_id = BASE + "/fetch?dry_run=true", asked.account.org_id
    plans = [(await access.call(made.lives[name].port, "POST", path, org_id, body)).body for name in NAMES]
    assert still(plans[0]) == still(plans[1]) == still(plans[2])
    assert plans[0]["outcome"] == "merge"


async def _cancel_from_afar(made: World, access: Access, asked: Asked, owner: str) -> None:
    far, org_id = next(name for name in NAMES if name != owner), asked.account.org_id
    gone = f"{BASE}/requests/{asked.waiting[0]['request_id']}"
    for name in (far, owner):
        told = await access.call(made.lives[name].port, "DELETE", gone, org_id)
        assert (told.status, told.body["status"]) == (200, "cancelled")
    late = await access.call(made.lives[far].port, "DELETE", f"{BASE}/requests/{asked.done}", org_id)
    assert (late.status, late.body["type"]) == (409, "/problems/already_ended")


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
