"""The checker's parts, one by one: counting windows, reading files, cutting events down, asking for truth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.connectors.rig import FIRST, LAST, sandboxed
from tests.connectors.support import offer
from tests.e2e import check_quotas
from tests.e2e.evidence import Cells, Dead, account_rows, read_file, told
from tests.e2e.findings import Report
from tests.e2e.gathering import SandboxTruth, dead_letter

CONN = f"conn_{1:032x}"
DAYS = (date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3))
FILE = {
    "uri": "file:///f",
    "from": "2026-03-01",
    "to": "2026-03-03",
    "rows": 6,
    "size_bytes": 900,
    "checksum": "sha256:ab",
}


def request_id(number: int) -> str:
    return f"req_{number:032x}"


def campaign(number: int) -> Cells:
    money = {"conversions": Decimal("0.25"), "spend": Decimal(2), "media_cost": Decimal("0.5")}
    counts = {"impressions": 100, "clicks": number, "billable_impressions": 1}
    return {"account_id": "4567", "currency": "EUR", "campaign_id": str(number), **counts, **money}


def test_many_problems_of_one_kind_are_counted_not_listed() -> None:
    report = Report()
    for number in range(25):
        report.add("F1 lost", str(number))
    assert len(report.problems) == 11
    assert report.problems[-1] == "F1 lost: and 15 more"


def test_windows_are_half_open_and_days_are_the_zone_s() -> None:
    assert check_quotas.fullest([0.0, 0.5, 1.0, 1.4], 1.0) == 3
    assert check_quotas.over([0.0, 0.5, 1.0, 1.4], 1.0, 2) == 1
    assert check_quotas.fullest([], 1.0) == 0
    # 2026-03-08 07:59 and 08:01 UTC: before and after midnight in Los Angeles.
    assert check_quotas.fullest_day([1_772_956_740, 1_772_956_860], "America/Los_Angeles") == 1
    assert check_quotas.fullest_day([1_772_956_740, 1_772_956_860], "UTC") == 2


async def test_a_result_says_which_report_it_was_made_of(tmp_path: Path) -> None:
    async with sandboxed("DV360", tmp_path) as fetch:
        outcome = await fetch.run(offer("start", start=FIRST.toordinal(), end=LAST.toordinal()))
        assert outcome.file is not None
        stored = read_file(outcome.file.uri)
        assert stored is not None
        assert [stored.report_id] == [report["report_id"] for report in fetch.sandbox.reports()]


def test_a_file_is_read_as_it_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "one file.parquet"
    pq.write_table(pa.table({"date": [DAYS[0], DAYS[0], DAYS[1]], "clicks": [1, 2, 3]}), path)
    stored = read_file(path.as_uri())
    assert stored is not None
    assert stored.count == 3
    assert stored.size_bytes == path.stat().st_size
    assert stored.report_id == ""
    assert stored.checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert stored.rows == {DAYS[0]: [{"clicks": 1}, {"clicks": 2}], DAYS[1]: [{"clicks": 3}]}
    assert read_file((tmp_path / "none").as_uri()) is None
    with pytest.raises(ValueError, match="s3"):
        read_file("s3://bucket/key")


def test_accounts_are_sums_of_their_campaigns() -> None:
    summed: Sequence[Cells] = account_rows([campaign(1), campaign(2)])
    assert [(one["clicks"], one["conversions"], one["spend"]) for one in summed] == [(3, Decimal("0.50"), Decimal(4))]
    assert account_rows([]) == []


def test_receipts_are_cut_down_without_losing_what_is_checked() -> None:
    data = {"batched_with": [request_id(1), request_id(2)], "files": [FILE], "records_fetched": 3}
    event = {
        "event_id": "evt_1", "type": "data_fetched", "org_id": 7, "connector_id": CONN, "request_id": request_id(2),
        "labels": {}, "data": data,
    }  # fmt: skip
    shared: dict[Any, Any] = {}
    first, second = told(0, 1, event, shared), told(0, 2, {**event, "data": {**data, "files": [dict(FILE)]}}, shared)
    assert (first.others, first.names_itself) == (2, True)
    assert first.data["files"][0] is second.data["files"][0]


def test_a_dead_letter_is_read_by_its_newest_reason() -> None:
    headers = [
        ("error_code", b"old"), ("error_code", b"new"), ("error_detail", b"why"), ("source_topic", b"t"),
        ("source_partition", b"3"), ("source_offset", b"14"),
    ]  # fmt: skip
    assert dead_letter(headers, None) == Dead(("t", 3, 14), "new", "why", None)
    assert dead_letter([], b"x").source is None


def test_truth_is_asked_for_once_and_by_run_where_named() -> None:
    asked: list[Mapping[str, Any]] = []

    def ask(_sandbox: str, _door: str, **query: Any) -> Any:
        asked.append(query)
        cells = {
            "date": "2026-03-02",
            "advertiser_id": "4567",
            "currency": "EUR",
            "campaign_id": "1",
            "campaign_name": "C",
        }
        figures = {
            "impressions": 5,
            "clicks": 1,
            "conversions": "0.25",
            "spend": "1.5",
            "media_cost": "1",
            "billable_impressions": 4,
        }
        return {"rows": [{**cells, **figures}]}

    truth = SandboxTruth("http://sandbox", [{"report_id": "8"}], ask=ask)
    assert [row["spend"] for row in truth("", "4567", DAYS[0], DAYS[2])[DAYS[1]]] == [Decimal("1.5")]
    truth("", "4567", DAYS[1], DAYS[2])
    truth("8", "4567", DAYS[0], DAYS[2])
    assert truth("80", "4567", DAYS[0], DAYS[2]) == {}
    assert [query.get("report_id") for query in asked] == [None, "8"]
