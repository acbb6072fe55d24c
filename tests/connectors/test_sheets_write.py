"""Rows written into the sandbox's spreadsheets: as they were given, and exactly once whatever is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.connectors.base import ProviderHttp
from app.connectors.sheets import writing
from app.connectors.sheets.client import SheetsConnector
from app.domain.commands import Cell
from app.domain.errors import ProviderError, Throttle
from app.sandbox.sheets.spreadsheets import Metadata, spreadsheet
from tests.connectors.sheets import BOOK, REQUEST, Sheets, sheets, sheets_offer
from tests.connectors.support import calling

OTHER = "req_0190163d8694739b9c21b7cf7fffffff"
ROWS: list[list[Cell]] = [["=1+1", "+49 30", "-x", "@home"], ["00123", 7, 1.5, True], ["'quoted", None, "last"]]
BELOW = 21
"""Rows that the sheet has before anything is written."""


def leads(made: Sheets) -> list[list[Any]]:
    """What stands below the rows that were there from the start, holes as None."""
    rows = {row: cells for row, cells in made.stored().items() if row > BELOW}
    last = max(rows, default=BELOW)
    return [[rows.get(row, {}).get(at) for at in range(1, 9)] for row in range(BELOW + 1, last + 1)]


def padded(rows: list[list[Any]]) -> list[list[Any]]:
    return [[*row, *[None] * (8 - len(row))] for row in rows]


def book(made: Sheets) -> Any:
    return spreadsheet(made.sandbox.world.sheets, made.sandbox.world.settings.seed, BOOK)


def routes(made: Sheets) -> list[str]:
    return [call.route.removeprefix("sheets.") for call in made.sandbox.calls() if call.provider == "sheets"]


async def test_an_append_stands_as_it_was_given(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        assert await made.write(ROWS) == 3
        assert leads(made) == padded(ROWS)
        assert made.permits.asked == [("read", False), ("write", False)]
        assert [call.quota_group for call in made.sandbox.calls() if call.provider == "sheets"] == [
            "sheets_reads", "sheets_writes",
        ]  # fmt: skip
        (stamp,) = book(made).metadata.values()
        assert stamp == Metadata(int(REQUEST[-8:], 16) % (2**31 - 1) + 1, "connector.append.1", REQUEST, "DOCUMENT")
        back = await made.rows(sheets_offer("Leads!A22:D24"))
        assert [row["cells"] for row in back] == [
            ["=1+1", "+49 30", "-x", "@home"], ["00123", "7", "1.5", "true"], ["'quoted", None, "last", None],
        ]  # fmt: skip


async def test_an_append_begins_in_the_targets_column_and_below_all_others(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        assert await made.write([["a", "b"]], target="Leads!C7") == 1
        assert await made.write([["c"]], request_id=OTHER, target="'Leads'!A1:B") == 1
        assert leads(made) == padded([[None, None, "a", "b"], ["c"]])
        assert sorted(one.key for one in known_of(made)) == ["connector.append.1", "connector.append.2"]


async def test_names_with_quotes(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        for number, target in enumerate(("'It''s empty'!A1", "It's empty!A1", "'Budget Plan'!A1", "Budget Plan!A1")):
            assert await made.write([[number]], target=target, request_id=f"{OTHER[:-1]}{number}") == 1
        assert made.stored("It's empty") == {1: {1: 0.0}, 2: {1: 1.0}}
        assert [made.stored("Budget Plan")[row][1] for row in (15, 16)] == [2.0, 3.0]
        assert await made.write([["x"]], target="It's empty!B2", mode="update") == 1
        assert made.stored("It's empty")[2] == {1: 1.0, 2: "x"}


@pytest.mark.parametrize("fault", ["lost", "cut", "truncate"])
async def test_a_lost_answer_leaves_no_row_twice(fault: str, tmp_path: Path) -> None:
    """The write was done and nobody heard of it: the next attempt finds its stamp and writes nothing."""
    async with sheets(tmp_path) as made:
        made.sandbox.faults.add("sheets.batch_update", fault, times=1)
        failure = await made.refused(ROWS)
        assert failure.retryable
        assert leads(made) == padded(ROWS)
        assert await made.write(ROWS) == 3
        assert leads(made) == padded(ROWS)
        assert routes(made) == ["get", "batch_update", "get"]


async def test_an_answer_that_never_was_is_written_by_the_next_attempt(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        for fault in ("503", "reset", "429"):
            made.sandbox.faults.add("sheets.batch_update", fault, times=1)
            assert (await made.refused(ROWS)).retryable
        assert leads(made) == []
        assert await made.write(ROWS) == 3
        assert leads(made) == padded(ROWS)


async def test_a_late_append_meets_the_stamp_of_its_other_self(tmp_path: Path) -> None:
    """Between the look and the write another worker, who had lost its lease, was quicker."""
    async with sheets(tmp_path) as made:
        await made.write(ROWS)
        stamp = next(iter(book(made).metadata.values()))
        late = _Hiding(made, stamp.metadata_id)
        assert await made.connector.write(**late.arguments) == 3
        assert leads(made) == padded(ROWS)
        assert routes(made)[2:] == ["get", "batch_update", "metadata_get"]


async def test_an_id_of_somebody_else_is_passed_over(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        taken = [int(REQUEST[-8:], 16) % (2**31 - 1) + 1 + at for at in range(2)]
        book(made).metadata.update({one: Metadata(one, "crm", "theirs", "DOCUMENT") for one in taken})
        assert await made.write(ROWS) == 3
        assert leads(made) == padded(ROWS)
        assert book(made).metadata[taken[1] + 1].value == REQUEST
        assert routes(made) == ["get", *["batch_update", "metadata_get"] * 2, "batch_update"]


async def test_so_many_taken_ids_are_no_chance(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        first = int(REQUEST[-8:], 16) % (2**31 - 1) + 1
        taken = range(first, first + writing.TRIES)
        book(made).metadata.update({one: Metadata(one, "crm", "theirs", "DOCUMENT") for one in taken})
        assert (await made.refused(ROWS)).code == "no_free_stamp"
        assert leads(made) == []


async def test_a_wrong_append_is_told_from_one_that_was_done(tmp_path: Path) -> None:
    """Whatever a 400 says, there is no stamp: it is the provider's refusal, and it is not sent again."""
    async with sheets(tmp_path) as made:
        failure = await made.refused([["x" * 50_001]])
        assert (failure.code, failure.retryable) == ("invalid_write", False)
        assert "50000 characters" in failure.message
        assert routes(made) == ["get", "batch_update", "metadata_get"]
        assert (leads(made), known_of(made)) == ([], [])


async def test_stamps_do_not_fill_the_spreadsheet(tmp_path: Path) -> None:
    """30,000 characters are all that a spreadsheet has for them; other people's metadata stays."""
    async with sheets(tmp_path) as made:
        known = book(made).metadata
        known.update({at: Metadata(at, f"connector.append.{at}", f"req_{at:032x}", "DOCUMENT") for at in range(1, 500)})
        others = [
            Metadata(10**6, "connector.append.x", "theirs", "DOCUMENT"),
            Metadata(10**6 + 1, "connector.append.0", "", "DOCUMENT"),
        ]
        known.update({one.metadata_id: one for one in others})
        assert await made.write(ROWS) == 3
        numbers = sorted(int(one.key.rpartition(".")[2]) for one in known_of(made) if one not in others)
        assert numbers == list(range(101, 501))
        assert len(numbers) == writing.KEPT_STAMPS
        assert set(others) <= set(known_of(made))
        assert await made.write(ROWS) == 3
        assert leads(made) == padded(ROWS)
        assert 2 * sum(one.size for one in known_of(made)) < 60_000


def known_of(made: Sheets) -> list[Metadata]:
    return list(book(made).metadata.values())


async def test_an_update_may_be_done_twice_and_null_leaves_a_cell(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        before = made.stored("Budget Plan")
        for _ in range(2):
            assert await made.write([["=SUM(A1)", None], [None, "00123"]], target="Budget Plan!B3", mode="update") == 2
        after = made.stored("Budget Plan")
        assert after == before | {3: before[3] | {2: "=SUM(A1)"}, 4: before[4] | {3: "00123"}}
        assert made.permits.asked == [("write", False)] * 2
        assert book(made).metadata == {}


REFUSED: tuple[tuple[str, str, list[list[Cell]], str], ...] = (
    ("append", "Nowhere!A1", [["a"]], "sheet_not_found"),
    ("update", "Nowhere!A1", [["a"]], "invalid_write"),
    ("append", "Leads!A1:B2", [["a", "b", "c"]], "beyond_target"),
    ("append", "Leads!Z1", [["a"]] * 10_001, "too_far_right"),
    ("append", "Leads!ZZZ1", [["a"]] * 14, "too_far_right"),
    ("update", "Leads!A1:B2", [["a", "b", "c"]], "beyond_target"),
    ("update", "Leads!A1:B2", [["a"], ["b"], ["c"]], "beyond_target"),
    ("update", "Leads!A1001", [["a"]], "invalid_write"),
    ("append", "Leads", [["a"]], "invalid_target"),
    ("append", "!A1", [["a"]], "invalid_target"),
    ("append", "Leads!B2:A1", [["a"]], "invalid_target"),
    ("append", "Leads!A1", [[2**53 + 1]], "inexact_number"),
    ("update", "Leads!A1", [["a"], [-(2**53) - 1]], "inexact_number"),
)


@pytest.mark.parametrize(("mode", "target", "rows", "code"), REFUSED)
async def test_refusals(mode: str, target: str, rows: list[list[Cell]], code: str, tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        before = made.stored()
        failure = await made.refused(rows, mode=mode, target=target)
        assert (failure.code, failure.retryable) == (code, False)
        assert made.stored() == before


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ("0gone", "spreadsheet_not_found"),
        ("9private", "no_access"),
        ("a/b", "invalid_account"),
        ("", "invalid_account"),
    ],
)
async def test_spreadsheets_that_cannot_be_written(account: str, code: str, tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        for mode in ("append", "update"):
            assert (await made.refused([["a"]], mode=mode, spreadsheet_id=account)).code == code


async def test_full_quotas_name_their_bucket(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.set_quota("sheets_writes_user", 0)
        assert (await made.refused(ROWS)).throttle == Throttle("writes_per_minute_user", None)
        made.sandbox.set_quota("sheets_writes_user", None)
        made.sandbox.set_quota("sheets_writes_project", 0)
        assert (await made.refused(ROWS, mode="update")).throttle == Throttle("writes_per_minute", None)


async def test_a_mode_that_does_not_exist_is_our_own_mistake(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        with pytest.raises(ValueError, match="replace"):
            await made.write([["a"]], mode="replace")


async def test_an_answer_about_something_else_is_none() -> None:
    async def handle(request: web.Request) -> web.Response:
        body: dict[str, Any] = {"spreadsheetId": "1other"}
        if request.method == "GET":
            body = {"sheets": [{"properties": {"title": "Leads"}}]}
        return web.json_response(body)

    async with calling(handle, offer=sheets_offer()) as setting:
        for mode in ("append", "update"):
            with pytest.raises(ProviderError) as raised:
                await SheetsConnector(api_url=f"{setting.base}/v4/").write(
                    spreadsheet_id=BOOK, request_id=REQUEST, target="Leads!A1", mode=mode, rows=[["a"]],
                    calls=setting.calls,
                )  # fmt: skip
            assert (raised.value.failure.code, raised.value.failure.retryable) == ("unreadable_answer", True)


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(["=A1", "+1", "-1", "@x", "'", "TRUE", "1e3", "2026-11-01"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=4), mode=st.booleans())
async def test_any_row_comes_back_equal(rows: list[list[Cell]], mode: bool, tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        target = "It's empty!A1"
        assert await made.write(rows, mode="append" if mode else "update", target=target) == len(rows)
        stored = made.stored("It's empty")
        found = [[stored.get(row + 1, {}).get(at + 1) for at in range(len(cells))] for row, cells in enumerate(rows)]
        assert orjson.dumps(found) == orjson.dumps([[_kept(cell) for cell in row] for row in rows])


def _kept(cell: Cell) -> Cell:
    return float(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell


class _Hiding:
    """Calls whose look at the spreadsheet shows no stamps, as it did before the other one wrote."""

    def __init__(self, made: Sheets, metadata_id: int) -> None:
        calls = made.calls(sheets_offer())
        request = calls.request

        async def hidden(method: str, url: str, **options: Any) -> Any:
            answer = await request(method, url, **options)
            if "params" in options and method == "GET":
                content = orjson.loads(answer.body)
                assert [one["metadataId"] for one in content.pop("developerMetadata")] == [metadata_id]
                return type(answer)(answer.status, answer.headers, orjson.dumps(content))
            return answer

        calls.request = hidden  # type: ignore[method-assign]
        self.arguments: dict[str, Any] = {
            "spreadsheet_id": BOOK, "request_id": REQUEST, "target": "Leads!A1", "mode": "append", "rows": ROWS,
            "calls": calls,
        }  # fmt: skip
        assert isinstance(calls, ProviderHttp)
