"""POST /connectors/{id}/write, and what else REST says of a write."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from api.rest.app import build_app
from api.rest.body import WRITE_LIMIT_BYTES
from api.rest.services import Published
from app.domain.commands import CancelCommand, WriteCommand, parse
from app.domain.identity import body_hash, uuid7_millis
from app.domain.writes import MAX_BYTES, MAX_CELLS, text_of
from app.streams.wire import decode_command
from app.testing.rest_world import CONNECTOR, FOREIGN_CONNECTOR, ORG, OTHER_ORG, REQUEST, RestWorld, facts, queued
from app.testing.writing import write

SHEET, THEIRS = "conn_" + "5" * 32, "conn_" + "6" * 32
PATH = f"/api/v1/connectors/{SHEET}/write"
ROWS: list[list[Any]] = [["=1+1", -1, 2.0, True, None], ["ä"]]
BODY: dict[str, Any] = {"target": "Leads!A1", "mode": "append", "rows": ROWS}
SCOPE = "connectors:write"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    made = RestWorld()
    made.connectors.add(replace(facts(SHEET), connector_type="SHEETS"))
    made.connectors.add(replace(facts(THEIRS, OTHER_ORG), connector_type="SHEETS"))
    return made


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def post(client: Client, world: RestWorld, body: Any = None, path: str = PATH, **headers: str) -> ClientResponse:
    sent = BODY if body is None else body
    return await client.post(path, json=sent, headers=world.headers(SCOPE) | headers)


async def slug(answer: ClientResponse) -> tuple[int, str]:
    body = await answer.json(content_type=None)
    return answer.status, str(body["type"]).rpartition("/")[2]


def published(world: RestWorld) -> list[WriteCommand]:
    commands = [parse(decode_command(value)) for _, value, _ in world.publisher.records]
    return [command for command in commands if isinstance(command, WriteCommand)]


async def test_the_command_is_what_was_asked_for(client: Client, world: RestWorld) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = await post(client, world, BODY | {"priority": "backfill"}, traceparent=trace)
    body = await answer.json()
    assert (answer.status, body["queue_position"], body["status"]) == (200, 3, "queued")
    assert answer.headers["Location"] == f"/api/v1/connectors/requests/{body['request_id']}"
    (command,) = published(world)
    assert command == WriteCommand(
        body["request_id"], ORG, SHEET, "Leads!A1", "append", tuple(map(tuple, ROWS)), "backfill"
    )
    assert [[type(cell) for cell in row] for row in command.rows] == [[type(cell) for cell in row] for row in ROWS]
    key, value, headers = world.publisher.records[0]
    assert (key, value[:2], list(headers)) == (SHEET, b"\xc3\x01", [("traceparent", trace.encode())])
    assert uuid7_millis(body["request_id"]) == world.clock.now()


async def test_an_undecided_write_answers_202_and_is_told_as_one(client: Client, world: RestWorld) -> None:
    world.publisher.decides = None
    answer = await post(client, world)
    body = await answer.json()
    assert (answer.status, body["queue_position"]) == (202, None)
    (command,) = published(world)
    assert command.priority == "normal"
    state = await (await client.get(answer.headers["Location"], headers=world.headers())).json()
    assert (state["request_type"], state["report_type"], state["date_range"]) == ("write", None, None)
    assert state["write"] == {"target": "Leads!A1", "mode": "append", "rows": 2, "sent": False}


def test_what_is_remembered_of_it_has_no_rows() -> None:
    known, command = Published(), write(1, [["x" * 1_000]])
    known.note(command)
    kept = known.accept(command.request_id, 1)
    assert kept is not None
    assert kept.write is not None
    assert (kept.write.rows, kept.write.count) == ("", 1)


async def test_the_same_request_id_is_the_same_request(client: Client, world: RestWorld) -> None:
    named = BODY | {"request_id": "01999999-9999-7999-8999-999999999999"}
    answers = [await (await post(client, world, named)).json() for _ in range(2)]
    assert {a["request_id"] for a in answers} == {"req_01999999999979998999999999999999"}
    assert len(published(world)) == 1
    assert await slug(await post(client, world, named | {"mode": "update"})) == (422, "idempotency_mismatch")
    # 1 and 1.0 and true are three cells.
    assert await slug(await post(client, world, named | {"rows": [["=1+1", -1, 2, True, None], ["ä"]]})) == (
        422,
        "idempotency_mismatch",
    )


async def test_a_key_makes_the_id(client: Client, world: RestWorld) -> None:
    first, again = [await (await post(client, world, **{"Idempotency-Key": "k"})).json() for _ in range(2)]
    assert first["request_id"] == again["request_id"]
    assert len(published(world)) == 1
    both = await post(client, world, BODY | {"request_id": REQUEST}, **{"Idempotency-Key": "k"})
    assert await slug(both) == (422, "invalid_parameter")


async def test_a_second_one_at_the_same_time_waits_its_turn(client: Client, world: RestWorld) -> None:
    world.publisher.decides, world.decide_within_s = None, 0.3
    named = BODY | {"request_id": REQUEST}
    async with TestClient(TestServer(build_app(world.services()))) as patient:
        first = asyncio.create_task(post(patient, world, named))
        await asyncio.sleep(0.05)
        assert await slug(await post(patient, world, named)) == (409, "request_in_progress")
        assert (await first).status == 202


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/api/v1/connectors/{THEIRS}/write", (404, "not_found")),
        (f"/api/v1/connectors/{FOREIGN_CONNECTOR}/write", (404, "not_found")),
        ("/api/v1/connectors/conn_" + "9" * 32 + "/write", (404, "not_found")),
        ("/api/v1/connectors/nonsense/write", (404, "not_found")),
        (f"/api/v1/connectors/{CONNECTOR}/write", (501, "write_not_supported")),
        (PATH + "?wait=1", (422, "invalid_parameter")),
    ],
)
async def test_whom_it_may_write_to(client: Client, world: RestWorld, path: str, expected: tuple[int, str]) -> None:
    assert await slug(await post(client, world, path=path)) == expected
    assert world.publisher.records == []


async def test_a_type_without_a_writer_is_not_written_to(world: RestWorld) -> None:
    world.writers = frozenset()
    async with TestClient(TestServer(build_app(world.services()))) as running:
        assert await slug(await post(running, world)) == (501, "write_not_supported")


async def test_whatever_else_is_wrong_a_read_only_connector_is_501(client: Client, world: RestWorld) -> None:
    world.connectors.add(facts(status="revoked"))
    answer = await post(client, world, BODY | {"priority": "premium"}, f"/api/v1/connectors/{CONNECTOR}/write")
    assert await slug(answer) == (501, "write_not_supported")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"target": None}, "invalid_request"),
        ({"target": "Leads"}, "invalid_request"),
        ({"mode": "delete"}, "invalid_request"),
        ({"rows": []}, "invalid_request"),
        ({"rows": [[{"a": 1}]]}, "invalid_request"),
        ({"rows": [[0] * (MAX_CELLS + 1)]}, "invalid_request"),
        ({"org_id": 8}, "unknown_field"),
        ({"connector_id": THEIRS}, "unknown_field"),
        ({"deadline": "2030-01-01T00:00:00Z"}, "unknown_field"),
        ({"request_id": "x"}, "invalid_request"),
    ],
)
async def test_a_faulty_body_is_refused(
    client: Client, world: RestWorld, changes: dict[str, Any], expected: str
) -> None:
    assert await slug(await post(client, world, BODY | changes)) == (422, expected)
    assert world.publisher.records == []


async def test_premium_needs_the_plan_and_a_connector_its_consent(client: Client, world: RestWorld) -> None:
    assert await slug(await post(client, world, BODY | {"priority": "premium"})) == (403, "priority_not_allowed")
    world.connectors.add(replace(facts(SHEET), connector_type="SHEETS", status="revoked"))
    assert await slug(await post(client, world)) == (409, "connector_not_ready")


async def test_rows_of_nearly_a_megabyte_are_taken_and_no_more(client: Client, world: RestWorld) -> None:
    cell = "x" * 44_990
    rows = [[cell] for _ in range(20)]
    assert MAX_BYTES - 200 < len(text_of(rows)) <= MAX_BYTES
    assert (await post(client, world, BODY | {"rows": rows})).status == 200
    assert [len(c.rows) for c in published(world)] == [20]
    assert await slug(await post(client, world, BODY | {"rows": [*rows, ["x" * 200]]})) == (422, "invalid_request")
    huge = io.BytesIO(b"{" + b" " * WRITE_LIMIT_BYTES)
    headers = world.headers(SCOPE) | {"Content-Type": "application/json"}
    assert await slug(await client.post(PATH, data=huge, headers=headers)) == (413, "body_too_large")


async def test_a_fetch_still_takes_no_more_than_it_did(client: Client, world: RestWorld) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 40_000

    headers = world.headers("fetch") | {"Content-Type": "application/json"}
    assert await slug(await client.post("/api/v1/connectors/fetch", data=pieces(), headers=headers)) == (
        413,
        "body_too_large",
    )


async def test_a_full_queue_and_a_broker_that_is_away(client: Client, world: RestWorld) -> None:
    world.publisher.away = True
    assert await slug(await post(client, world)) == (503, "broker_unavailable")
    world.publisher.away = False
    assert world.publisher.decides is not None
    world.publisher.decides = replace(world.publisher.decides, state="failed", error={"code": "queue_full"})
    assert await slug(await post(client, world)) == (429, "queue_full")


def sent_write(world: RestWorld, **changes: Any) -> Any:
    told = {"target": "Leads!A1", "mode": "append", "rows": 2, "sent": True}
    kind = {"connector_type": "SHEETS", "connector_id": SHEET, "report_type": "", "start": 0, "end": 0, "fields": ()}
    return queued(world.clock.now(), **({"write": told, "state": "running"} | kind | changes))


async def test_a_write_whose_call_may_have_left_is_not_cancelled(client: Client, world: RestWorld) -> None:
    await world.views.put(sent_write(world))
    path = f"/api/v1/connectors/requests/{REQUEST}"
    assert await slug(await client.delete(path, headers=world.headers())) == (409, "already_running")
    assert world.publisher.records == []
    foreign = await client.delete(path, headers=world.headers(org_id=OTHER_ORG))
    assert await slug(foreign) == (404, "not_found")


async def test_a_cancel_that_loses_the_race_is_told_so(client: Client, world: RestWorld) -> None:
    world.publisher.cancels, world.decide_within_s = False, 0.3
    waiting = sent_write(world, state="queued")
    await world.views.put(replace(waiting, write=waiting.write | {"sent": False}))
    path = f"/api/v1/connectors/requests/{REQUEST}"
    async with TestClient(TestServer(build_app(world.services()))) as patient:
        asked = asyncio.create_task(patient.delete(path, headers=world.headers()))
        await asyncio.sleep(0.05)
        await world.views.put(sent_write(world, revision=2))
        assert await slug(await asked) == (409, "already_running")
    assert [parse(decode_command(v)) for _, v, _ in world.publisher.records] == [CancelCommand(REQUEST, ORG, SHEET)]


async def test_a_queued_write_is_cancelled(client: Client, world: RestWorld) -> None:
    waiting = sent_write(world, state="queued")
    await world.views.put(replace(waiting, write=waiting.write | {"sent": False}))
    answer = await client.delete(f"/api/v1/connectors/requests/{REQUEST}", headers=world.headers())
    body = await answer.json()
    assert (answer.status, body["status"], body["request_type"]) == (200, "cancelled", "write")


async def test_a_command_from_kafka_and_one_from_here_are_one_body(client: Client, world: RestWorld) -> None:
    await post(client, world, BODY | {"request_id": REQUEST})
    (command,) = published(world)
    other = parse({"type": "write", "org_id": ORG, "connector_id": SHEET, "priority": "normal", **BODY})
    assert isinstance(other, WriteCommand)
    assert body_hash(other) == body_hash(command)
