"""Several workers, one planner: the same answer from each, and an answer in time whatever the owner does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from api.rest import peers
from api.rest.app import build_app
from app.testing.planning import accept, request_id
from app.testing.rest_world import CONNECTOR, FOREIGN_CONNECTOR, OTHER_ORG, RestWorld, facts

BASE = "/api/v1/connectors"
WAIT_S = 0.3
Client = TestClient[Any, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Workers:
    """Workers that follow the same topics; the first owns DV360's planner, the others know its address."""

    worlds: list[RestWorld]
    clients: list[Client]

    @property
    def owner(self) -> RestWorld:
        return self.worlds[0]

    def tell_others(self, url: str | None) -> None:
        for world in self.worlds[1:]:
            world.owners = {} if url is None else {"DV360": url}

    async def each(self, path: str, **given: Any) -> list[tuple[int, Any]]:
        """Status and body from every worker."""
        headers = self.owner.headers() | given.pop("headers", {})
        found = [await client.request("GET", BASE + path, headers=headers, **given) for client in self.clients]
        return [(answer.status, await answer.json(content_type=None)) for answer in found]


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    first = RestWorld(peers_wait_s=WAIT_S)
    others = [
        RestWorld(first.clock, first.issuer, first.views, first.connectors, peers_wait_s=WAIT_S) for _ in range(2)
    ]
    async with AsyncExitStack() as stack:
        made = Workers([first, *others], [])
        for world in made.worlds:
            client = TestClient[Any, Any](TestServer(build_app(world.services())))
            made.clients.append(await stack.enter_async_context(client))
        made.tell_others(str(made.clients[0].make_url("")).rstrip("/"))
        state = first.own_planner()
        today = datetime.fromtimestamp(first.clock.now() / 1000, UTC).date().toordinal()
        mine, other = facts(), facts(FOREIGN_CONNECTOR, OTHER_ORG)
        await first.decide(
            accept(1, today - 9, today - 8, connector=mine, priority_class=2),
            accept(2, today - 7, today - 6, connector=other, priority_class=1),
            accept(3, today - 5, today - 4, connector=mine, priority_class=5),
        )
        assert state.queued == 3
        yield made


@asynccontextmanager
async def impostor(answer: Handler) -> AsyncIterator[str]:
    """The address of an owner that answers like this."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_every_worker_gives_the_same_answer(workers: Workers) -> None:
    for path in ("", "/queue", f"/requests/{request_id(1)}", f"/requests/{request_id(3)}"):
        first, *others = await workers.each(path)
        assert first[0] == 200
        assert others == [first, first]
    queue = (await workers.each("/queue"))[2][1]
    status = queue["queue_status"]
    assert (status["total_queued"], status["your_requests"], status["positions"]) == (3, 2, [2, 3])
    assert queue["parts"] == {"DV360": {"live": True, "as_of": "2026-01-01T00:00:00.000Z"}}
    assert [r["request_id"] for r in queue["requests"]] == [request_id(1), request_id(3)]


async def test_a_place_that_moved_without_a_record_is_told_by_every_worker(workers: Workers) -> None:
    workers.owner.clock.advance(5)
    headers = workers.owner.headers(org_id=OTHER_ORG)
    found = [body for _, body in await workers.each(f"/requests/{request_id(2)}", headers=headers)]
    assert [body["estimated_wait_seconds"] for body in found] == [55.0] * 3
    assert [body["as_of"] for body in found] == ["2026-01-01T00:00:05.000Z"] * 3
    assert workers.owner.views.views[request_id(2)].estimated_wait_s == 60.0


UNHEARD = "req_" + "5" * 32
"""No UUIDv7, as an idempotency key makes it: its age is not in it."""


async def test_a_request_that_is_not_heard_of_here_is_asked_for_at_the_owner(workers: Workers) -> None:
    async def knows(asked: web.Request) -> web.Response:
        return web.json_response({"request_id": asked.path.rsplit("/", 1)[-1], "status": "queued"})

    assert {status for status, _ in await workers.each(f"/requests/{UNHEARD}")} == {404}, "only the owner says so"
    async with impostor(knows) as url:
        workers.tell_others(url)
        found = await workers.each(f"/requests/{UNHEARD}")
    assert found[1:] == [(200, {"request_id": UNHEARD, "status": "queued"})] * 2


async def test_a_request_that_is_not_heard_of_is_503_while_nobody_can_say_so(workers: Workers) -> None:
    for owner in (None, "http://127.0.0.1:1"):
        workers.tell_others(owner)
        _, *others = await workers.each(f"/requests/{UNHEARD}")
        assert [(status, body["type"]) for status, body in others] == [(503, "/problems/view_unavailable")] * 2


async def test_an_ended_request_asks_nobody(workers: Workers) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=500)

    ended = replace(workers.owner.views.views[request_id(1)], state="completed", revision=9)
    await workers.owner.views.put(ended)
    async with impostor(note) as url:
        workers.tell_others(url)
        found = await workers.each(f"/requests/{request_id(1)}")
    assert [status for status, _ in found] == [200] * 3
    assert "as_of" not in found[1][1]
    assert asked == []


async def test_the_callers_token_and_the_mark_go_with_the_question(workers: Workers) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((request.path_qs, request.headers.get("Authorization"), request.headers.get("Connector-Forwarded")))
        return web.Response(status=500)

    headers = workers.owner.headers()
    async with impostor(note) as url:
        workers.tell_others(url)
        for path in ("", "/queue", f"/requests/{request_id(1)}"):
            await workers.clients[1].get(BASE + path, headers=headers)
    told = (headers["Authorization"], "1")
    assert seen == [
        ("/internal/planner/DV360", *told),
        ("/internal/planner/DV360", *told),
        (f"{BASE}/requests/{request_id(1)}", *told),
    ]


async def test_a_forwarded_question_is_never_forwarded_again(workers: Workers) -> None:
    """Two workers that each take the other for the owner, and one that takes itself for it."""
    first, second, third = (str(client.make_url("")).rstrip("/") for client in workers.clients)
    workers.owner.planners.clear()
    workers.worlds[0].owners = {"DV360": second}
    workers.worlds[1].owners = {"DV360": first}
    workers.worlds[2].owners = {"DV360": third}
    for path in ("", "/queue", f"/requests/{request_id(1)}"):
        assert [status for status, _ in await workers.each(path)] == [200] * 3
    counts = [world.metrics.exposition("")[0].decode() for world in workers.worlds]
    for text in counts:
        # Its own question, and at most the one of another worker that asked it.
        assert 'route="/api/v1/connectors/requests/{request_id}",status="200"} 2.0' in text
        assert 'route="/internal/planner/{connector_type}",status="404"} 2.0' in text
    told = await workers.each("/queue", headers={"Connector-Forwarded": "1"})
    for world in workers.worlds:
        text = world.metrics.exposition("")[0].decode()
        assert 'route="/internal/planner/{connector_type}",status="404"} 2.0' in text
    assert [body["parts"]["DV360"] for _, body in told] == [{"live": False, "as_of": None}] * 3


def never() -> Handler:
    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        raise AssertionError

    return silent


def with_body(body: bytes, status: int = 200, **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=named)

    return answer


async def astray(request: web.Request) -> web.Response:
    if request.path == "/elsewhere":
        return web.Response(body=PART % (SOUND, b"{}"))
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def cut(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"as_of":')
    assert request.transport is not None
    request.transport.close()
    return answer


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b" " * 2**20)


PART = b'{"as_of":"2026-01-01T00:00:00.000Z","queue":%s,"connectors":%s}'
QUEUE = b'{"total_queued":%s,"your_requests":0,"positions":%s,"estimated_wait_seconds":0,"requests":%s}'
SOUND = QUEUE % (b"0", b"[]", b"[]")
GARBAGE: dict[str, Handler] = {
    "silent": never(),
    "empty": with_body(b""),
    "no_json": with_body(b"<html>"),
    "no_object": with_body(b"[1]"),
    "other_object": with_body(b"{}"),
    "null": with_body(b"null"),
    "not_ours": with_body(b'{"request_id":"req_1","status":"queued"}'),
    "redirect": astray,
    "problem": with_body(b'{"status":500}', 500),
    "created": with_body(PART % (SOUND, b"{}"), 201),
    "too_long": with_body(PART % (SOUND, b" " * 2**20 + b"{}")),
    "not_gzip": with_body(b"x", content_encoding="gzip"),
    "latin": with_body(b'{"a":"\xff"}'),
    "no_queue": with_body(PART % (b"null", b"{}")),
    "text_count": with_body(PART % (QUEUE % (b'"9"', b"[]", b"[]"), b"{}")),
    "true_count": with_body(PART % (QUEUE % (b"true", b"[]", b"[]"), b"{}")),
    "odd_places": with_body(PART % (QUEUE % (b"0", b'["1"]', b"[]"), b"{}")),
    "odd_requests": with_body(PART % (QUEUE % (b"0", b"[]", b"[1]"), b"{}")),
    "odd_connector": with_body(PART % (SOUND, b'{"' + CONNECTOR.encode() + b'":[]}')),
    "odd_limit": with_body(
        PART % (SOUND, b'{"' + CONNECTOR.encode() + b'":{"health":{},"rate_limit":{"limit":"x","remaining":1}}}')
    ),
    "cut": cut,
    "endless": endless,
}


@pytest.fixture(params=GARBAGE)
def garbage(request: pytest.FixtureRequest) -> Handler:
    return GARBAGE[request.param]


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LIMIT_BYTES", 2**20)


async def test_an_owner_that_says_nothing_of_use_is_quoted_as_last_heard(
    workers: Workers, garbage: Handler, small_limit: None
) -> None:
    before = {path: (await workers.each(path))[1][1] for path in ("", "/queue")}
    workers.owner.clock.advance(5)
    async with impostor(garbage) as url:
        workers.tell_others(url)
        for path in ("", "/queue"):
            began = time.monotonic()
            answer = await workers.clients[1].get(BASE + path, headers=workers.owner.headers())
            body = await answer.json()
            assert (answer.status, time.monotonic() - began < 1.0) == (200, True)
            assert body["parts"] == {"DV360": {"live": False, "as_of": "2026-01-01T00:00:00.000Z"}}
            assert body | {"parts": 0} == before[path] | {"parts": 0}
        answer = await workers.clients[1].get(f"{BASE}/requests/{request_id(1)}", headers=workers.owner.headers())
        body = await answer.json()
        assert (answer.status, body["as_of"], body["queue_position"]) == (200, None, 2)


async def test_an_owner_that_was_never_heard_leaves_nothing_made_up(workers: Workers) -> None:
    async with impostor(never()) as url:
        workers.tell_others(url)
        listed = await (await workers.clients[1].get(BASE, headers=workers.owner.headers())).json()
        queue = await (await workers.clients[1].get(BASE + "/queue", headers=workers.owner.headers())).json()
    unknown = {"status": "unknown", "last_check": None, "latency_ms": None, "error_rate": None, "calls": 0}
    assert [(c["id"], c["health"], c["rate_limit"]) for c in listed["connectors"]] == [(CONNECTOR, unknown, None)]
    assert listed["parts"] == queue["parts"] == {"DV360": {"live": False, "as_of": None}}
    assert (queue["queue_status"]["total_queued"], queue["rate_limits"], queue["requests"]) == (0, {}, [])


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://[::1", "nonsense", "http://no.such.host.invalid:80"])
async def test_a_dead_owner_costs_no_answer(workers: Workers, address: str) -> None:
    workers.tell_others(address)
    began = time.monotonic()
    for path in ("", "/queue", f"/requests/{request_id(1)}"):
        answer = await workers.clients[1].get(BASE + path, headers=workers.owner.headers())
        assert answer.status == 200
    assert time.monotonic() - began < 3 * WAIT_S + 1.0


async def test_nobody_owns_the_planner(workers: Workers) -> None:
    workers.tell_others(None)
    _, body = (await workers.each(f"/requests/{request_id(1)}"))[1]
    assert (body["as_of"], body["queue_position"]) == (None, 2)
    assert (await workers.each(""))[1][1]["parts"] == {"DV360": {"live": False, "as_of": None}}


async def test_many_callers_of_a_silent_owner_wait_for_the_same_second(workers: Workers) -> None:
    async with impostor(never()) as url:
        workers.tell_others(url)
        began = time.monotonic()
        path, headers = f"{BASE}/requests/{request_id(1)}", workers.owner.headers()
        answers = await asyncio.gather(*(workers.clients[1].get(path, headers=headers) for _ in range(90)))
        took = time.monotonic() - began
    assert {answer.status for answer in answers} == {200}
    assert took < WAIT_S + 1.0


async def test_owners_of_several_types_are_asked_at_once(workers: Workers) -> None:
    for number, kind in enumerate(("TTD", "META", "SHEETS")):
        workers.owner.connectors.add(replace(facts(f"conn_{number + 3:032x}"), connector_type=kind))
    async with impostor(never()) as url:
        workers.worlds[1].owners = dict.fromkeys(("DV360", "TTD", "META", "SHEETS"), url)
        began = time.monotonic()
        answer = await workers.clients[1].get(BASE, headers=workers.owner.headers())
        assert time.monotonic() - began < 2 * WAIT_S
    body = await answer.json()
    assert list(body["parts"]) == ["DV360", "META", "SHEETS", "TTD"]
    assert [part["live"] for part in body["parts"].values()] == [False] * 4


async def test_a_worker_that_falls_silent_is_logged_once(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    workers.tell_others("http://127.0.0.1:1")
    for _ in range(3):
        await workers.clients[1].get(BASE, headers=workers.owner.headers())
    assert [record.message for record in caplog.records].count("a worker does not answer") == 1
    assert "Bearer" not in caplog.text


class TestThePlannersDoor:
    """``GET /internal/planner/{connector_type}``."""

    async def test_it_tells_the_part_of_the_tokens_organisation(self, workers: Workers) -> None:
        answer = await workers.clients[0].get("/internal/planner/DV360", headers=workers.owner.headers())
        body = await answer.json()
        assert (answer.status, list(body)) == (200, ["as_of", "queue", "connectors"])
        assert list(body["connectors"]) == [CONNECTOR]
        assert {r["connector_id"] for r in body["queue"]["requests"]} == {CONNECTOR}
        foreign = await workers.clients[0].get(
            "/internal/planner/DV360", headers=workers.owner.headers(org_id=OTHER_ORG)
        )
        assert list((await foreign.json())["connectors"]) == [FOREIGN_CONNECTOR]

    @pytest.mark.parametrize("kind", ["META", "dv360", "nonsense", "%2e%2e"])
    async def test_it_is_closed_where_the_planner_is_not_owned(self, workers: Workers, kind: str) -> None:
        answer = await workers.clients[0].get(f"/internal/planner/{kind}", headers=workers.owner.headers())
        assert (answer.status, (await answer.json(content_type=None))["type"]) == (404, "/problems/not_found")
        far = await workers.clients[1].get("/internal/planner/DV360", headers=workers.owner.headers())
        assert far.status == 404

    async def test_it_asks_for_the_same_scope(self, workers: Workers) -> None:
        for headers, status in (
            ({}, 401),
            (workers.owner.headers("fetch"), 403),
            (workers.owner.headers("admin"), 200),
        ):
            answer = await workers.clients[0].get("/internal/planner/DV360", headers=headers)
            assert answer.status == status

    async def test_it_takes_no_parameters(self, workers: Workers) -> None:
        answer = await workers.clients[0].get("/internal/planner/DV360?org_id=8", headers=workers.owner.headers())
        assert answer.status == 422


async def test_connections_to_other_workers_end_with_the_server(workers: Workers) -> None:
    services = workers.worlds[1].services()
    async with TestClient[Any, Any](TestServer(build_app(services))) as client:
        assert (await client.get(BASE, headers=workers.owner.headers())).status == 200
        session = services.peers._session
        assert session is not None
        was_closed = session.closed
    assert (was_closed, session.closed, services.peers._session) == (False, True, None)
