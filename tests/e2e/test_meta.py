"""Meta through a worker, as a process on real servers: its figures arrive as files, and a token's end stops its
connectors."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.config import Settings
from app.connecting import connecting
from app.streams.codecs import decode_event
from app.streams.topics import Names
from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.evidence import Account
from tests.e2e.gathering import read_topic
from tests.e2e.watching import watching
from tests.e2e.world import World, world

LAST = traffic.today() - timedelta(days=20)
FIRST = LAST - timedelta(days=6)
POLLS = {"CONNECTOR__PROVIDERS__META__POLL_SCHEDULE_S": "0.7,1,2"}


async def connect(made: World, account: str, user: str, kind: str) -> Account:
    async with connecting(Settings.load(made.env)) as add:
        facts = await add(1, "META", account, {kind: f"EAAsandbox-{user}", "subject": user}, time_zone="UTC")
        return Account(facts.connector_id, facts.org_id, facts.account_id, facts.time_zone)


async def run(made: World, *bodies: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Terminal events by request id."""
    async with watching(made.bootstrap, made.prefix) as ends:
        await traffic.produce(made.bootstrap, made.prefix, [traffic.encoded(body, avro=False) for body in bodies])
        await ends.all_of({body["request_id"] for body in bodies}, stall_s=60)
    told = [event async for event in events(made)]
    return {event["request_id"]: event for event in told if event["type"] in ("data_fetched", "fetch_failed")}


async def events(made: World) -> Any:
    async for record in read_topic(made.bootstrap, Names(made.prefix).events):
        yield decode_event(record.value)


async def test_figures_arrive_and_a_tokens_end_stops_its_connectors(stack: Stack, tmp_path: Path) -> None:
    async with world(stack.env(), tmp_path, sandbox=("--report-seconds", "0.5"), settings=POLLS) as made:
        users = await connect(made, "act_4567", "ana", "refresh_token")
        systems = await connect(made, "4568", "robot", "api_key")
        await made.start("w1")
        asked = [traffic.fetch(account, FIRST, LAST) for account in (users, systems)]
        told = await run(made, *asked)
        for body, account in zip(asked, (users, systems), strict=True):
            event = told[body["request_id"]]
            assert event["type"] == "data_fetched", event
            (file,) = event["data"]["files"]
            rows = pq.read_table(file["uri"].removeprefix("file://")).to_pylist()
            query = {"provider": "meta", "ad_account_id": account.account_id, "start": str(FIRST), "end": str(LAST)}
            truth = (await made.ask_sandbox("truth", **query))["rows"]
            assert {(str(row["date"]), row["campaign_id"], row["spend"]) for row in rows} == {
                (row["date"], row["campaign_id"], Decimal(row["spend"])) for row in truth
            }
            assert len(rows) == len(truth) > 20
            assert event["data"]["provider_calls"] >= 3
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
        assert [call["user"] for call in calls if call["route"] == "oauth.meta_token"] == ["ana"], (
            "one is sent as it is"
        )

        await made.tell_sandbox("faults", {"route": "meta.*", "fault": "revoked"})
        late = [traffic.fetch(account, FIRST - timedelta(30), LAST - timedelta(30)) for account in (users, systems)]
        told = await run(made, *late)
        errors = [told[body["request_id"]]["data"]["error"] for body in late]
        assert [(error["class"], error["code"]) for error in errors] == [("authorisation", "reauthorise")] * 2
        revoked = [event["connector_id"] async for event in events(made) if event["type"] == "oauth_revoked"]
        assert sorted(revoked) == sorted([users.connector_id, systems.connector_id])
