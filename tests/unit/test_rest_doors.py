"""Request status, health, metrics, schemas, and what is around every route."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from uuid_utils import uuid7

from api.rest import problem, requests
from api.rest.app import ROUTES, build_app
from api.rest.server import serve
from app.services.status import Check, CheckState
from app.streams.avro_schemas import current
from app.testing.rest_world import OTHER_ORG, REQUEST, RestWorld, queued

STATUS = "/api/v1/connectors/requests/"
DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "problems.md"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    return RestWorld()


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def test_a_completed_request_has_the_whole_body(client: Client, world: RestWorld) -> None:
    now = world.clock.now()
    done = queued(
        now,
        state="completed",
        progress=100,
        result={"records_fetched": 1250, "size_bytes": 524288, "storage_location": "s3://b/p.parquet", "as_of": now},
        execution_time_ms=1245,
        cost="0.0500",
        completed_at=now + 1250,
        waiting=None,
        queue_position=None,
    )
    await world.views.put(done)
    answer = await client.get(STATUS + REQUEST, headers=world.headers())
    body = await answer.json()
    assert (answer.status, body["status"], body["progress"], body["execution_time_ms"]) == (200, "completed", 100, 1245)
    assert (body["cost"], body["priority"], body["completed_at"]) == (0.05, "normal", "2026-01-01T00:00:01.250Z")
    assert body["date_range"] == {"start": "2025-09-06", "end": "2025-09-12"}
    assert body["result"] == {
        "records_fetched": 1250,
        "size_bytes": 524288,
        "storage_location": "s3://b/p.parquet",
        "as_of": "2026-01-01T00:00:00.000Z",
    }
    assert (body["error"], body["waiting"], body["accepted_at"]) == (None, None, "2026-01-01T00:00:00.000Z")


async def test_a_changed_request_is_written_anew(client: Client, world: RestWorld) -> None:
    view = queued(world.clock.now())
    seen = []
    for progress in (0, 0, 50):
        await world.views.put(replace(view, progress=progress))
        answer = await client.get(STATUS + REQUEST, headers=world.headers())
        seen.append((await answer.json())["progress"])
    assert seen == [0, 0, 50]


async def test_a_bare_uuid_finds_the_request(client: Client, world: RestWorld) -> None:
    await world.views.put(queued(world.clock.now()))
    digits = REQUEST[4:]
    bare = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    assert (await client.get(STATUS + bare, headers=world.headers())).status == 200


@pytest.mark.parametrize(
    "request_id", [REQUEST, "req_" + "c" * 32, "nonsense", "conn_" + "a" * 32, "%00", "..%2f..%2fx"]
)
async def test_foreign_unknown_and_impossible_ids_get_one_answer(
    client: Client, world: RestWorld, request_id: str
) -> None:
    world.own_planner()
    await world.views.put(replace(queued(world.clock.now()), org_id=OTHER_ORG))
    answer = await client.get(STATUS + request_id, headers=world.headers())
    assert answer.status == 404
    assert await answer.json(content_type=None) == problem.Problem("not_found").body()


def made(at: int) -> str:
    return f"req_{uuid7(nanoseconds=at * 1_000_000).hex}"


async def test_a_request_made_elsewhere_a_moment_ago_is_waited_for(client: Client, world: RestWorld) -> None:
    request_id = made(world.clock.now() - 30)
    asked = asyncio.create_task(client.get(STATUS + request_id, headers=world.headers()))
    await asyncio.sleep(0.1)
    await world.views.put(replace(queued(world.clock.now()), request_id=request_id))
    answer = await asked
    assert (answer.status, (await answer.json())["request_id"]) == (200, request_id)


@pytest.mark.parametrize(("age_ms", "waits"), [(30, True), (-30_000, True), (60_000, False)])
async def test_only_a_young_unknown_id_is_waited_for(
    client: Client, world: RestWorld, monkeypatch: pytest.MonkeyPatch, age_ms: int, waits: bool
) -> None:
    world.own_planner()
    monkeypatch.setattr(requests, "WAIT_S", 0.2)
    began = time.monotonic()
    answer = await client.get(STATUS + made(world.clock.now() - age_ms), headers=world.headers())
    assert (answer.status, time.monotonic() - began >= 0.2) == (404, waits)


async def test_nobody_knows_is_503(client: Client, world: RestWorld) -> None:
    world.views.away = True
    answer = await client.get(STATUS + REQUEST, headers=world.headers())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    ("states", "status", "word"),
    [(["ok"], 200, "ready"), (["ok", "degraded"], 200, "degraded"), (["degraded", "failed"], 503, "not_ready")],
)
async def test_readiness(client: Client, world: RestWorld, states: list[str], status: int, word: str) -> None:
    world.checks = [Check(f"c{n}", CheckState(state), "why") for n, state in enumerate(states)]
    answer = await client.get("/readyz")
    body = await answer.json()
    assert (answer.status, body["status"]) == (status, word)
    assert [c["status"] for c in body["checks"]] == states


async def test_liveness_asks_nobody_else(client: Client, world: RestWorld) -> None:
    world.checks = [Check("broker", CheckState.FAILED)]
    assert (await client.get("/livez")).status == 200
    world.alive = False
    assert (await client.get("/livez")).status == 503


async def test_metrics_count_answers_by_route_pattern(client: Client, world: RestWorld) -> None:
    world.own_planner()
    await client.get(STATUS + REQUEST, headers=world.headers())
    await client.get("/nowhere")
    answer = await client.get("/metrics")
    text = await answer.text()
    assert answer.content_type == "text/plain"
    route = STATUS + "{request_id}"
    assert f'connector_http_requests_total{{route="{route}",status="404"}} 1.0' in text
    assert 'connector_http_requests_total{route="none",status="404"} 1.0' in text
    assert REQUEST not in text


async def test_schemas_are_found_by_fingerprint(client: Client) -> None:
    schema = current()["ConnectorEvent"]
    answer = await client.get(f"/schemas/{schema.fingerprint}")
    assert json.loads(await answer.text())["name"] == "ConnectorEvent"
    assert "immutable" in answer.headers["Cache-Control"]
    assert (await client.get("/schemas/0000000000000000")).status == 404


async def test_the_type_of_a_problem_is_a_page(client: Client) -> None:
    missing = await (await client.get("/nowhere")).json(content_type=None)
    page = await client.get(missing["type"])
    assert (page.status, (await page.json())["type"]) == (200, "not_found")
    assert (await client.get("/problems/none")).status == 404


async def test_version(client: Client) -> None:
    assert (await (await client.get("/version")).json())["version"] == "0.1.0"


@pytest.mark.parametrize("path", ["/", "/docs", "/api", "/api/v1/connectors/", "/livez/", "/livez/x", "/router"])
async def test_undocumented_paths_are_404_problems(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", "/livez", "GET"), ("GET", "/api/v1/connectors/fetch", "POST")]
)
async def test_wrong_methods_are_405_problems(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    body = await answer.json(content_type=None)
    assert (answer.status, answer.headers["Allow"], body["type"]) == (405, allowed, "/problems/method_not_allowed")


async def test_unforeseen_errors_tell_nothing(
    client: Client, world: RestWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: str) -> None:
        raise RuntimeError("the inner workings")

    monkeypatch.setattr(world.views, "get", broken)
    answer = await client.get(STATUS + REQUEST, headers=world.headers())
    assert answer.status == 500
    assert "inner workings" not in await answer.text()
    assert "inner workings" in caplog.text


async def test_no_answer_names_the_server(client: Client) -> None:
    for path in ("/livez", "/nowhere", "/metrics"):
        answer = await client.get(path)
        assert "Server" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def raw(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = [
    (b"nonsense\r\n\r\n", 400),
    (HEAD + b"A: " + b"x" * 9000 + b"\r\n\r\n", 431),
    (b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
]


async def test_what_is_not_http_gets_a_problem_too(world: RestWorld) -> None:
    server = await serve(world.services(), "127.0.0.1", 0)
    try:
        for sent, status in NOT_HTTP:
            head, _, body = (await raw(server.port, sent)).partition(b"\r\n\r\n")
            assert head.split(b" ")[1] == b"%d" % status, (sent[:60], head)
            assert json.loads(body)["status"] == status
            assert b"\r\nserver:" not in head.lower()
        assert (await raw(server.port, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    finally:
        await server.stop()


async def test_an_announced_huge_body_is_refused_before_it_comes(world: RestWorld) -> None:
    server = await serve(world.services(), "127.0.0.1", 0)
    head = f"POST /api/v1/connectors/fetch HTTP/1.1\r\nHost: x\r\nAuthorization: {world.headers()['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(head.encode())
        async with asyncio.timeout(2):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        writer.close()
        await server.stop()


def test_the_document_lists_every_problem() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == problem.markdown()


def test_every_route_is_listed_once() -> None:
    listed = [(method, path) for method, path, _ in ROUTES]
    assert len(set(listed)) == len(listed)


def test_only_listed_problems_can_be_answered() -> None:
    with pytest.raises(KeyError):
        problem.Problem("no_such_problem")
