"""The sandbox's Google Sheets: what is empty is left out, what is wrong is refused as a whole, calls are counted."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from app.sandbox.google_oauth.state import SHEETS_READ_SCOPE, SHEETS_SCOPE
from app.sandbox.sheets.spreadsheets import MOST_METADATA, Formula, Metadata, spreadsheet
from tests.sandbox.client import Client, Reply, connected

BOOK = "1Any_spreadsheet-of-the-sandbox"
ROOT = "/sheets/v4/spreadsheets/"


async def ask(client: Client, headers: dict[str, str], method: str, path: str, book: str = BOOK, **more: Any) -> Reply:
    return await client.call(method, f"{ROOT}{book}{path}", headers=headers, **more)


async def values(client: Client, headers: dict[str, str], text: str, **query: str) -> Reply:
    return await ask(client, headers, "GET", f"/values/{quote(text, safe='')}", params=query)


def message(reply: Reply) -> str:
    assert reply.status == 400, reply.body
    error = reply.json["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    return str(error["message"])


def marked(metadata_id: int, value: str = "v", key: str = "k") -> dict[str, Any]:
    made = {
        "metadataId": metadata_id, "metadataKey": key, "metadataValue": value, "location": {"spreadsheet": True},
        "visibility": "DOCUMENT",
    }  # fmt: skip
    return {"createDeveloperMetadata": {"developerMetadata": made}}


def appended(*rows: list[Any], sheet_id: int = 0) -> dict[str, Any]:
    cells = [{"values": [{} if one is None else {"userEnteredValue": one} for one in row]} for row in rows]
    return {"appendCells": {"sheetId": sheet_id, "rows": cells, "fields": "userEnteredValue"}}


async def test_the_same_seed_has_the_same_spreadsheets() -> None:
    async with connected(seed=5) as (_, client), connected(seed=5) as (_, twin), connected(seed=6) as (_, other):
        found = [await values(one, await one.bearer(), "Leads") for one in (client, twin, other)]
        assert found[0].json == found[1].json != found[2].json
        more = await ask(client, await client.bearer(), "GET", "/values/Leads", "1Another")
        assert more.json != found[0].json


async def test_what_is_empty_at_an_end_is_left_out() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        sheet = sandbox.sheet(BOOK, "It's empty")
        sheet.cells = {(1, 1): "a", (3, 2): 2.5, (3, 1): True, (4, 2): Formula("=A1")}
        raw = (await values(client, headers, "'It''s empty'!A1:C9", valueRenderOption="UNFORMATTED_VALUE")).json
        assert raw == {
            "range": "'It''s empty'!A1:C9", "majorDimension": "ROWS",
            "values": [["a"], [], [True, 2.5], ["", "#NAME?"]],
        }  # fmt: skip
        shown = (await values(client, headers, "'It''s empty'!A3:B4")).json["values"]
        assert shown == [["TRUE", "2.5"], ["", "#NAME?"]]
        assert (await values(client, headers, "'It''s empty'!C:D")).json == {
            "range": "'It''s empty'!C1:D1000", "majorDimension": "ROWS",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("Leads", "Leads!A1:Z1000"), ("'Leads'", "Leads!A1:Z1000"), ("Leads!B:C", "Leads!B1:C1000"),
        ("Leads!B2", "Leads!B2"), ("B2:B3", "Leads!B2:B3"), ("Leads!3:4", "Leads!A3:Z4"),
        ("Leads!B3:C", "Leads!B3:C1000"),
        ("'Budget Plan'!A39:ZZ90", "'Budget Plan'!A39:F40"),
    ],
)  # fmt: skip
async def test_ranges(text: str, answered: str) -> None:
    async with connected() as (_, client):
        assert (await values(client, await client.bearer(), text)).json["range"] == answered


@pytest.mark.parametrize(
    "text", ["Nowhere!A1", "Budget Plan!A1", "'Nowhere'", "Leads!A0", "Leads!A", "Leads!A1:B2:C3", "Leads!B2:A1",
             "Leads!A1:5", "Leads!", "Leads!A1001"],
)  # fmt: skip
async def test_texts_that_are_no_range(text: str) -> None:
    async with connected() as (_, client):
        said = message(await values(client, await client.bearer(), text))
        assert said.startswith(("Unable to parse range", "Range (Leads!A1001) exceeds grid limits"))


async def test_many_ranges_in_order_or_none() -> None:
    async with connected() as (_, client):
        headers = await client.bearer()
        many = await ask(client, headers, "GET", "/values:batchGet?ranges=Leads!B1&ranges=Leads!A1")
        assert [one["values"] for one in many.json["valueRanges"]] == [[["Country"]], [["Lead"]]]
        assert message(await ask(client, headers, "GET", "/values:batchGet?ranges=Leads!B1&ranges=X!A1"))


async def test_raw_is_kept_and_typed_is_understood() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        body = {"values": [["=1+1", "+x", "00123", "7.5", True, None, 3]]}
        for option, row in (("RAW", 30), ("USER_ENTERED", 31)):
            path = f"/values/Leads!A{row}?valueInputOption={option}"
            done = await ask(client, headers, "PUT", path, json=body)
            assert (done.json["updatedRange"], done.json["updatedCells"]) == (f"Leads!A{row}:G{row}", 6)
        cells = sandbox.sheet(BOOK, "Leads").cells
        assert [cells.get((30, at)) for at in range(1, 8)] == ["=1+1", "+x", "00123", "7.5", True, None, 3.0]
        assert [cells.get((31, at)) for at in range(1, 6)] == [Formula("=1+1"), Formula("+x"), 123.0, 7.5, True]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/values/Leads!A1", {"values": [["a"]]}, "'valueInputOption' is required"),
        ("/values/Leads!A1?valueInputOption=RAW", {"range": "Leads!B1", "values": [["a"]]}, "must match"),
        ("/values/Leads!A1:A2?valueInputOption=RAW", {"values": [["a", "b"]]}, "tried writing to column [B]"),
        ("/values/Leads!A1:A2?valueInputOption=RAW", {"values": [["a"]] * 3}, "tried writing to row [3]"),
        ("/values/Leads!A1000?valueInputOption=RAW", {"values": [["a"]] * 2}, "exceeds grid limits"),
        ("/values/Leads!A1?valueInputOption=RAW", {"values": [[{}]]}, "are not supported"),
        ("/values/Leads!A1?valueInputOption=RAW", {"values": ["a"]}, "Invalid value at 'data.values'"),
        ("/values/Leads!A1?valueInputOption=RAW", {"valuse": [["a"]]}, 'Unknown name "valuse"'),
        ("/values/Leads!A1?valueInputOption=RAW", {"values": [["x" * 50_001]]}, "50000 characters"),
        ("/values/Leads!A1?valueInputOption=RAW", [], "Expected an object"),
    ],
)
async def test_updates_that_are_refused(path: str, body: Any, said: str) -> None:
    async with connected() as (sandbox, client):
        before = dict(sandbox.sheet(BOOK, "Leads").cells)
        assert said in message(await ask(client, await client.bearer(), "PUT", path, json=body))
        assert sandbox.sheet(BOOK, "Leads").cells == before


async def test_several_ranges_are_written_or_none() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        good, bad = {"range": "Leads!A40", "values": [["a"]]}, {"range": "X!A1", "values": [["b"]]}
        path = "/values:batchUpdate"
        refused = await ask(client, headers, "POST", path, json={"valueInputOption": "RAW", "data": [good, bad]})
        assert message(refused) == "Unable to parse range: X!A1"
        assert (40, 1) not in sandbox.sheet(BOOK, "Leads").cells
        done = await ask(client, headers, "POST", path, json={"valueInputOption": "RAW", "data": [good]})
        assert done.json["responses"][0]["updatedRange"] == "Leads!A40"


async def test_a_plain_append_done_twice_is_there_twice() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        for row in (22, 23):
            path = "/values/Leads!A1:append?valueInputOption=RAW&insertDataOption=INSERT_ROWS"
            done = await ask(client, headers, "POST", path, json={"values": [["x"]]})
            assert done.json["updates"]["updatedRange"] == f"Leads!A{row}"
        assert [sandbox.sheet(BOOK, "Leads").cells[(row, 1)] for row in (22, 23)] == ["x", "x"]


async def test_an_append_with_a_mark_is_there_once() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        body = {
            "requests": [appended([{"stringValue": "=x"}, None, {"numberValue": 1}], [{"boolValue": False}]), marked(7)]
        }
        first = await ask(client, headers, "POST", ":batchUpdate", json=body)
        assert first.json["replies"][0] == {}
        assert "already exists" in message(await ask(client, headers, "POST", ":batchUpdate", json=body))
        cells = {at: value for at, value in sandbox.sheet(BOOK, "Leads").cells.items() if at[0] > 21}
        assert cells == {(22, 1): "=x", (22, 3): 1.0, (23, 1): False}
        found = await ask(client, headers, "GET", "/developerMetadata/7")
        assert (found.json["metadataValue"], found.json["location"]["locationType"]) == ("v", "SPREADSHEET")
        assert (await ask(client, headers, "GET", "/developerMetadata/8")).status == 404
        gone = {"deleteDeveloperMetadata": {"dataFilter": {"developerMetadataLookup": {"metadataId": 7}}}}
        assert (await ask(client, headers, "POST", ":batchUpdate", json={"requests": [gone]})).status == 200
        assert (await ask(client, headers, "GET", "/developerMetadata/7")).status == 404


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([], "at least one request"),
        ([{}], "No request set"),
        ([{"repeatCell": {}}], 'Unknown name "repeatCell"'),
        ([appended([{"stringValue": "a"}], sheet_id=3)], "No grid with id: 3"),
        ([{"appendCells": {"sheetId": 0, "rows": []}}], "'fields'"),
        ([appended([{"stringValue": 1}])], "Invalid value at 'stringValue'"),
        ([appended([{"numberValue": True}])], "Invalid value at 'numberValue'"),
        ([appended([{"stringValue": "a", "numberValue": 1}])], "exactly one"),
        ([appended([{"stringValue": "a"}]), marked(-1)], "TYPE_INT32"),
        ([appended([{"stringValue": "a"}]), marked(2**31)], "TYPE_INT32"),
        ([appended([{"stringValue": "a"}]), marked(1, key="")], "must have a key"),
        ([appended([{"stringValue": "a"}]), marked(1, value="x" * MOST_METADATA)], "30000 characters"),
        ([{"addSheet": {"properties": {"title": "Leads"}}}], "already exists"),
        ([{"addSheet": {"properties": {"title": "New"}}}, {"addSheet": {"properties": {"title": "New"}}}], "already"),
    ],
)
async def test_a_batch_that_is_refused_changes_nothing(requests: list[Any], said: str) -> None:
    async with connected() as (sandbox, client):
        book = spreadsheet(sandbox.world.sheets, sandbox.world.settings.seed, BOOK)
        before = (dict(book.sheets[0].cells), dict(book.metadata), len(book.sheets))
        reply = await ask(client, await client.bearer(), "POST", ":batchUpdate", json={"requests": requests})
        assert said in message(reply)
        assert (book.sheets[0].cells, book.metadata, len(book.sheets)) == before


async def test_a_new_sheet_may_be_written_to_at_once() -> None:
    async with connected() as (sandbox, client):
        requests = [
            {"addSheet": {"properties": {"title": "New", "sheetId": 77}}},
            appended([{"stringValue": "a"}], sheet_id=77),
        ]
        done = await ask(client, await client.bearer(), "POST", ":batchUpdate", json={"requests": requests})
        assert done.json["replies"][0]["addSheet"]["properties"]["index"] == 3
        assert sandbox.sheet(BOOK, "New").cells == {(1, 1): "a"}


async def test_what_a_spreadsheet_says_of_itself() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        book = spreadsheet(sandbox.world.sheets, sandbox.world.settings.seed, BOOK)
        book.metadata[3] = Metadata(3, "k", "v", "DOCUMENT")
        whole = (await ask(client, headers, "GET", "")).json
        assert [one["properties"]["title"] for one in whole["sheets"]] == ["Leads", "Budget Plan", "It's empty"]
        assert "sheetId" not in whole["sheets"][0]["properties"], "zero is left out"
        fields = "properties.title,sheets.properties(sheetId,title),developerMetadata(metadataId)"
        some = (await ask(client, headers, "GET", "", params={"fields": fields})).json
        assert some["sheets"][:2] == [
            {"properties": {"title": "Leads"}},
            {"properties": {"sheetId": book.sheets[1].sheet_id, "title": "Budget Plan"}},
        ]
        assert (some["properties"], some["developerMetadata"]) == ({"title": book.title}, [{"metadataId": 3}])
        assert set(some) == {"properties", "sheets", "developerMetadata"}
        for wrong in ("sheeets", "sheets(", "sheets)", "", "a b", "sheets,"):
            assert "fields" in message(await ask(client, headers, "GET", "", params={"fields": wrong}))


@pytest.mark.parametrize(("book", "status"), [("0gone", 404), ("9private", 403), ("8office", 400)])
async def test_spreadsheets_that_are_not_to_be_had(book: str, status: int) -> None:
    async with connected() as (_, client):
        headers = await client.bearer()
        for method, path in (("GET", ""), ("GET", "/values/Leads"), ("POST", ":batchUpdate")):
            reply = await ask(client, headers, method, path, book, json={"requests": [marked(1)]})
            assert reply.status == status


async def test_scopes() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer("reader")
        for scope, reads, writes in ((SHEETS_READ_SCOPE, 200, 403), (SHEETS_SCOPE, 200, 200), ("openid", 403, 403)):
            sandbox.world.oauth.scopes[("sandbox-client", "reader")] = scope
            headers = await client.bearer("reader")
            read = await values(client, headers, "Leads!A1")
            write = await ask(client, headers, "PUT", "/values/Leads!A9?valueInputOption=RAW", json={"values": [["a"]]})
            assert (read.status, write.status) == (reads, writes)
            if writes == 403:
                assert write.json["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
        assert (await ask(client, {}, "GET", "")).status == 401


async def test_reads_and_writes_are_counted_apart_of_each_user_and_of_all() -> None:
    async with connected(enforce=True) as (sandbox, client):
        ana, bob = await client.bearer("ana"), await client.bearer("bob")
        for _ in range(60):
            assert (await values(client, ana, "Leads!A1")).status == 200
        full = await values(client, ana, "Leads!A1")
        assert full.status == 429
        assert full.json["error"]["details"][0]["metadata"]["quota_limit"] == "ReadRequestsPerMinutePerUser"
        assert "Retry-After" not in full.headers
        put = {"values": [["a"]]}
        assert (await ask(client, ana, "PUT", "/values/Leads!A9?valueInputOption=RAW", json=put)).status == 200
        assert (await values(client, bob, "Leads!A1")).status == 200
        rows = {(row["name"], row["value"]): (row["calls"], row["over"]) for row in sandbox.quotas()}
        assert rows[("sheets_reads_user", "ana")] == (61, 1)
        assert rows[("sheets_reads_project", "sandbox-client")] == (62, 0)
        assert rows[("sheets_writes_user", "ana")] == (1, 0)
        sandbox.set_quota("sheets_reads_project", 1)
        all_of_them = await values(client, bob, "Leads!A1")
        assert all_of_them.json["error"]["details"][0]["metadata"]["quota_limit"] == "ReadRequestsPerMinutePerProject"


async def test_a_lost_answer_was_done_all_the_same() -> None:
    async with connected() as (sandbox, client):
        headers = await client.bearer()
        sandbox.faults.add("sheets.batch_update", "lost", times=1)
        body = {"requests": [appended([{"stringValue": "a"}])]}
        with pytest.raises(OSError, match=r".*"):
            await ask(client, headers, "POST", ":batchUpdate", json=body)
        assert sandbox.sheet(BOOK, "Leads").cells[(22, 1)] == "a"


async def test_the_doors_and_a_reset() -> None:
    async with connected() as (sandbox, client):
        change = {"provider": "sheets", "spreadsheet_id": BOOK, "sheet": "Leads", "value": "Changed"}
        days = {"start": "2026-11-01", "end": "2026-11-01"}
        assert (await client.call("POST", "/_sandbox/restate", json=change | days)).status == 200
        query = f"provider=sheets&spreadsheet_id={BOOK}&range=Leads!A1:B1"
        rows = (await client.call("GET", f"/_sandbox/truth?{query}")).json["rows"]
        assert rows == [{"row": 1, "cells": ["Changed", "Country"]}]
        assert (
            await client.call("POST", "/_sandbox/figures", json={"provider": "sheets", "campaigns": 2})
        ).status == 200
        assert (await client.call("POST", "/_sandbox/reset")).status == 200
        rows = (await client.call("GET", f"/_sandbox/truth?provider=sheets&spreadsheet_id={BOOK}&range=Leads")).json[
            "rows"
        ]
        assert [row["cells"][0] for row in rows] == ["Lead", "L00001", "L00002"]
        assert sandbox.sheet(BOOK, "Leads").sheet_id == 0
