"""Google Sheets through a worker, as a process on real servers: a command without days ends as a file of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.config import Settings
from app.connecting import connecting
from app.streams.codecs import decode_event
from app.streams.topics import Names
from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.gathering import read_topic
from tests.e2e.watching import watching
from tests.e2e.world import World, world

BOOK = "1CRM-sheet_of-the-sandbox"
LEADS, BUDGET = "Leads!A1:E", "'Budget Plan'!B2:C"


def table(connector_id: str, *ranges: str) -> dict[str, Any]:
    return {
        "request_id": traffic.new_id(),
        "org_id": 1,
        "connector_id": connector_id,
        "report_type": "table",
        "fields": list(ranges),
        "priority": "normal",
    }


def shown(cell: Any) -> str | None:
    """A cell of the sandbox as a file has it."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return None if cell == "" else str(cell)


async def truth(made: World, asked: str) -> list[tuple[str, int, list[str | None]]]:
    rows = (await made.ask_sandbox("truth", provider="sheets", spreadsheet_id=BOOK, range=asked))["rows"]
    width = {LEADS: 5, BUDGET: 2}[asked]
    return [(asked, row["row"], [*map(shown, row["cells"]), *[None] * (width - len(row["cells"]))]) for row in rows]


async def told(made: World) -> list[dict[str, Any]]:
    return [decode_event(record.value) async for record in read_topic(made.bootstrap, Names(made.prefix).events)]


async def test_tables_arrive_as_they_are(stack: Stack, tmp_path: Path) -> None:
    async with world(stack.env(), tmp_path, sandbox=()) as made:
        async with connecting(Settings.load(made.env)) as add:
            facts = await add(1, "SHEETS", BOOK, {"refresh_token": "1//sandbox-ana", "subject": "ana"}, time_zone="UTC")
        await made.start("w1")
        both, same, other = (
            table(facts.connector_id, *ranges) for ranges in ((LEADS, BUDGET), (BUDGET, LEADS), ("X!A1",))
        )
        async with watching(made.bootstrap, made.prefix) as ends:
            records = [traffic.encoded(body, avro=number % 2 == 0) for number, body in enumerate((both, same, other))]
            await traffic.produce(made.bootstrap, made.prefix, records)
            await ends.all_of({body["request_id"] for body in (both, same, other)}, stall_s=60)
        events = {event.get("request_id"): event for event in await told(made)}

        for body in (both, same):
            event = events[body["request_id"]]
            assert event["type"] == "data_fetched", event
            data = event["data"]
            assert (data["date_range"], data["fields"], data["dataset_version"]) == (None, body["fields"], 1)
            (file,) = data["files"]
            assert (file["from"], file["to"], file["rows"]) == (None, None, data["records_fetched"])
            rows = pq.read_table(file["uri"].removeprefix("file://")).to_pylist()
            found = [(row["range"], row["row"], row["cells"]) for row in rows]
            assert sorted(found) == sorted([*await truth(made, LEADS), *await truth(made, BUDGET)])
            assert len(found) == 21 + 13
        error = events[other["request_id"]]["data"]["error"]
        assert (error["class"], error["code"]) == ("invalid_request", "invalid_range")
        calls = (await made.ask_sandbox("calls", since=0))["calls"]
        assert [call["route"] for call in calls if call["provider"] == "sheets"] == ["sheets.values_batch_get"] * 2, (
            "equal ranges are one call"
        )
        assert not [event for event in await told(made) if event["type"] == "dataset_updated"]
