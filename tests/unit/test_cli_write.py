"""``connector write``, and how a write is told by the other commands."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.cli import words
from app.cli.following import line
from app.cli.queue import row
from app.services.explain import explain, reason
from app.services.explain_events import summary
from tests.unit.cli_door import CONNECTOR, REQUEST, Door, completed, failed, problem, status_body
from tests.unit.conftest import Run

PATH = f"/{CONNECTOR}/write"
TARGET = ("--target", "Leads!A1")
NOW = 1_767_225_605_000
WRITE: dict[str, Any] = {
    "request_type": "write", "connector_type": "SHEETS", "report_type": None, "date_range": None, "fields": [],
    "labels": {}, "batched_with": [], "rate_limit_status": None,
    "write": {"target": "Leads!A1", "mode": "append", "rows": 3, "sent": False},
}  # fmt: skip
DONE = completed(**WRITE, result={"target": "Leads!A1", "rows_written": 3})
BEHIND = {"reason": "earlier_write", "until": None}
ANSWER = {
    "request_id": REQUEST, "status": "queued", "queue_position": 3, "estimated_wait_seconds": 45.0, "batched_with": [],
    "rate_limit_status": None, "waiting": BEHIND,
}  # fmt: skip


@pytest.fixture(autouse=True)
def answers(door: Door) -> None:
    door.put("POST", PATH, ANSWER)


def sent(door: Door) -> Any:
    return door.asked[0].body


def test_csv_gives_texts_and_nothing_else(ask: Run, door: Door, tmp_path: Path) -> None:
    text = '\ufeffname,since,"a ""b"", c"\r\n=1+1,2026-01-01,1\r\n\r\n-5,,"two\nlines"\r\n'
    (tmp_path / "leads.csv").write_bytes(text.encode())
    code, out, err = ask("write", CONNECTOR, *TARGET, "--rows", "leads.csv")
    assert code == 0
    assert sent(door) == {
        "target": "Leads!A1",
        "mode": "append",
        "rows": [["name", "since", 'a "b", c'], ["=1+1", "2026-01-01", "1"], ["-5", "", "two\nlines"]],
        "priority": "normal",
    }
    assert "an earlier write to the same spreadsheet has not ended" in out
    assert err == f"next:  connector watch {REQUEST}\n"


def test_json_lines_give_cells_of_their_own_type(ask: Run, door: Door, tmp_path: Path) -> None:
    cells: list[list[Any]] = [["1", 1, 1.0, True, None], ["ä\u2028ö"]]
    (tmp_path / "x.JSONL").write_text("\n".join(json.dumps(c, ensure_ascii=False) for c in cells) + "\n\n", "utf-8")
    options = ("--mode", "update", "--priority", "backfill", "--idempotency-key", "k", "--json")
    code, out, err = ask("write", CONNECTOR, *TARGET, "--rows", "x.JSONL", *options)
    assert (code, err, json.loads(out)) == (0, "", ANSWER)
    body = sent(door)
    assert (body["mode"], body["priority"]) == ("update", "backfill")
    assert [[(type(c), c) for c in r] for r in body["rows"]] == [[(type(c), c) for c in r] for r in cells]
    assert door.asked[0].headers["Idempotency-Key"] == "k"


@pytest.mark.parametrize(("format_", "rows"), [((), [["[1]"]]), (("--format", "jsonl"), [[1]])])
def test_rows_may_come_along_a_pipe(
    ask: Run, door: Door, monkeypatch: pytest.MonkeyPatch, format_: tuple[str, ...], rows: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1]\n")))
    assert ask("write", CONNECTOR, *TARGET, "--rows", "-", *format_)[0] == 0
    assert sent(door)["rows"] == rows


@pytest.mark.parametrize(
    ("name", "content", "code", "text"),
    [
        ("a.csv", b"", 2, "there are no rows in a.csv"),
        ("a.csv", b"\n\n", 2, "there are no rows in a.csv"),
        ("a.csv", b'a,"b\n', 2, "this is no CSV: "),
        ("a.csv", b"\xff\xfe", 2, "a.csv is not UTF-8"),
        ("a.csv", b"x" * (4 * 2**20 + 1), 2, "a.csv is too large for one write: send several"),
        ("a.jsonl", b"[1]\nnope\n", 2, "line 2 is not JSON"),
        ("a.jsonl", b"[NaN]\n", 2, "line 1 is not JSON"),
        ("a.jsonl", b"[1e999]\n", 2, "line 1 is not JSON"),
        ("a.jsonl", b'["\\ud800"]\n', 2, "line 1 is not JSON"),
        ("a.jsonl", b"[" * 5_000, 2, "line 1 is not JSON"),
        ("a.jsonl", b"[" * 990 + b"]" * 990, 2, "line 1 is not JSON"),
        ("a.jsonl", b'{"a": 1}\n', 2, "line 1 is no array of cells"),
        ("b.csv", b"a", 1, "a.csv cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_rows_is_not_sent(
    ask: Run, door: Door, tmp_path: Path, name: str, content: bytes, code: int, text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    asked = "a.csv" if name == "b.csv" else name
    found, out, err = ask("write", CONNECTOR, *TARGET, "--rows", asked)
    assert (found, out) == (code, "")
    assert text in err
    assert door.asked == []


def test_waiting_ends_with_what_was_written(ask: Run, door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    door.put("GET", f"/requests/{REQUEST}", status_body(**WRITE), DONE)
    code, out, _ = ask("write", CONNECTOR, *TARGET, "--rows", "a.csv", "--wait")
    assert code == 0
    assert out.splitlines()[-1].endswith("completed: 3 rows written")
    rejected = {"class": "invalid_request", "code": "sheet_write_rejected", "message": "No.", "retryable": False}
    door.put("GET", f"/requests/{REQUEST}", failed(**WRITE, error=rejected))
    code, _, err = ask("write", CONNECTOR, *TARGET, "--rows", "a.csv", "--wait")
    assert code == 1
    assert "failed: No (sheet_write_rejected)" in err


def test_refusals_say_what_to_do(ask: Run, door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    door.put("POST", PATH, problem("write_not_supported", 501, "DV360 can only be read"))
    assert ask("write", CONNECTOR, *TARGET, "--rows", "a.csv")[0] == 2
    door.put("POST", PATH, problem("not_found", 404))
    code, _, err = ask("write", CONNECTOR, *TARGET, "--rows", "a.csv")
    assert (code, "there is no such connector" in err, "connector connectors list" in err) == (4, True, True)
    door.put("POST", PATH, problem("invalid_request", 422))
    assert "connector write --help" in ask("write", CONNECTOR, *TARGET, "--rows", "a.csv")[2]
    door.put("DELETE", f"/requests/{REQUEST}", problem("already_running", 409, "the write is under way"))
    code, _, err = ask("cancel", REQUEST)
    assert (code, "the write is under way" in err, f"connector watch {REQUEST}" in err) == (1, True, True)


def test_a_write_is_told_as_one() -> None:
    told = words.lines(DONE, NOW)
    assert "write      append 3 rows at Leads!A1" in told
    assert "rows       3 written at Leads!A1" in told
    assert not [text for text in told if text.startswith(("report", "days", "columns"))]
    assert line(DONE, NOW).endswith("completed: 3 rows written")
    entry = {
        "request_id": REQUEST, "queue_position": 3, "connector_type": "SHEETS", "report_type": None,
        "target": "Leads!A1", "priority": "normal", "waiting": BEHIND, "estimated_wait_seconds": 1.0,
    }  # fmt: skip
    assert row(entry, NOW)["report"] == "write to Leads!A1"


def test_its_story() -> None:
    story = explain(DONE, NOW, org_id=7)
    assert story[0] == f"Organisation 7 asked SHEETS ({CONNECTOR}) to append 3 rows at Leads!A1, at normal priority."
    assert story[-1] == "It wrote 3 rows at Leads!A1."
    assert "from the first call to the last answer" in " ".join(story)
    assert "file" not in " ".join(story)
    waits = explain(status_body(**WRITE, waiting=BEHIND), NOW)
    assert "It waits: an earlier write to the same spreadsheet has not ended." in waits
    rejected = {"class": "invalid_request", "code": "sheet_write_rejected", "message": "No.", "retryable": False}
    assert explain(failed(**WRITE, error=rejected), NOW)[-1].startswith("Correct its target or rows")
    missing = {**rejected, "class": "not_found", "code": "sheet_not_found"}
    assert explain(failed(**WRITE, error=missing), NOW)[-1].startswith("Check the target's sheet")


def test_why_it_waits_and_until_when() -> None:
    assert reason(BEHIND, NOW) == "an earlier write to the same spreadsheet has not ended"
    late = {"reason": "earlier_write", "until": "2026-01-01T00:02:05.000Z"}
    assert reason(late, NOW) == ("an earlier write to the same spreadsheet may still land until 00:02:05 (in 2 min)")


def test_its_event_in_one_line() -> None:
    event = {"type": "data_written", "data": {"target": "Leads!A1", "rows_written": 3}}
    assert summary(event, NOW) == "3 rows at Leads!A1"


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("left", [True, False])
def test_who_would_send_a_failed_write_again_is_told_to_look_first(left: bool, retryable: bool) -> None:
    error = {"class": "provider_system", "code": "read_timeout", "message": "No.", "retryable": retryable}
    body = status_body(status="failed", error=error, **WRITE | {"write": {**WRITE["write"], "sent": left}})
    assert ("may be in the spreadsheet" in " ".join(explain(body, NOW))) is (left and retryable)
