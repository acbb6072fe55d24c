"""Writes through workers, as processes on real servers: every row once and in accepted order, though answers are lost,
a worker dies with a call on the wire and another takes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.config import Settings
from app.connecting import connecting
from app.streams.codecs import decode_event
from app.streams.topics import Names
from app.streams.wire import encode_avro, encode_json
from deploy.local import Stack
from tests.e2e import traffic
from tests.e2e.access import Access
from tests.e2e.gathering import read_topic
from tests.e2e.scenarios import SHORT_LEASES
from tests.e2e.watching import watching
from tests.e2e.world import World, world

BOOK = "1CRM-sheet_of-the-sandbox"
LEADS = "Leads!A1:E"
APPENDS = 12
ANA = {"refresh_token": "1//sandbox-ana", "subject": "ana"}


def rows(number: int) -> list[list[Any]]:
    """Two rows that tell which write they are of, with what Google would take for a formula, a number or a date."""
    return [[f"w{number}", "=1+1", number, number % 2 == 0, "007"], [f"w{number}", "+34 600", number + 0.5, None, "@x"]]


def write(connector_id: str, mode: str, target: str, cells: list[list[Any]]) -> dict[str, Any]:
    return {
        "request_id": traffic.new_id(),
        "org_id": 1,
        "connector_id": connector_id,
        "target": target,
        "mode": mode,
        "rows": cells,
    }


def encoded(body: dict[str, Any], *, avro: bool) -> tuple[bytes, bytes]:
    value = encode_avro("WriteCommand", body) if avro else encode_json("WriteCommand", body)
    return str(body["connector_id"]).encode(), value


async def cells(made: World) -> list[list[Any]]:
    found = await made.ask_sandbox("truth", provider="sheets", spreadsheet_id=BOOK, range=LEADS)
    return [row["cells"] for row in found["rows"]]


async def told(made: World) -> dict[str, list[dict[str, Any]]]:
    """The events by request, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    async for record in read_topic(made.bootstrap, Names(made.prefix).events):
        event = decode_event(record.value)
        found.setdefault(event.get("request_id") or "", []).append(event)
    return found


def filled(written: list[list[Any]]) -> list[list[Any]]:
    """Rows as a spreadsheet shows them: an empty cell is an empty text, and none at the end."""
    shown = [["" if cell is None else cell for cell in row] for row in written]
    return [row[: max((at for at, cell in enumerate(row, 1) if cell != ""), default=0)] for row in shown]


async def test_every_row_is_written_once_and_in_order(stack: Stack, tmp_path: Path) -> None:
    access = Access(tmp_path)
    async with world(
        stack.env(), tmp_path, sandbox=(), settings={**SHORT_LEASES, **access.settings}, connectors=1
    ) as made:
        async with connecting(Settings.load(made.env)) as add:
            facts = await add(1, "SHEETS", BOOK, ANA, time_zone="UTC")
        appends = [write(facts.connector_id, "append", "Leads!A1", rows(number)) for number in range(APPENDS)]
        updates = [write(facts.connector_id, "update", "Leads!A2", [[f"update {number}"]]) for number in range(3)]
        wrong = write(facts.connector_id, "append", "Nowhere!A1", rows(99))
        refused = write(made.accounts[0].connector_id, "append", "Leads!A1", rows(98))
        refused["org_id"] = made.accounts[0].org_id
        bodies = [*appends[:6], updates[0], *appends[6:9], wrong, updates[1], *appends[9:], updates[2], refused]
        before = await cells(made)
        for fault in ({"fault": "lost", "times": 2}, {"fault": "503", "times": 1}):
            await made.tell_sandbox("faults", {"route": "sheets.batch_update", **fault})

        async with watching(made.bootstrap, made.prefix) as ends:
            await made.start("w1", CONNECTOR__STREAMS__CRASH_AT="request_sent:5")
            await traffic.produce(
                made.bootstrap, made.prefix, [encoded(body, avro=at % 2 == 0) for at, body in enumerate(bodies)]
            )
            await made.start("w2")
            await ends.all_of({body["request_id"] for body in bodies}, stall_s=45)
            assert not made.alive("w1"), "it was to die with its fifth call on the wire"
            await _over_rest(made, access, facts.connector_id, ends)
        events = await told(made)
        after = await cells(made)

    written = [row for body in appends for row in body["rows"]]
    assert after[: len(before)] == [before[0], ["update 2", *before[1][1:]], *before[2:]]
    assert after[len(before) :] == filled([*written, *rows(50)])
    for body in (*appends, *updates):
        (event,) = [one for one in events[body["request_id"]] if one["type"] == "data_written"]
        assert (event["data"]["target"], event["data"]["rows_written"]) == (body["target"], len(body["rows"]))
    for body, code in ((wrong, "sheet_not_found"), (refused, "write_not_supported")):
        (event,) = events[body["request_id"]]
        assert (event["type"], event["data"]["error"]["code"]) == ("write_failed", code)


async def _over_rest(made: World, access: Access, connector_id: str, ends: Any) -> None:
    """One more over REST, where DV360 can only be read."""
    port, body = made.lives["w2"].port, {"target": "Leads!A1", "mode": "append", "rows": rows(50), "priority": "normal"}
    answer = await access.call(port, "POST", f"/api/v1/connectors/{connector_id}/write", 1, body)
    assert answer.status in {200, 202}, answer.body
    await ends.all_of({answer.body["request_id"]}, stall_s=60)
    state = await access.call(port, "GET", f"/api/v1/connectors/requests/{answer.body['request_id']}", 1)
    assert (state.body["status"], state.body["request_type"]) == ("completed", "write")
    late = await access.call(port, "DELETE", f"/api/v1/connectors/requests/{answer.body['request_id']}", 1)
    assert late.status == 409
    dsp = made.accounts[0]
    answer = await access.call(port, "POST", f"/api/v1/connectors/{dsp.connector_id}/write", dsp.org_id, body)
    assert (answer.status, answer.body["type"].rpartition("/")[2]) == (501, "write_not_supported")
