"""DELETE /connectors/requests/{id}: what is published, what is waited for, and what is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from uuid_utils import uuid7

from api.rest import requests
from api.rest.app import build_app
from app.domain.commands import CancelCommand, parse
from app.streams.wire import decode_command
from app.testing.planning import accept, request_id
from app.testing.rest_world import CONNECTOR, ORG, OTHER_ORG, REQUEST, RestWorld, facts, queued

PATH = "/api/v1/connectors/requests/"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    return RestWorld()


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def delete(client: Client, world: RestWorld, name: str = REQUEST, **caller: Any) -> tuple[int, dict[str, Any]]:
    answer = await client.delete(PATH + name, headers=world.headers(**caller))
    return answer.status, await answer.json(content_type=None)


def published(world: RestWorld) -> list[CancelCommand]:
    commands = [parse(decode_command(value)) for _, value, _ in world.publisher.records]
    return [command for command in commands if isinstance(command, CancelCommand)]


async def test_a_queued_request_is_cancelled(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now()))
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = await client.delete(PATH + REQUEST, headers=world.headers() | {"traceparent": trace})
    body = await answer.json()
    assert (answer.status, body["status"], body["request_id"]) == (200, "cancelled", REQUEST)
    assert published(world) == [CancelCommand(REQUEST, ORG, CONNECTOR)]
    key, value, headers = world.publisher.records[0]
    assert (key, value[:2], list(headers)) == (CONNECTOR, b"\xc3\x01", [("traceparent", trace.encode())])


async def test_a_cancelled_request_is_cancelled_again_for_nothing(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now(), state="cancelled"))
    status, body = await delete(client, world)
    assert (status, body["status"], published(world)) == (200, "cancelled", [])


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_what_has_ended_otherwise_stays_so(client: Client, world: RestWorld, state: str) -> None:
    await world.views.put(queued(world.clock.now(), state=state))
    status, body = await delete(client, world)
    assert (status, body["type"], body["detail"]) == (
        409,
        "/problems/already_ended",
        f"the request has {state} already",
    )
    assert (body["request_id"], published(world)) == (REQUEST, [])


@pytest.mark.parametrize(("state", "expected"), [("cancelled", 200), ("completed", 409), ("failed", 409)])
async def test_the_planners_order_decides(client: Client, world: RestWorld, state: str, expected: int) -> None:
    world.publisher.cancels, world.decide_within_s = False, 2.0
    await world.views.put(queued(world.clock.now()))
    async with TestClient(TestServer(build_app(world.services()))) as patient:
        asked = asyncio.create_task(delete(patient, world))
        await asyncio.sleep(0.05)
        await world.views.put(queued(world.clock.now(), state="running", revision=2))
        await asyncio.sleep(0.05)
        assert not asked.done()
        await world.views.put(queued(world.clock.now(), state=state, revision=3))
        assert (await asked)[0] == expected


async def test_nothing_decided_is_202_with_the_state_as_it_is(client: Client, world: RestWorld) -> None:
    world.publisher.cancels = False
    await world.views.put(queued(world.clock.now(), state="running", progress=50))
    began = time.monotonic()
    status, body = await delete(client, world)
    assert (status, body["status"], body["progress"], body["as_of"]) == (202, "running", 50, None)
    assert time.monotonic() - began < 1.0


async def test_nothing_decided_on_what_only_the_history_has(client: Client, world: RestWorld) -> None:
    world.views.stored[REQUEST] = queued(world.clock.now())
    status, body = await delete(client, world)
    assert (status, body["status"], len(published(world))) == (202, "queued", 1)


async def test_what_was_published_here_can_be_cancelled_before_it_is_decided(client: Client, world: RestWorld) -> None:
    world.publisher.decides = None
    posted: ClientResponse = await client.post("/api/v1/connectors/fetch", json=world.body(), headers=world.headers())
    name = (await posted.json())["request_id"]
    status, body = await delete(client, world, name)
    assert (posted.status, status, body["status"], body["request_id"]) == (202, 202, "queued", name)
    assert published(world) == [CancelCommand(name, ORG, CONNECTOR)]
    assert (await delete(client, world, name, org_id=OTHER_ORG))[0] == 404
    await world.views.put(replace(queued(world.clock.now()), request_id=name, state="cancelled"))
    assert (await delete(client, world, name))[0] == 200
    assert len(published(world)) == 1


@pytest.mark.parametrize("name", [REQUEST, "req_" + "c" * 32, "nonsense", "conn_" + "a" * 32])
@pytest.mark.parametrize("state", ["queued", "completed", "cancelled"])
async def test_foreign_and_unknown_requests_get_one_answer(
    client: Client, world: RestWorld, name: str, state: str
) -> None:
    await world.views.put(queued(world.clock.now(), org_id=OTHER_ORG, state=state))
    status, body = await delete(client, world, name)
    assert (status, body["type"], world.publisher.records) == (404, "/problems/not_found", [])


async def test_a_young_id_is_waited_for(client: Client, world: RestWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WAIT_S", 0.2)
    name = f"req_{uuid7(nanoseconds=world.clock.now() * 1_000_000).hex}"
    asked = asyncio.create_task(delete(client, world, name))
    await asyncio.sleep(0.05)
    await world.views.put(replace(queued(world.clock.now()), request_id=name))
    assert (await asked)[0] == 200


async def test_no_broker_is_503(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now()))
    world.publisher.away = True
    answer = await client.delete(PATH + REQUEST, headers=world.headers())
    body = await answer.json(content_type=None)
    assert (answer.status, body["type"], answer.headers["Retry-After"]) == (503, "/problems/broker_unavailable", "5")


async def test_nobody_knows_is_503(client: Client, world: RestWorld) -> None:
    world.views.away = True
    assert (await delete(client, world))[1]["type"] == "/problems/view_unavailable"


async def test_cancelling_needs_the_scope_to_fetch_and_takes_no_parameters(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now()))
    assert (await delete(client, world, scope="connectors:read"))[0] == 403
    assert (await client.delete(PATH + REQUEST)).status == 401
    assert (await delete(client, world, REQUEST + "?force=true"))[0] == 422
    assert published(world) == []
    for method in ("PUT", "HEAD", "OPTIONS"):
        answer = await client.request(method, PATH + REQUEST)
        assert (answer.status, answer.headers["Allow"]) == (405, "DELETE,GET")


async def test_a_real_planner_ends_what_it_is_told_to(world: RestWorld) -> None:
    """The command as it is published, taken by the planner's own rules."""
    from app.domain.messages import Cancel

    world.own_planner()
    await world.decide(accept(1, 739_600, 739_600, connector=facts()))
    async with TestClient(TestServer(build_app(world.services()))) as client:
        world.publisher.cancels = False
        assert (await delete(client, world, request_id(1)))[0] == 202
        [command] = published(world)
        await world.decide(Cancel(command.request_id, command.org_id, command.connector_id))
        assert (await delete(client, world, request_id(1)))[0] == 200
