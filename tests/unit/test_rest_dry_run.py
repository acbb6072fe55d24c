"""POST /connectors/fetch?dry_run=true: every check, the plan, and nothing published."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from api.rest.app import build_app
from app.testing.rest_world import FOREIGN_CONNECTOR, RestWorld

PATH = "/api/v1/connectors/fetch"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    made = RestWorld(peers_wait_s=0.3)
    made.own_planner()
    return made


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def dry(client: Client, world: RestWorld, query: str = "?dry_run=true", **changes: Any) -> ClientResponse:
    return await client.post(PATH + query, json=world.body(**changes), headers=world.headers())


@pytest.mark.parametrize("value", ["true", "1"])
async def test_the_plan_is_told_and_nothing_is_published(client: Client, world: RestWorld, value: str) -> None:
    answer = await dry(client, world, f"?dry_run={value}")
    body = await answer.json()
    assert answer.status == 200
    assert (body["dry_run"], body["outcome"]) == (True, "queue")
    assert body["days"] == {"asked": 1, "held": 0, "running": 0, "to_fetch": 1}
    assert body["calls"] == {"reports": 3}
    assert body["batches"] == [{"batch_id": None, "start": "2026-01-01", "end": "2026-01-01", "members": 0}]
    assert (body["queue_position"], body["buckets"][0]["calls"]) == (1, 3)
    assert world.publisher.records == []
    assert world.planners["DV360"].queued == 0


@pytest.mark.parametrize("value", ["false", "0"])
async def test_switched_off_it_is_a_fetch(client: Client, world: RestWorld, value: str) -> None:
    answer = await dry(client, world, f"?dry_run={value}")
    assert (answer.status, len(world.publisher.records)) == (200, 1)


@pytest.mark.parametrize(
    "query", ["?dry_run=", "?dry_run=yes", "?dry_run=True", "?dry_run=2", "?dry_run=1&dry_run=1", "?dryrun=1"]
)
async def test_other_values_are_refused(client: Client, world: RestWorld, query: str) -> None:
    answer = await dry(client, world, query)
    body = await answer.json(content_type=None)
    assert (answer.status, body["type"]) == (422, "/problems/invalid_parameter")
    assert "dry_run" in body["detail"]
    assert world.publisher.records == []


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"connector_id": FOREIGN_CONNECTOR}, 404, "not_found"),
        ({"report_type": "nonsense"}, 422, "unknown_report_type"),
        ({"fields": ["nonsense"]}, 422, "unknown_field_name"),
        ({"priority": "premium"}, 403, "priority_not_allowed"),
        ({"request_id": "req_" + "a" * 32}, 422, "unknown_field"),
        ({"date_range": None}, 422, "invalid_date_range"),
    ],
)
async def test_every_check_of_a_fetch_is_made(
    client: Client, world: RestWorld, changes: dict[str, Any], status: int, slug: str
) -> None:
    refused, real = await dry(client, world, **changes), await dry(client, world, "", **changes)
    assert (refused.status, (await refused.json(content_type=None))["type"]) == (status, f"/problems/{slug}")
    assert await refused.read() == await real.read()


async def test_a_key_of_another_body_is_refused(client: Client, world: RestWorld) -> None:
    headers = world.headers() | {"Idempotency-Key": "monday"}
    await client.post(PATH, json=world.body(), headers=headers)
    same = await client.post(PATH + "?dry_run=1", json=world.body(), headers=headers)
    other = await client.post(PATH + "?dry_run=1", json=world.body(fields=["clicks"]), headers=headers)
    assert (same.status, other.status) == (200, 422)
    assert (await other.json(content_type=None))["type"] == "/problems/idempotency_mismatch"
    assert len(world.publisher.records) == 1


async def test_another_worker_has_the_owner_plan(world: RestWorld, client: Client) -> None:
    url = str(client.make_url("")).rstrip("/")
    far = RestWorld(world.clock, world.issuer, world.views, world.connectors, owners={"DV360": url})
    async with TestClient(TestServer(build_app(far.services()))) as other:
        found, here = await dry(other, world), await dry(client, world)
        assert (found.status, found.content_type) == (200, "application/json")
        assert await found.json() == await here.json()


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"dry_run":false}', None])
async def test_a_plan_is_never_guessed(answer: bytes | None) -> None:
    seen: list[tuple[str, str | None]] = []

    async def owner(request: web.Request) -> web.Response:
        seen.append((request.path_qs, request.headers.get("Connector-Forwarded")))
        return web.Response(body=answer, status=503 if answer is None else 200)

    app = web.Application()
    app.router.add_post(PATH, owner)
    world = RestWorld()
    async with TestServer(app) as server, TestClient(TestServer(build_app(world.services()))) as client:
        world.owners = {"DV360": str(server.make_url("")).rstrip("/")}
        found = await dry(client, world)
        assert (found.status, found.headers["Retry-After"]) == (503, "1")
        assert (await found.json(content_type=None))["type"] == "/problems/view_unavailable"
        assert seen == [(PATH + "?dry_run=true", "1")]
        again = await client.post(
            PATH + "?dry_run=1", json=world.body(), headers=world.headers() | {"Connector-Forwarded": "1"}
        )
        assert (again.status, len(seen)) == (503, 1)


async def test_without_an_owner_it_is_503_at_once() -> None:
    world = RestWorld()
    async with TestClient(TestServer(build_app(world.services()))) as client:
        began = time.monotonic()
        assert (await dry(client, world)).status == 503
        assert time.monotonic() - began < 0.5
