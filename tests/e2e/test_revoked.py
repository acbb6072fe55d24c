"""A grant that the provider refuses for good: told once, and nobody calls for it any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.streams.codecs import decode_event
from app.streams.topics import Names
from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.gathering import dead_letter, read_topic
from tests.e2e.scenarios import SANDBOX
from tests.e2e.watching import watching
from tests.e2e.world import World, world


async def test_a_refused_grant_is_told_once_and_its_commands_are_refused(stack: Stack, tmp_path: Path) -> None:
    async with world(stack.env(), tmp_path, sandbox=SANDBOX, settings={}, connectors=8) as made:
        await made.tell_sandbox("faults", {"route": "oauth.token", "fault": "revoked", "user": "user0"})
        await made.start("w1")
        ours = [made.accounts[0], made.accounts[4]]
        first = [traffic.own_days(account, n) for account in ours for n in range(3)]
        healthy = traffic.own_days(made.accounts[1], 0)
        async with watching(made.bootstrap, made.prefix) as ends:
            await _send(made, [*first, healthy])
            await ends.all_of({body["request_id"] for body in [*first, healthy]}, stall_s=60)
            await _send(made, [late := traffic.own_days(ours[1], 9)])
            await ends.all_of({late["request_id"]}, stall_s=60)
        told = [decode_event(r.value) async for r in read_topic(made.bootstrap, Names(made.prefix).events)]
        revoked = [event for event in told if event["type"] == "oauth_revoked"]
        assert sorted(event["connector_id"] for event in revoked) == sorted(a.connector_id for a in ours)
        failed = {e["request_id"]: e["data"]["error"]["class"] for e in told if e["type"] == "fetch_failed"}
        assert failed == {body["request_id"]: "authorisation" for body in first} | {late["request_id"]: "authorisation"}
        dead = [dead_letter(r.headers, r.value) async for r in read_topic(made.bootstrap, Names(made.prefix).dlq)]
        assert [one.code for one in dead] == ["connector_not_ready"], "the late command reached no planner"
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
        assert sum(call["route"] == "oauth.token" and call["user"] == "user0" for call in calls) == 1
        assert not [call for call in calls if call["user"] == "user0" and call["route"] != "oauth.token"]


async def _send(made: World, bodies: list[dict[str, Any]]) -> None:
    await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(body, avro=False) for body in bodies])
