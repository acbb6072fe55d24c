"""The CSV server's adapter: every form of answer, whole fetches against the sandbox, and how small it is."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.config import Settings
from app.connectors.base import Limits
from app.connectors.csv_https.quotas import QUOTAS
from app.connectors.registry import connectors_of, hosts_of
from app.domain.errors import Throttle
from app.domain.messages import Offer
from tests.connectors.ads import dripping, saying
from tests.connectors.csv_server import HEADER, csv_fetch, csv_offer, line
from tests.connectors.rig import FIRST, LAST, LocalFetch, SandboxFetch, parquet_files, rows_of, sandboxed
from tests.connectors.support import calling, facts

fetching = partial(sandboxed, "CSV_HTTPS")
PACKAGE = Path(__file__).parents[2] / "app" / "connectors" / "csv_https"
CSV = "text/csv; charset=utf-8"


def said(text: str, status: int = 200, seen: list[web.Request] | None = None, kind: str = CSV) -> Any:
    return saying(text.encode(), status, seen=seen, Content_Type=kind)


def test_an_adapter_written_from_the_how_to_has_less_than_150_lines() -> None:
    files = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.glob("*.py")}
    assert set(files) == {"__init__.py", "client.py", "errors.py", "quotas.py", "reports.py"}
    assert sum(files.values()) < 150


async def test_the_file_is_asked_for_by_account_report_and_days(tmp_path: Path) -> None:
    seen: list[web.Request] = []
    async with csv_fetch(tmp_path, said(HEADER + line(1) + line(7, "c8", ",,0.5"), seen=seen)) as fetch:
        first, second = await fetch.rows()
        assert seen[0].path == "/reports/shop-7/campaign_performance.csv"
        assert dict(seen[0].query) == {"start": "2026-11-01", "end": "2026-11-07"}
        assert seen[0].headers["Authorization"] == "Bearer token-one"
        assert fetch.setting.permits.asked == [("files", True)]
    known = facts()
    assert first == {
        "connector_id": known.connector_id, "date": date(2026, 11, 1), "campaign_id": "c9",
        "campaign_name": "Campaign, c9", "account_id": "shop-7", "currency": None, "time_zone": known.time_zone,
        "impressions": 120, "clicks": 3, "conversions": None, "spend": Decimal("12.345678"),
    }  # fmt: skip
    assert (second["impressions"], second["clicks"], second["spend"]) == (None, None, Decimal("0.5"))


async def test_pieces_cut_anywhere_are_the_same_rows(tmp_path: Path) -> None:
    text = (HEADER + "".join(line(1 + n % 7, f"ü{n}") for n in range(40))).encode()
    async with csv_fetch(tmp_path, dripping(text, 7, headers={"Content-Type": CSV})) as fetch:
        assert [row["campaign_id"] for row in await fetch.rows()] == [f"ü{n}" for n in range(40)]


WRONG: tuple[tuple[str, str, str], ...] = (
    (HEADER + line(8), CSV, "date_out_of_range"),
    (HEADER + line(1, figures="1.5,3,1"), CSV, "bad_value"),
    (HEADER + line(1, figures="1,many,1"), CSV, "bad_value"),
    ("date,id,name,impressions,clicks\n", CSV, "missing_column"),
    ("date,id,name,impressions,clicks,cost,device\n", CSV, "unexpected_column"),
    ("date,id,name,impressions,clicks,cost,device\n2026-11-01,c9,C,1,1,1,phone\n", CSV, "unexpected_column"),
    ("date,date,name,impressions,clicks,cost\n", CSV, "duplicate_column"),
    ("", CSV, "empty_report"),
    ("<html>Sign in</html>", CSV, "not_a_report"),
    (HEADER, "text/html", "unexpected_content_type"),
)


@pytest.mark.parametrize(("text", "kind", "code"), WRONG)
async def test_what_is_no_such_file_is_not_kept(tmp_path: Path, text: str, kind: str, code: str) -> None:
    async with csv_fetch(tmp_path, said(text, kind=kind)) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.system) == (code, False)


async def test_a_file_that_ends_within_a_row_is_not_kept(tmp_path: Path) -> None:
    cut = (HEADER + line(1) + line(2)).encode()[:-3]
    async with csv_fetch(tmp_path, dripping(cut, 50, headers={"Content-Type": CSV})) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, failure.system) == ("truncated_report", True, True)


async def test_a_file_beyond_the_limits_is_not_read_on(tmp_path: Path) -> None:
    text = HEADER + "".join(line(1, f"c{n}") for n in range(1_000))
    async with csv_fetch(tmp_path, said(text), limits=Limits(stream_bytes=10_000)) as fetch:
        assert (await fetch.failure()).code == "response_too_large"


@pytest.mark.parametrize("account", ["a/../b", "a b", "", "ä", "a%2Fb", "a?x"])
async def test_an_id_that_is_no_part_of_a_url_is_not_called(tmp_path: Path, account: str) -> None:
    seen: list[web.Request] = []
    async with csv_fetch(tmp_path, said(HEADER, seen=seen)) as fetch:
        failure = await fetch.failure(csv_offer(account_id=account))
        assert (failure.code, failure.retryable, seen) == ("invalid_account", False, [])


async def test_a_delay_in_seconds_closes_the_bucket_for_so_long(tmp_path: Path) -> None:
    async with csv_fetch(tmp_path, saying(b"", 429, Retry_After="7")) as fetch:
        assert (await fetch.failure()).throttle == Throttle(None, 7.0)


async def test_a_step_that_does_not_exist_is_our_own_mistake() -> None:
    connector = connectors_of(Settings.load({}))["CSV_HTTPS"]
    with pytest.raises(ValueError, match="poll"):
        await connector.step(csv_offer("poll"), None)  # type: ignore[arg-type] # nobody is called
    assert await connector.accounts(None) == ()  # type: ignore[arg-type] # nobody is called


async def test_without_a_base_url_nobody_is_called(tmp_path: Path) -> None:
    unset, seen = Settings.load({}), list[web.Request]()
    async with calling(said(HEADER, seen=seen), hosts=hosts_of(unset)["CSV_HTTPS"]) as setting:
        fetch = LocalFetch(setting, tmp_path, connectors_of(unset)["CSV_HTTPS"], csv_offer)
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, seen) == ("host_not_allowed", False, [])


# Whole fetches


def job(**changes: Any) -> Offer:
    return csv_offer(**({"start": FIRST.toordinal(), "end": LAST.toordinal()} | changes))


def truth(fetch: SandboxFetch, report: str = "campaign_performance") -> list[tuple[Any, ...]]:
    rows = fetch.sandbox.csv_truth("shop-7", report, FIRST, LAST)
    return [(row.day, row.id, row.name, row.impressions, row.clicks, row.cost) for row in rows]


@pytest.mark.parametrize("entity", ["campaign", "account"])
async def test_stored_rows_are_the_providers(tmp_path: Path, entity: str) -> None:
    async with fetching(tmp_path, campaigns=30) as fetch:
        rows = await fetch.rows(job(report_type=f"{entity}_performance"))
        names = ("date", f"{entity}_id", f"{entity}_name", "impressions", "clicks", "spend")
        assert [tuple(row[name] for name in names) for row in rows] == truth(fetch, f"{entity}_performance")
        assert len(rows) == (210 if entity == "campaign" else 7)
        assert {row["account_id"] for row in rows} == {"shop-7"}
        (call,) = fetch.sandbox.calls("csv.file")
        assert (call.user, call.account, call.over_quota) == ("ana", "shop-7", False)


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        assert rows_of(await fetch.run(job())) == []


async def test_token_refused_once_costs_one_more_permit(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("csv.file", "token_expired", times=1)
        assert await fetch.rows(job())
        assert (fetch.tokens.rejected, len(fetch.permits.asked)) == ([fetch.tokens.tokens[0]], 2)


async def test_a_full_quota_says_when(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.set_quota("csv_files", 0)
        failure = (await fetch.run(job())).failure
        assert failure is not None
        assert failure.throttle == Throttle(None, 60.0)
        assert {quota.charge for quota in QUOTAS} == {"files"}


FAULTS: tuple[tuple[dict[str, Any], str, bool], ...] = (
    ({"fault": "429"}, "rate_limited", False),
    ({"fault": "403_permission"}, "no_access", False),
    ({"fault": "token_expired"}, "token_rejected", False),
    ({"fault": "500"}, "provider_unavailable", True),
    ({"fault": "503"}, "provider_unavailable", True),
    ({"fault": "html"}, "unexpected_content_type", False),
    ({"fault": "garbage"}, "unexpected_content_type", False),
    ({"fault": "bad_gzip"}, "bad_encoding", False),
    ({"fault": "wrong_encoding"}, "bad_encoding", False),
    ({"fault": "duplicate_headers"}, "duplicate_column", False),
    ({"fault": "cut"}, "truncated_body", True),
    ({"fault": "truncate"}, "truncated_report", True),
    ({"fault": "reset"}, "connection_reset", True),
    ({"fault": "hang", "seconds": 5}, "read_timeout", True),
    ({"fault": "drip", "seconds": 0.05}, "call_timeout", True),
    ({"fault": "bomb", "size": 50_000_000}, "response_too_large", False),
    ({"fault": "long_line", "size": 3_000_000}, "response_too_large", False),
)


@pytest.mark.parametrize(("fault", "code", "system"), FAULTS)
async def test_faults_have_names(tmp_path: Path, fault: dict[str, Any], code: str, system: bool) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=1, stream_s=1, idle_s=0.5)) as fetch:
        fetch.sandbox.faults.add("csv.*", **fault)
        outcome = await fetch.run(job())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == (code, system)
        assert outcome.file is None
        assert parquet_files(tmp_path) == []
