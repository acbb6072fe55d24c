"""GET /connectors, GET /connectors/queue and live requests at the worker that owns the planner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from api.rest.app import build_app
from api.rest.services import StatusBodies
from app.domain.health import Health, record
from app.services.parts import LastHeard, Part, queue_body
from app.testing.planning import accept, request_id
from app.testing.rest_world import CONNECTOR, FOREIGN_CONNECTOR, ORG, OTHER_ORG, RestWorld, facts, queued

BASE = "/api/v1/connectors"
DAY = 739_600
SECOND = "conn_" + "0" * 31 + "5"
UNKNOWN = {"status": "unknown", "last_check": None, "latency_ms": None, "error_rate": None, "calls": 0}
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    made = RestWorld()
    made.own_planner()
    return made


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def body_of(client: Client, world: RestWorld, path: str, **headers: Any) -> dict[str, Any]:
    answer = await client.get(BASE + path, headers=world.headers(**headers))
    assert answer.status == 200, await answer.text()
    body: dict[str, Any] = await answer.json()
    return body


async def test_connectors_have_the_whole_body_in_order_of_id(client: Client, world: RestWorld) -> None:
    world.connectors.add(
        replace(facts(SECOND, status="paused", time_zone="Europe/Berlin", currency="EUR"), account_id="b")
    )
    world.connectors.add(facts("conn_" + "4" * 32, deleted=True))
    now = world.clock.now()
    calls = record(record(Health(), now, 240, ok=True), now, 250, ok=False)
    world.planners["DV360"].health[CONNECTOR] = calls
    body = await body_of(client, world, "")
    bucket = {"limit": 100, "remaining": 0, "reset_at": "2026-01-01T00:01:00.000Z", "bucket": "per_second"}
    health = {
        "status": "unhealthy", "last_check": "2026-01-01T00:00:00.000Z", "latency_ms": 245, "error_rate": 0.5,
        "calls": 2,
    }  # fmt: skip
    assert body["connectors"] == [
        {
            "id": SECOND, "type": "DV360", "account_id": "b", "status": "paused", "health": UNKNOWN,
            "rate_limit": bucket, "time_zone": "Europe/Berlin", "currency": "EUR",
        },
        {
            "id": CONNECTOR, "type": "DV360", "account_id": "acc", "status": "connected", "health": health,
            "rate_limit": bucket, "time_zone": "UTC", "currency": None,
        },
    ]  # fmt: skip
    assert body["parts"] == {"DV360": {"live": True, "as_of": "2026-01-01T00:00:00.000Z"}}


async def test_an_organisation_without_connectors(client: Client, world: RestWorld) -> None:
    assert await body_of(client, world, "", org_id=99) == {"connectors": [], "parts": {}}
    queue = await body_of(client, world, "/queue", org_id=99)
    assert queue["queue_status"] == {
        "total_queued": 0, "your_requests": 0, "positions": [], "estimated_wait_seconds": 0.0,
    }  # fmt: skip
    assert (queue["rate_limits"], queue["requests"]) == ({}, [])
    assert queue["parts"]["DV360"]["live"] is True


async def test_a_connector_without_an_adapter_is_told_without_numbers(client: Client, world: RestWorld) -> None:
    world.connectors.add(replace(facts(SECOND), connector_type="TTD"))
    body = await body_of(client, world, "")
    assert (body["connectors"][0]["health"], body["connectors"][0]["rate_limit"]) == (UNKNOWN, None)
    assert body["parts"]["TTD"] == {"live": False, "as_of": None}


async def test_nobody_knows_the_connectors(client: Client, world: RestWorld) -> None:
    world.connectors.away = True
    for path in (BASE, BASE + "/queue", "/internal/planner/DV360"):
        answer = await client.get(path, headers=world.headers())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_the_queue_counts_everybody_and_names_the_callers(client: Client, world: RestWorld) -> None:
    other = facts(FOREIGN_CONNECTOR, OTHER_ORG)
    await world.decide(accept(1, DAY, DAY, connector=other, priority_class=1))
    await world.decide(accept(2, DAY, DAY, connector=facts(), priority_class=2))
    await world.decide(accept(3, DAY + 2, DAY + 3, connector=facts(), priority_class=3))
    body = await body_of(client, world, "/queue")
    status = body["queue_status"]
    assert (status["total_queued"], status["your_requests"], status["positions"]) == (3, 2, [2, 3])
    assert body["rate_limits"]["DV360"]["remaining"] == 0
    assert body["requests"][0] == {
        "request_id": request_id(2), "connector_id": CONNECTOR, "connector_type": "DV360",
        "request_type": "fetch", "report_type": "campaign_performance", "target": None,
        "priority": "normal", "status": "queued", "queue_position": 2,
        "estimated_wait_seconds": body["requests"][0]["estimated_wait_seconds"],
        "estimated_wait_p90_seconds": body["requests"][0]["estimated_wait_p90_seconds"],
        "waiting": body["requests"][0]["waiting"],
    }  # fmt: skip
    foreign = await body_of(client, world, "/queue", org_id=OTHER_ORG)
    assert [r["request_id"] for r in foreign["requests"]] == [request_id(1)]


def part(places: list[int], wait_s: float, share: float, *, live: bool = True, total: int = 5) -> Part:
    requests = [{"request_id": f"{wait_s}/{place}", "queue_position": place} for place in places]
    limit = {"limit": 100, "remaining": share * 100}
    queue = {
        "total_queued": total, "your_requests": len(places), "positions": places, "estimated_wait_seconds": wait_s,
        "requests": requests[:100],
    }  # fmt: skip
    connectors = {CONNECTOR: {"health": UNKNOWN, "rate_limit": limit}, SECOND: {"health": UNKNOWN, "rate_limit": None}}
    return Part({"as_of": "2026-01-01T00:00:00.000Z", "queue": queue, "connectors": connectors}, live)


def test_queues_of_several_types_are_one_best_first() -> None:
    parts = {
        "DV360": part([2, 7], 10.0, 0.5),
        "META": part([1, 3], 65.0, 0.2, live=False),
        "TTD": Part(None, live=False),
    }
    mine = [facts(), replace(facts(SECOND), connector_type="TTD")]
    body = queue_body(mine, parts)
    assert body["queue_status"] == {
        "total_queued": 10, "your_requests": 4, "positions": [1, 2, 3, 7], "estimated_wait_seconds": 65.0,
    }  # fmt: skip
    assert [r["request_id"] for r in body["requests"]] == ["65.0/1", "10.0/2", "65.0/3", "10.0/7"]
    assert body["rate_limits"] == {"DV360": {"limit": 100, "remaining": 50.0}}
    assert body["parts"] == {
        "DV360": {"live": True, "as_of": "2026-01-01T00:00:00.000Z"},
        "META": {"live": False, "as_of": "2026-01-01T00:00:00.000Z"},
        "TTD": {"live": False, "as_of": None},
    }


def test_the_answer_names_a_hundred_and_counts_all() -> None:
    body = queue_body([], {"DV360": part(list(range(1, 151)), 1.0, 1), "META": part(list(range(1, 151)), 2.0, 1)})
    assert (body["queue_status"]["your_requests"], len(body["queue_status"]["positions"])) == (300, 300)
    assert [r["queue_position"] for r in body["requests"]] == [place // 2 for place in range(2, 102)]


def test_the_bucket_with_the_least_left_share_is_told() -> None:
    told = {"limit": 10, "remaining": 4}, {"limit": 1000, "remaining": 300}
    connectors = {
        name: {"health": UNKNOWN, "rate_limit": limit} for name, limit in zip((CONNECTOR, SECOND), told, strict=True)
    }
    found = part([], 0.0, 1).told
    assert found is not None
    body = queue_body([facts(), facts(SECOND)], {"DV360": Part({**found, "connectors": connectors}, live=True)})
    assert body["rate_limits"] == {"DV360": told[1]}


def test_what_was_heard_is_kept_for_a_bounded_number_of_callers() -> None:
    heard, told = LastHeard(most=2), part([], 0.0, 1).told
    assert heard.part(1, "DV360", None) == Part(None, live=False)
    assert heard.part(1, "DV360", told) == Part(told, live=True)
    assert heard.part(2, "DV360", told) == Part(told, live=True)
    assert heard.part(1, "DV360", None) == Part(told, live=False)
    assert heard.part(1, "META", told) == Part(told, live=True)
    assert [heard.part(org, "DV360", None).told for org in (1, 2)] == [told, None]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("?org_id=8", "there is no parameter 'org_id'"),
        ("/queue?x=1&y=2", "there is no parameter 'x'; there is no parameter 'y'"),
        ("/queue?", None),
    ],
)
async def test_unknown_parameters_are_refused(client: Client, world: RestWorld, path: str, detail: str | None) -> None:
    answer = await client.get(BASE + path, headers=world.headers())
    body = await answer.json(content_type=None)
    assert answer.status == (200 if detail is None else 422)
    assert body.get("detail") == detail


@pytest.mark.parametrize("path", ["", "/queue", "/requests"])
async def test_reading_needs_its_scope(client: Client, world: RestWorld, path: str) -> None:
    assert (await client.get(BASE + path)).status == 401
    assert (await client.get(BASE + path, headers=world.headers("fetch"))).status == 403
    for method in ("HEAD", "OPTIONS", "PUT"):
        answer = await client.request(method, BASE + path, headers=world.headers())
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")


async def test_a_live_request_is_told_as_it_stands_now(client: Client, world: RestWorld) -> None:
    await world.decide(accept(1, DAY, DAY, connector=facts()))
    path = f"/requests/{request_id(1)}"
    first = await body_of(client, world, path)
    world.clock.advance(20)
    later = await body_of(client, world, path)
    moved = {name for name in first if first[name] != later[name]}
    assert moved == {"as_of", "estimated_wait_seconds", "estimated_wait_p90_seconds"}
    assert (later["as_of"], later["estimated_wait_seconds"]) == ("2026-01-01T00:00:20.000Z", 40.0)
    assert (later["queue_position"], later["status"], later["connector_id"]) == (1, "queued", CONNECTOR)
    assert later["waiting"]["reason"] == "quota"


async def test_a_request_that_the_planner_has_ended_is_told_as_committed(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now()))
    body = await body_of(client, world, f"/requests/{queued(0).request_id}")
    assert (body["as_of"], body["queue_position"], body["estimated_wait_seconds"]) == (None, 3, 45.0)


async def test_another_organisations_live_request_is_unknown(client: Client, world: RestWorld) -> None:
    await world.decide(accept(1, DAY, DAY, connector=facts(FOREIGN_CONNECTOR, OTHER_ORG)))
    answer = await client.get(f"{BASE}/requests/{request_id(1)}", headers=world.headers(org_id=ORG))
    assert answer.status == 404


def test_bodies_of_live_requests_follow_their_views_and_are_bounded() -> None:
    bodies, view = StatusBodies(most_living=2), queued(0)
    assert b'"progress":0' in bodies.living(view, {})
    assert b'"progress":5' in bodies.living(view, {"progress": 5})
    assert b'"progress":7' in bodies.living(replace(view, progress=7), {"as_of": None})
    for number in range(4):
        bodies.living(replace(view, request_id=request_id(number)), {})
    assert len(bodies._living) == 2
