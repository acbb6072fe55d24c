"""docs/reference/rest.md against the service: the same routes, scopes and statuses; examples with the same fields."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from api.rest import request_list
from api.rest.app import ROUTES, build_app
from api.rest.problem import CATALOGUE
from app.domain.health import Health, record
from app.testing.planning import accept, request_id
from app.testing.rest_world import CONNECTOR, FOREIGN_CONNECTOR, OTHER_ORG, RestWorld, facts

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## `(?P<route>[A-Z]+ /\S+)`\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {found["route"]: found["text"] for found in HEADING.finditer(PAGE)}
EXAMPLE = re.compile(r"^`(?P<asked>[A-Z]+ [^`]+)`\n\n```json\n(?P<body>.*?)```$", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"^\| (?P<status>\d{3}) \| (?P<what>.*) \|$", re.MULTILINE)
DAY = 739_617
DONE, WAITS = request_id(1), request_id(2)
Client = TestClient[Any, Any]


@pytest.fixture
async def world() -> RestWorld:
    """A request that has ended, two that wait, one of another organisation."""
    made = RestWorld()
    state = made.own_planner()
    now = made.clock.now()
    calls = record(record(Health(), now - 60_000, 210, ok=True), now, 280, ok=True)
    state.health[CONNECTOR] = calls
    made.connectors.add(facts(currency="EUR", time_zone="Europe/Berlin"))
    mine = facts(currency="EUR", time_zone="Europe/Berlin")
    await made.decide(
        accept(4, DAY, DAY, connector=facts(FOREIGN_CONNECTOR, OTHER_ORG), priority_class=1, accepted_at=now)
    )
    fields = ("impressions", "clicks")
    await made.decide(accept(2, DAY - 9, DAY - 3, connector=mine, priority_class=2, accepted_at=now, fields=fields))
    await made.decide(accept(3, DAY - 5, DAY, connector=mine, priority_class=3, accepted_at=now, fields=fields))
    await made.views.put(
        replace(
            made.views.views[WAITS], request_id=DONE, state="completed", progress=100, queue_position=None,
            waiting=None, batched_with=(), estimated_wait_s=None, accepted_at=now - 9_000, started_at=now - 8_000,
            completed_at=now - 2_000, execution_time_ms=5_120, cost="3.0000", attempts=1, revision=4,
            result={"records_fetched": 1250, "size_bytes": 52428, "storage_location": "file:///data/results/v1/x.parquet"},
        )
    )  # fmt: skip
    return made


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


def shape(value: Any) -> Any:
    """Names alone: of every object its fields, of a list those of its elements together."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        shapes = [shape(inner) for inner in value]
        return [max(shapes, key=lambda one: len(json.dumps(one)), default=None)]
    return None


def examples() -> list[tuple[str, str]]:
    return [(found["asked"], found["body"]) for text in SECTIONS.values() for found in EXAMPLE.finditer(text)]


def open_ended(told: Any, real: Any) -> bool:
    """Whether two shapes agree where both have something: null stands for any of them."""
    if isinstance(told, dict) and isinstance(real, dict):
        return told.keys() == real.keys() and all(open_ended(told[name], real[name]) for name in told)
    if isinstance(told, list) and isinstance(real, list):
        return open_ended(told[0], real[0])
    return told is None or real is None


@pytest.mark.parametrize(("asked", "body"), examples())
async def test_an_example_has_the_fields_that_are_served(
    client: Client, world: RestWorld, asked: str, body: str
) -> None:
    method, path = asked.split(" ", 1)
    world.publisher.cancels = method == "DELETE"
    sent = world.body() if method == "POST" else None
    if path.endswith("/write"):
        world.connectors.add(replace(facts(path.split("/")[-2]), connector_type="SHEETS"))
        sent = {"target": "Leads!A1", "mode": "append", "rows": [["a", 1]]}
    scopes = "fetch connectors:read connectors:write"
    answer = await client.request(method, path, headers=world.headers(scopes), json=sent)
    served = await answer.json(content_type=None)
    assert answer.status < 300, served
    assert open_ended(shape(json.loads(body)), shape(served)), json.dumps(served, indent=2)


def test_every_route_is_on_the_page_and_no_other() -> None:
    assert len(HEADING.findall(PAGE)) == PAGE.count("\n## ")
    assert set(SECTIONS) == {f"{method} {path}" for method, path, _ in ROUTES}
    told = {asked.split("?")[0] for asked, _ in examples()}
    assert len(told) >= len(ROUTES) - 2  # metrics and schemas have bodies of their own


def test_every_status_is_told_with_the_problems_that_have_it() -> None:
    for route, text in SECTIONS.items():
        rows = {int(found["status"]): found["what"] for found in STATUS.finditer(text)}
        assert rows, route
        for status, what in rows.items():
            named = [slug for slug in re.findall(r"`(\w+)`", what) if slug in CATALOGUE]
            assert all(CATALOGUE[slug].status == status for slug in named), (route, status)
            assert named or status < 400 or route.endswith("z"), (route, status)


@pytest.mark.parametrize("route", [f"{method} {path}" for method, path, _ in ROUTES])
async def test_the_scope_is_the_one_that_is_asked_for(client: Client, world: RestWorld, route: str) -> None:
    method, path = route.split(" ", 1)
    told = re.search(r"Scope: `([a-z:]+)`", SECTIONS[route])
    path = re.sub(r"\{\w+\}", "x", path)
    answer = await client.request(method, path)
    assert (answer.status == 401) == (told is not None)
    if told is not None:
        other = "fetch" if told[1] == "connectors:read" else "connectors:read"
        assert (await client.request(method, path, headers=world.headers(other))).status == 403
        assert (await client.request(method, path, headers=world.headers(told[1]))).status != 403


def test_the_limits_of_the_page_are_those_in_force() -> None:
    text = SECTIONS["GET /api/v1/connectors/requests"]
    assert f"1 to {request_list.MOST}, default {request_list.DEFAULT}" in text
    assert all(f"| `{name}` |" in text for name in request_list.KNOWN)
