"""Tables read from the sandbox: what is stored equals what the provider holds, and each fault has its name."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import Throttle
from app.sandbox.sheets.spreadsheets import Formula
from tests.connectors.sheets import BOOK, Sheets, sheets, sheets_offer


def shown(value: Any) -> tuple[str | None, str]:
    """A cell of the sandbox as it must stand in a file."""
    if value is None:
        return None, "empty"
    if isinstance(value, bool):
        return str(value).lower(), "boolean"
    if isinstance(value, float):
        return (str(int(value)) if value == int(value) else str(value)), "number"
    return str(value), "string"


def truth(made: Sheets, title: str, columns: range) -> list[tuple[int, list[str | None], list[str]]]:
    """(row, cells, kinds) up to the last row with anything in these columns."""
    stored = made.stored(title)
    last = max(row for row, cells in stored.items() if set(cells) & set(columns))
    found = []
    for row in range(1, last + 1):
        cells = [shown(stored.get(row, {}).get(column)) for column in columns]
        found.append((row, [text for text, _ in cells], [kind for _, kind in cells]))
    return found


def told(rows: list[dict[str, Any]]) -> list[tuple[int, list[str | None], list[str]]]:
    return [(row["row"], row["cells"], row["kinds"]) for row in rows]


async def test_stored_rows_are_the_providers(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        rows = await made.rows(sheets_offer("Leads!A1:E"))
        wanted = truth(made, "Leads", range(1, 6))
        assert told(rows) == wanted
        assert len(rows) == 21
        assert rows[3]["cells"] == [None] * 5
        assert {kind for row in rows for kind in row["kinds"]} == {"string", "number", "boolean", "empty"}
        same = ("connector_id", "date", "range", "account_id", "time_zone", "sheet", "first_column")
        assert {tuple(row[name] for name in same) for row in rows} == {
            ("conn_" + "1" * 32, date(2026, 11, 1), "Leads!A1:E", BOOK, "Europe/Madrid", "Leads", "A")
        }
        assert made.permits.asked == [("read", True)]
        (call,) = made.sandbox.calls("sheets.values_batch_get")
        assert (call.account, call.quota_group) == (BOOK, "sheets_reads")


async def test_several_ranges_in_one_call(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        asked = ("'Budget Plan'!B2:C4", "Leads!$b2:C3", "'It''s empty'!A1:B9", "Leads!A2")
        made.sandbox.sheet(BOOK, "Leads").cells[(3, 3)] = 5.0
        outcome = await made.run(sheets_offer(*asked))
        assert outcome.file is not None
        assert (outcome.calls, outcome.file.rows) == (1, 6)
        rows = await made.rows(sheets_offer(*asked))
        assert [(row["range"], row["row"], row["sheet"], row["first_column"]) for row in rows] == [
            (asked[0], 2, "Budget Plan", "B"), (asked[0], 3, "Budget Plan", "B"), (asked[0], 4, "Budget Plan", "B"),
            (asked[1], 2, "Leads", "B"), (asked[1], 3, "Leads", "B"), (asked[3], 2, "Leads", "A"),
        ]  # fmt: skip
        assert rows[0]["cells"] == ["Month", "Budget"]
        assert rows[5]["cells"] == ["L00001"]


async def test_without_ranges_every_sheet_is_read(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        rows = await made.rows(sheets_offer())
        assert dict.fromkeys(row["range"] for row in rows) == dict.fromkeys(["'Leads'", "'Budget Plan'"])
        assert made.permits.asked == [("read", False), ("read", True)]
        assert {len(row["cells"]) for row in rows if row["sheet"] == "Leads"} == {26}


async def test_what_is_typed_in_is_read_anew(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        before = await made.rows(sheets_offer("Leads!A1"))
        made.sandbox.sheet(BOOK, "Leads").cells[(1, 1)] = Formula("=1+1")
        after = await made.rows(sheets_offer("Leads!A1", run=2))
        assert [row[0]["cells"] for row in (before, after)] == [["Lead"], ["#NAME?"]]


async def test_many_ranges_are_asked_for_in_few_calls_and_one_version_is_drawn(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        asked = tuple(f"Leads!A{row}:E{row + 500}" for row in range(1, 22))
        more = tuple(f"'Budget Plan'!B{row}:C{row + at}" for at in range(20) for row in range(2, 15))
        rows = await made.rows(sheets_offer(*asked, *more))
        assert dict.fromkeys(row["range"] for row in rows) == dict.fromkeys((*asked, *more[:-1], more[-1]))
        count = len(made.permits.asked)
        assert made.permits.asked == [("read", True), *[("read", False)] * (count - 1)]
        assert 2 <= count <= 3


async def test_a_large_sheet(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.world.sheets.leads = 60_000
        rows = await made.rows(sheets_offer("Leads"))
        assert [row["row"] for row in rows] == list(range(1, 60_002))
        assert rows[-1]["cells"][0] == "L60000"


async def test_second_worker_finds_the_file_and_calls_nobody(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        first = await made.run(sheets_offer("Leads"))
        again = await made.run(sheets_offer("Leads", epoch=9))
        assert (again.file, again.calls) == (first.file, 0)


async def test_token_refused_once_costs_one_more_permit(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.faults.add("sheets.*", "token_expired", times=1)
        assert await made.rows(sheets_offer("Leads"))
        assert len(made.permits.asked) == 2


REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Nowhere!A1",), BOOK, "invalid_range"),
    (("Leads!A5000:B",), BOOK, "invalid_range"),
    (("Leads!A1:B2", "Leads!1A"), BOOK, "invalid_range"),
    (("Leads",), "0gone", "spreadsheet_not_found"),
    (("Leads",), "9private", "no_access"),
    (("Leads",), "8office", "not_a_spreadsheet"),
    (("Leads",), "../../token", "invalid_account"),
    (("Leads",), "a:batchUpdate", "invalid_account"),
    ((), "0gone", "spreadsheet_not_found"),
)


@pytest.mark.parametrize(("ranges", "account", "code"), REFUSED)
async def test_refusals(ranges: tuple[str, ...], account: str, code: str, tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        failure = await made.failure(sheets_offer(*ranges, account_id=account))
        assert (failure.code, failure.retryable, failure.system) == (code, False, False)
        called = [call for call in made.sandbox.calls() if call.provider == "sheets"]
        assert bool(called) == (code != "invalid_account")


FAULTS: tuple[tuple[str, str, bool], ...] = (
    ("429", "rate_limited", False),
    ("403_rate", "rate_limited", False),
    ("403_permission", "no_access", False),
    ("500", "provider_unavailable", True),
    ("503", "provider_unavailable", True),
    ("html", "unexpected_content_type", False),
    ("empty", "unexpected_content_type", False),
    ("garbage", "unexpected_content_type", False),
    ("truncate", "unreadable_answer", False),
    ("cut", "truncated_body", True),
    ("lost", "connection_reset", True),
    ("wrong_content_type", "unexpected_content_type", False),
    ("wrong_encoding", "unreadable_answer", False),
)


@pytest.mark.parametrize(("fault", "code", "system"), FAULTS)
async def test_faults(fault: str, code: str, system: bool, tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.faults.add("sheets.values_batch_get", fault)
        failure = await made.failure(sheets_offer("Leads"))
        assert (failure.code, failure.system) == (code, system)


async def test_full_quotas_name_their_bucket(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.set_quota("sheets_reads_user", 1)
        await made.rows(sheets_offer("Leads"))
        failure = await made.failure_of(sheets_offer("Leads", run=2))
        assert failure.throttle == Throttle("reads_per_minute_user", None)
        made.sandbox.set_quota("sheets_reads_user", None)
        made.sandbox.set_quota("sheets_reads_project", 1)
        failure = await made.failure_of(sheets_offer("Leads", run=3))
        assert failure.throttle == Throttle("reads_per_minute", None)


async def test_an_answer_that_is_too_long(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        made.sandbox.faults.add("sheets.values_batch_get", "huge", size=20 << 20)
        failure = await made.failure(sheets_offer("Leads"))
        assert failure.code == "unexpected_content_type"
        made.sandbox.faults.clear()
        made.sandbox.sheet(BOOK, "Leads").cells |= {(row, 1): "x" * 40_000 for row in range(2, 600)}
        failure = await made.failure(sheets_offer("Leads"))
        assert (failure.error_class, failure.code, failure.retryable) == ("too_large", "response_too_large", False)


async def test_accounts_are_not_listed_and_cost_nothing(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        assert await made.connector.accounts(made.calls(sheets_offer())) == ()
        assert made.permits.asked == []


async def test_a_step_that_does_not_exist_is_our_own_mistake(tmp_path: Path) -> None:
    async with sheets(tmp_path) as made:
        with pytest.raises(ValueError, match="poll"):
            await made.connector.step(sheets_offer(step="poll"), made.calls(sheets_offer()))
