"""GET /connectors/requests: pages, their order and cursors, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from api.rest.app import build_app
from api.rest.request_list import decoded, encoded
from app.domain.messages import RequestView
from app.testing.planning import request_id
from app.testing.rest_world import CONNECTOR, OTHER_ORG, RestWorld, queued

PATH = "/api/v1/connectors/requests"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    return RestWorld()


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


def view(world: RestWorld, number: int, **changes: Any) -> RequestView:
    at = world.clock.now() + number // 2
    return replace(queued(at), request_id=request_id(number), **changes)


async def page(client: Client, world: RestWorld, query: str = "") -> tuple[list[int], str | None, str | None]:
    """Numbers of the requests, the next cursor and the Link header."""
    answer = await client.get(PATH + query, headers=world.headers())
    body = await answer.json()
    assert answer.status == 200, body
    numbers = [int(one["request_id"][4:], 16) for one in body["requests"]]
    return numbers, body["next_cursor"], answer.headers.get("Link")


async def test_pages_follow_one_another_by_cursor_and_by_link(client: Client, world: RestWorld) -> None:
    for number in range(1, 6):
        target = world.views.stored if number % 2 else world.views.views
        target[request_id(number)] = view(world, number)
    world.views.stored[request_id(9)] = view(world, 9, org_id=OTHER_ORG)
    numbers, cursor, link = await page(client, world, "?limit=2")
    assert (numbers, link) == ([5, 4], f'<{PATH}?limit=2&cursor={cursor}>; rel="next"')
    assert link is not None
    numbers, cursor, link = await page(client, world, link[1:].partition(">")[0].removeprefix(PATH))
    assert numbers == [3, 2]
    assert await page(client, world, f"?limit=2&cursor={cursor}") == ([1], None, None)


async def test_a_page_that_ends_with_the_last_request_says_so(client: Client, world: RestWorld) -> None:
    world.views.stored = {request_id(number): view(world, number) for number in (1, 2)}
    assert (await page(client, world, "?limit=2"))[1:] == (None, None)


async def test_twenty_are_shown_unless_asked_otherwise(client: Client, world: RestWorld) -> None:
    world.views.stored = {request_id(number): view(world, number) for number in range(150)}
    assert len((await page(client, world))[0]) == 20
    assert len((await page(client, world, "?limit=100"))[0]) == 100


async def test_the_newer_of_stored_and_held_is_shown_once(client: Client, world: RestWorld) -> None:
    world.views.stored = {
        request_id(1): view(world, 1), request_id(2): view(world, 2, state="failed", revision=5),
    }  # fmt: skip
    world.views.views = {
        request_id(1): view(world, 1, state="completed", revision=2), request_id(2): view(world, 2, revision=4),
    }  # fmt: skip
    body = await (await client.get(PATH, headers=world.headers())).json()
    assert [one["status"] for one in body["requests"]] == ["failed", "completed"]
    assert 1 not in (await page(client, world, "?status=queued"))[0]
    assert (await page(client, world, "?status=completed"))[0] == [1]


async def test_filters_go_with_the_link(client: Client, world: RestWorld) -> None:
    other = "conn_" + "5" * 32
    for number in range(6):
        connector_id, state = (CONNECTOR, "failed") if number % 2 else (other, "queued")
        world.views.stored[request_id(number)] = view(world, number, connector_id=connector_id, state=state)
    query = f"?status=failed&connector_id={CONNECTOR}&limit=2"
    numbers, cursor, link = await page(client, world, query)
    assert (numbers, link) == ([5, 3], f'<{PATH}{query}&cursor={cursor}>; rel="next"')
    bare = "-".join((CONNECTOR[5:13], CONNECTOR[13:17], CONNECTOR[17:21], CONNECTOR[21:25], CONNECTOR[25:]))
    assert (await page(client, world, f"?connector_id={bare}"))[0] == [5, 3, 1]
    assert (await page(client, world, f"?status=queued&connector_id={CONNECTOR}"))[0] == []


async def test_a_page_is_the_committed_bodies(client: Client, world: RestWorld) -> None:
    done = view(world, 1, state="completed", progress=100, waiting=None)
    world.views.views[done.request_id] = done
    [listed] = (await (await client.get(PATH, headers=world.headers())).json())["requests"]
    assert listed == await (await client.get(f"{PATH}/{done.request_id}", headers=world.headers())).json()


async def test_a_page_without_postgresql_would_have_gaps(client: Client, world: RestWorld) -> None:
    world.views.views[request_id(1)] = view(world, 1)
    world.views.away = True
    answer = await client.get(PATH, headers=world.headers())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await answer.json(content_type=None))["type"] == "/problems/view_unavailable"


CURSOR = encoded((1_795_000_000_123, request_id(7)))
REFUSED = [
    ("limit=0", "limit"), ("limit=101", "limit"), ("limit=-1", "limit"), ("limit=1e1", "limit"), ("limit=", "limit"),
    ("limit=%D9%A3", "limit"), ("limit=1&limit=2", "limit"), ("status=", "status"), ("status=Queued", "queued"),
    ("status=quued", "'queued'"), ("connector_id=", "connector_id"), ("connector_id=conn_1", "connector_id"),
    ("connector_id=req_" + "1" * 32, "connector_id"), ("cursor=", "cursor"), ("cursor=abc", "cursor"),
    ("cursor=" + "-" * 32, "cursor"), ("cursor=" + "_" * 32, "cursor"), ("cursor=" + CURSOR[:-1], "cursor"),
    ("cursor=" + CURSOR + "A", "cursor"), ("cursor=" + CURSOR[:-1] + "%00", "cursor"), ("curser=x", "'cursor'"),
    ("page=2", "page"), ("org_id=8", "org_id"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "named"), REFUSED)
async def test_bad_parameters(client: Client, world: RestWorld, query: str, named: str) -> None:
    answer = await client.get(f"{PATH}?{query}", headers=world.headers())
    body = await answer.json(content_type=None)
    assert (answer.status, body["type"]) == (422, "/problems/invalid_parameter")
    assert named in body["detail"]
    assert len(body["errors"]) == 1


async def test_every_bad_parameter_is_named_at_once(client: Client, world: RestWorld) -> None:
    answer = await client.get(f"{PATH}?limit=x&status=x&cursor=x&connector_id=x", headers=world.headers())
    assert len((await answer.json(content_type=None))["errors"]) == 4
    many = "&".join(f"p{number}=" for number in range(500))
    answer = await client.get(f"{PATH}?{many}", headers=world.headers())
    assert len((await answer.json(content_type=None))["errors"]) == 50


@pytest.mark.parametrize(
    "key", [(0, request_id(0)), (1_795_000_000_123, "req_" + "f" * 32), (253_402_300_799_999, request_id(1))]
)
def test_a_cursor_is_a_place(key: tuple[int, str]) -> None:
    assert decoded(encoded(key)) == key
    assert len(encoded(key)) == 32
