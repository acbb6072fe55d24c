"""POST /connectors/fetch: what is answered, what is published, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from api.rest.app import build_app
from api.rest.services import Published
from app.domain.commands import FetchCommand, parse
from app.domain.identity import idempotent_request_id, uuid7_millis
from app.domain.messages import Accept
from app.streams.wire import decode_command
from app.testing.rest import answered
from app.testing.rest_world import CONNECTOR, FOREIGN_CONNECTOR, ORG, OTHER_ORG, RestWorld, facts

PATH = "/api/v1/connectors/fetch"
Client = TestClient[Any, Any]


@pytest.fixture
def world() -> RestWorld:
    return RestWorld()


@pytest.fixture
async def client(world: RestWorld) -> AsyncIterator[Client]:
    async with TestClient(TestServer(build_app(world.services()))) as running:
        yield running


async def problem_of(answer: ClientResponse) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = await answer.json(content_type=None)
    assert body["status"] == answer.status
    return body


def slug(body: dict[str, Any]) -> str:
    return str(body["type"]).rpartition("/")[2]


def published(world: RestWorld, place: int = -1) -> FetchCommand:
    command = parse(decode_command(world.publisher.records[place][1]))
    assert isinstance(command, FetchCommand)
    return command


async def test_a_decided_fetch_answers_with_its_place(client: Client, world: RestWorld) -> None:
    answer = await client.post(PATH, json=world.body(), headers=world.headers())
    body = await answer.json()
    assert answer.status == 200
    assert answer.headers["Location"] == f"/api/v1/connectors/requests/{body['request_id']}"
    assert body == {
        "request_id": published(world).request_id,
        "status": "queued",
        "queue_position": 3,
        "estimated_wait_seconds": 45.0,
        "estimated_wait_p90_seconds": None,
        "batched_with": ["req_" + "b" * 32],
        "rate_limit_status": {"current": 98, "limit": 100, "reset_at": "2026-01-01T00:01:00.000Z"},
        "waiting": {"reason": "quota", "bucket": "reports", "until": "2026-01-01T00:01:00.000Z"},
    }


async def test_the_command_is_what_was_asked_for(client: Client, world: RestWorld) -> None:
    asked = world.body(max_age_s=60, force=True, labels={"team": "x"}, deadline="2026-01-02T00:00:00Z")
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await client.post(PATH, json=asked, headers=world.headers() | {"traceparent": trace})
    key, _, headers = world.publisher.records[0]
    command = published(world)
    assert (key, list(headers)) == (CONNECTOR, [("traceparent", trace.encode())])
    assert (command.org_id, command.connector_id, command.priority) == (ORG, CONNECTOR, "normal")
    assert (command.fields, command.max_age_s, command.force) == (("impressions", "clicks"), 60, True)
    assert (command.labels, command.deadline_at) == ({"team": "x"}, world.clock.now() + 86_400_000)
    assert uuid7_millis(command.request_id or "") == world.clock.now()


async def test_an_undecided_fetch_answers_202(client: Client, world: RestWorld) -> None:
    world.publisher.decides = None
    answer = await client.post(PATH, json=world.body(), headers=world.headers() | {"traceparent": "nonsense"})
    body = await answer.json()
    assert (answer.status, body["queue_position"], body["status"]) == (202, None, "queued")
    assert answer.headers["Location"].endswith(body["request_id"])
    assert list(world.publisher.records[0][2]) == []


async def status_of(client: Client, world: RestWorld, posted: ClientResponse, org_id: int = ORG) -> ClientResponse:
    return await client.get(posted.headers["Location"], headers=world.headers(org_id=org_id))


async def test_what_was_accepted_here_is_queued_until_its_view_comes(client: Client, world: RestWorld) -> None:
    pattern, world.publisher.decides = world.publisher.decides, None
    posted = await client.post(PATH, json=world.body(labels={"team": "x"}), headers=world.headers())
    answer = await status_of(client, world, posted)
    body = await answer.json()
    assert (posted.status, answer.status) == (202, 200)
    assert (body["request_id"], body["status"], body["queue_position"], body["accepted_at"]) == (
        published(world).request_id, "queued", None, None,
    )  # fmt: skip
    assert (body["connector_id"], body["connector_type"], body["labels"]) == (CONNECTOR, "DV360", {"team": "x"})
    assert (await status_of(client, world, posted, OTHER_ORG)).status == 404
    assert pattern is not None
    await world.views.put(replace(answered(pattern, published(world)), state="running"))
    assert (await (await status_of(client, world, posted)).json())["status"] == "running"


async def test_what_no_broker_took_is_not_queued(client: Client, world: RestWorld) -> None:
    world.own_planner()
    world.publisher.away = True
    headers = world.headers() | {"Idempotency-Key": "k"}
    body = await problem_of(await client.post(PATH, json=world.body(), headers=headers))
    answer = await client.get(f"/api/v1/connectors/requests/{body['request_id']}", headers=world.headers())
    assert answer.status == 404


async def test_only_the_newest_undecided_requests_are_remembered() -> None:
    kept, accept = Published(most=2), Accept("", facts(), "campaign_performance", 1, 2, (), 2, 0, "-")
    for name in ("a", "b", "c", "b"):
        kept.note(replace(accept, request_id=name))
    assert [name in kept for name in ("a", "b", "c")] == [False, True, True]


async def test_no_broker_is_503_and_says_which_request_it_was(client: Client, world: RestWorld) -> None:
    world.publisher.away = True
    answer = await client.post(PATH, json=world.body(), headers=world.headers() | {"Idempotency-Key": "k"})
    body = await problem_of(answer)
    assert (answer.status, slug(body), answer.headers["Retry-After"]) == (503, "broker_unavailable", "5")
    assert body["request_id"] == idempotent_request_id(ORG, "k")


async def test_the_same_key_and_body_is_one_request(client: Client, world: RestWorld) -> None:
    headers = world.headers() | {"Idempotency-Key": "monday"}
    first = await (await client.post(PATH, json=world.body(), headers=headers)).json()
    again = await (await client.post(PATH, json=world.body(), headers=headers)).json()
    assert first == again
    assert first["request_id"] == idempotent_request_id(ORG, "monday")
    assert len(world.publisher.records) == 1


async def test_the_same_key_with_another_body_is_refused(client: Client, world: RestWorld) -> None:
    headers = world.headers() | {"Idempotency-Key": "monday"}
    await client.post(PATH, json=world.body(), headers=headers)
    answer = await client.post(PATH, json=world.body(fields=["clicks"]), headers=headers)
    assert (answer.status, slug(await problem_of(answer))) == (422, "idempotency_mismatch")


async def test_a_lost_view_makes_a_repeat_publish_the_same_command(client: Client, world: RestWorld) -> None:
    headers = world.headers() | {"Idempotency-Key": "monday"}
    await client.post(PATH, json=world.body(), headers=headers)
    world.views.away = True
    answer = await client.post(PATH, json=world.body(), headers=headers)
    assert answer.status == 200
    assert world.publisher.records[0][1] == world.publisher.records[1][1]


async def test_a_repeat_while_the_first_is_decided_is_409(client: Client, world: RestWorld) -> None:
    world.publisher.decides = None
    headers = world.headers() | {"Idempotency-Key": "monday"}
    answers = await asyncio.gather(*(client.post(PATH, json=world.body(), headers=headers) for _ in range(2)))
    assert sorted(a.status for a in answers) == [202, 409]
    later = await client.post(PATH, json=world.body(), headers=headers)
    assert later.status == 202


@pytest.mark.parametrize("key", ["a b", "x" * 256, "schlüssel"])
async def test_an_odd_idempotency_key_is_refused(client: Client, world: RestWorld, key: str) -> None:
    answer = await client.post(PATH, json=world.body(), headers=world.headers() | {"Idempotency-Key": key})
    assert (answer.status, slug(await problem_of(answer))) == (422, "invalid_parameter")


async def test_a_full_queue_is_429(client: Client, world: RestWorld) -> None:
    pattern = world.publisher.decides
    assert pattern is not None
    world.publisher.decides = replace(pattern, state="failed", error={"class": "quota", "code": "queue_full"})
    answer = await client.post(PATH, json=world.body(), headers=world.headers())
    assert (answer.status, slug(await problem_of(answer))) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0


async def test_foreign_unknown_and_deleted_connectors_get_one_answer(client: Client, world: RestWorld) -> None:
    unknown, deleted = "conn_" + "9" * 32, "conn_" + "8" * 32
    world.connectors.add(facts(deleted, deleted=True))
    bodies = []
    for connector_id in (FOREIGN_CONNECTOR, unknown, deleted):
        asked = world.body(connector_id=connector_id, priority="premium")
        answer = await client.post(PATH, json=asked, headers=world.headers())
        assert answer.status == 404
        bodies.append(await answer.read())
    assert len(set(bodies)) == 1
    assert world.publisher.records == []


async def test_a_missing_connector_replica_is_503(client: Client, world: RestWorld) -> None:
    world.connectors.away = True
    answer = await client.post(PATH, json=world.body(), headers=world.headers())
    assert (answer.status, slug(await problem_of(answer))) == (503, "view_unavailable")


DAYS = {"start": "2025-12-01", "end": "2025-12-31"}
REFUSED = [
    ({"date_rage": {}}, 422, "unknown_field", "/date_rage"),
    ({"org_id": 8}, 422, "unknown_field", "/org_id"),
    ({"request_id": "req_" + "a" * 32}, 422, "unknown_field", "/request_id"),
    ({"type": "cancel"}, 422, "unknown_field", "/type"),
    ({"date_range": DAYS | {"start": "2025-12-31", "end": "2025-12-01"}}, 422, "invalid_date_range", "/date_range"),
    ({"date_range": DAYS | {"end": "2026-01-02"}}, 422, "invalid_date_range", "/date_range/end"),
    ({"date_range": DAYS | {"start": "01.12.2025"}}, 422, "invalid_date_range", "/date_range/start"),
    ({"date_range": DAYS | {"start": "2025-02-30"}}, 422, "invalid_date_range", "/date_range/start"),
    ({"date_range": DAYS | {"start": "2022-12-31"}}, 422, "invalid_date_range", "/date_range/start"),
    ({"date_range": None}, 422, "invalid_date_range", "/date_range"),
    ({"date_range": []}, 422, "invalid_date_range", "/date_range"),
    ({"report_type": "campain_performance"}, 422, "unknown_report_type", "/report_type"),
    ({"report_type": None}, 422, "invalid_request", "/report_type"),
    ({"fields": ["impresions"]}, 422, "unknown_field_name", "/fields/0"),
    ({"fields": ["clicks", "clicks"]}, 422, "invalid_request", "/fields/1"),
    ({"fields": [f"f{n}" for n in range(101)]}, 422, "invalid_request", "/fields"),
    ({"priority": "premium"}, 403, "priority_not_allowed", "/priority"),
    ({"priority": "retry"}, 422, "invalid_request", "/priority"),
    ({"priority": "backfill", "force": True}, 422, "force_not_allowed", "/force"),
    ({"deadline": "2025-12-31T23:59:59Z"}, 422, "deadline_passed", "/deadline"),
    ({"deadline": "tomorrow"}, 422, "invalid_request", "/deadline"),
    ({"labels": {"a": 1}}, 422, "invalid_request", "/labels/a"),
    ({"connector_id": "CONN_" + "1" * 32}, 422, "invalid_request", "/connector_id"),
    ({"max_age_s": True}, 422, "invalid_request", "/max_age_s"),
]


@pytest.mark.parametrize(("changes", "status", "expected", "pointer"), REFUSED)
async def test_bad_inputs(
    client: Client, world: RestWorld, changes: dict[str, Any], status: int, expected: str, pointer: str
) -> None:
    answer = await client.post(PATH, json=world.body(**changes), headers=world.headers())
    body = await problem_of(answer)
    assert (answer.status, slug(body)) == (status, expected)
    assert [e["pointer"] for e in body["errors"]] == [pointer]
    assert all(e["code"] and e["detail"] for e in body["errors"])
    assert world.publisher.records == []


async def test_every_fault_is_named_at_once(client: Client, world: RestWorld) -> None:
    asked = world.body(
        org_id=1, priority="retry", fields="impressions", date_range={"start": "x", "end": "y"}, nonsense=1
    )
    body = await problem_of(await client.post(PATH, json=asked, headers=world.headers()))
    named = {e["pointer"] for e in body["errors"]}
    assert slug(body) == "invalid_request"
    assert named == {"/org_id", "/priority", "/fields", "/date_range/start", "/date_range/end", "/nonsense"}


async def test_a_revoked_connector_is_409(client: Client, world: RestWorld) -> None:
    world.connectors.add(facts(status="revoked"))
    answer = await client.post(PATH, json=world.body(), headers=world.headers())
    assert (answer.status, slug(await problem_of(answer))) == (409, "connector_not_ready")


async def test_parameters_are_refused(client: Client, world: RestWorld) -> None:
    answer = await client.post(PATH + "?dry_rum=true", json=world.body(), headers=world.headers())
    assert (answer.status, slug(await problem_of(answer))) == (422, "invalid_parameter")


JSON = "application/json"
BODIES = [
    (b"", JSON, 400, "malformed_json"),
    (b"{", JSON, 400, "malformed_json"),
    (b"[]", JSON, 400, "malformed_json"),
    (b'"text"', JSON, 400, "malformed_json"),
    (b'{"a": NaN}', JSON, 400, "malformed_json"),
    (b'{"a": -Infinity}', JSON, 400, "malformed_json"),
    (b'{"a": 1, "a": 2}', JSON, 400, "malformed_json"),
    (b'{"a": {"b": 1, "b": 1}}', JSON, 400, "malformed_json"),
    (b'{"a":' * 33 + b"1" + b"}" * 33, JSON, 400, "malformed_json"),
    (b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", JSON, 400, "malformed_json"),
    (b'{"a": "\xff"}', JSON, 400, "malformed_json"),
    (b'{"a": "\\ud800"}', JSON, 400, "malformed_json"),
    (b'{"a": ' + b"9" * 5000 + b"}", JSON, 400, "malformed_json"),
    (b'\xef\xbb\xbf{"a": 1}', JSON, 400, "malformed_json"),
    (b"{}", "text/plain", 415, "unsupported_media_type"),
    (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b'{"a": "' + b"x" * 65_536 + b'"}', JSON, 413, "body_too_large"),
]


@pytest.mark.parametrize(("raw", "content_type", "status", "expected"), BODIES)
async def test_bodies_that_are_no_json(
    client: Client, world: RestWorld, raw: bytes, content_type: str, status: int, expected: str
) -> None:
    headers = world.headers() | {"Content-Type": content_type}
    answer = await client.post(PATH, data=raw, headers=headers)
    assert (answer.status, slug(await problem_of(answer))) == (status, expected)
    assert world.publisher.records == []


async def test_a_large_body_without_a_length_is_413(client: Client, world: RestWorld) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"a": "'
        for _ in range(20):
            yield b"x" * 8192

    headers = world.headers() | {"Content-Type": JSON}
    answer = await client.post(PATH, data=pieces(), headers=headers)
    assert (answer.status, slug(await problem_of(answer))) == (413, "body_too_large")


async def test_a_compressed_body_is_415(client: Client, world: RestWorld) -> None:
    headers = world.headers() | {"Content-Type": JSON, "Content-Encoding": "gzip"}
    answer = await client.post(PATH, data=b"\x1f\x8b", headers=headers)
    assert (answer.status, slug(await problem_of(answer))) == (415, "unsupported_media_type")


async def test_a_token_without_the_scope_is_403(client: Client, world: RestWorld) -> None:
    answer = await client.post(PATH, json=world.body(), headers=world.headers("connectors:read"))
    assert (answer.status, slug(await problem_of(answer))) == (403, "insufficient_scope")
    assert 'scope="fetch"' in answer.headers["WWW-Authenticate"]
