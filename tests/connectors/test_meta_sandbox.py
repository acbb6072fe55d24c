"""Whole fetches of Meta against the sandbox: what is stored equals what the provider holds, and each fault has its
name."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.connectors.base import Limits
from app.domain.errors import Throttle
from app.domain.messages import Offer, Usage
from app.ports import Account
from app.sandbox.dv360.state import Polls
from app.sandbox.meta.accounts import FIRST_ACCOUNT, account_of
from tests.connectors.meta import meta_offer
from tests.connectors.rig import FIRST, LAST, SandboxFetch, parquet_files, rows_of, sandboxed

RUNS_ALONE = {"CONNECTOR__PROVIDERS__META__SYNC_DAYS": "0"}


def fetching(
    folder: Path, more: dict[str, str] | None = None, **settings: Any
) -> AbstractAsyncContextManager[SandboxFetch]:
    """Every report a run; those read without one: test_meta_sync.py."""
    return sandboxed("META", folder, more=RUNS_ALONE | (more or {}), **settings)


def job(account: int = FIRST_ACCOUNT, **changes: Any) -> Offer:
    known = {"start": FIRST.toordinal(), "end": LAST.toordinal()} | changes
    return meta_offer("start", account_id=str(account), **known)


def truth(
    fetch: SandboxFetch, account: int = FIRST_ACCOUNT, first: date = FIRST, last: date = LAST
) -> set[tuple[Any, ...]]:
    return {
        (row.day, str(row.campaign_id), row.campaign_name, row.currency, row.impressions, row.clicks,
         Decimal(row.purchases), row.spend)
        for row in fetch.sandbox.meta_truth(account, first, last)
    }  # fmt: skip


def stored(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("date", "campaign_id", "campaign_name", "currency", "impressions", "clicks", "conversions", "spend")
    return {tuple(row[name] for name in names) for row in rows}


async def test_stored_rows_are_the_providers(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = await fetch.rows(job())
        assert stored(rows) == truth(fetch)
        assert len(rows) == len(stored(rows)) > 20
        assert any(row["conversions"] for row in rows)
        assert {row["account_id"] for row in rows} == {str(FIRST_ACCOUNT)}
        assert [call.route for call in fetch.sandbox.calls()] == ["meta.create", "meta.status", "meta.page"]
        assert fetch.permits.asked == [("insights", True), ("insights", False), ("insights", False)]
        assert not any(call.over_quota for call in fetch.sandbox.calls())


@pytest.mark.parametrize("page_size", ["25", "29", "500", "5000"])
async def test_a_report_of_any_number_of_pages(tmp_path: Path, page_size: str) -> None:
    more = {"CONNECTOR__PROVIDERS__META__PAGE_SIZE": page_size}
    async with fetching(tmp_path, campaigns=37, more=more) as fetch:
        rows = await fetch.rows(job())
        wanted = truth(fetch)
        assert (stored(rows), len(rows)) == (wanted, len(wanted))
        assert len(fetch.sandbox.calls("meta.page")) == -(-len(wanted) // int(page_size))


async def test_a_large_report(tmp_path: Path) -> None:
    more = {"CONNECTOR__PROVIDERS__META__PAGE_SIZE": "2000"}
    async with fetching(tmp_path, campaigns=3_000, more=more) as fetch:
        rows = await fetch.rows(job())
        wanted = truth(fetch)
        assert (stored(rows), len(rows)) == (wanted, len(wanted))
        assert len(rows) > 20_000


async def test_account_report(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = await fetch.rows(job(report_type="account_performance"))
        by_campaign = truth(fetch)
        assert [row["date"] for row in rows] == [FIRST + timedelta(days=n) for n in range(7)]
        for place, name in ((4, "impressions"), (5, "clicks"), (6, "conversions"), (7, "spend")):
            assert sum(row[name] for row in rows) == sum(row[place] for row in by_campaign)
        assert {row["account_name"] for row in rows} == {f"Ad account {FIRST_ACCOUNT}"}


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        outcome = await fetch.run(job())
        assert outcome.file is not None
        assert outcome.file.rows == 0


async def test_a_run_that_is_polled_is_read_when_all_is_there(tmp_path: Path) -> None:
    """In its last tenth a run calls itself completed: its rows are not all there yet."""
    async with fetching(tmp_path, report_duration=Polls(20)) as fetch:
        outcome = await fetch.step(job())
        seen = []
        while outcome.remote is not None:
            seen.append(outcome.percent)
            outcome = await fetch.step(replace(job(), step="poll", remote=outcome.remote))
        assert outcome.file is not None
        assert seen[1:] == sorted(seen[1:], key=lambda percent: percent or 0)
        assert seen[-1] == 95
        assert len(fetch.sandbox.calls("meta.status")) == 20
        assert outcome.file.rows == len(truth(fetch))


async def test_rows_are_those_of_the_day_the_run_was_made(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        before = truth(fetch)
        started = await fetch.step(job())
        fetch.sandbox.restate_meta(FIRST_ACCOUNT, FIRST, LAST)
        assert truth(fetch) != before
        outcome = await fetch.step(replace(job(), step="poll", remote=started.remote))
        assert outcome.file is not None
        assert stored(rows_of(outcome)) == before
        assert stored(await fetch.rows(job(run=2))) == truth(fetch)


async def test_a_poll_that_is_run_again_costs_no_new_run(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        started = await fetch.step(job())
        poll = replace(job(), step="poll", remote=started.remote)
        fetch.sandbox.faults.add("meta.page", "cut", times=1)
        assert (await fetch.step(poll)).failure is not None
        assert (await fetch.step(poll)).file is not None
        assert len(fetch.sandbox.calls("meta.create")) == 1
        assert (await fetch.step(poll)).calls == 0, "the file is there"


async def test_a_run_of_another_user_is_lost(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        started = await fetch.step(job())
        fetch.tokens.tokens = (fetch.sandbox.meta_token("bob"),)
        failure = (await fetch.step(replace(job(), step="poll", remote=started.remote))).failure
        assert failure is not None
        assert (failure.code, failure.remote_lost, failure.retryable) == ("report_lost", True, True)


async def test_days_before_the_providers_memory_are_the_requests_fault(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        old = datetime.now(UTC).date().toordinal() - 1_140
        failure = (await fetch.step(job(start=old, end=old))).failure
        assert failure is not None
        assert (failure.code, failure.retryable) == ("invalid_report", False)
        report = fetch.connector.reports["campaign_performance"]
        oldest = datetime.now(UTC).date().toordinal() - report.retention_days
        assert (await fetch.step(job(start=oldest, end=oldest))).remote is not None


async def test_less_data_is_a_smaller_page(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("meta.page", "less_data", times=2)
        assert stored(await fetch.rows(job())) == truth(fetch)
        assert len(fetch.sandbox.calls("meta.page")) == 3


async def test_usage_of_every_call_is_told(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        await fetch.run(job())
        told = [end.usage for end in fetch.permits.ends if end is not None]
        assert [[one for one in usage if one.quota == "account_score"] for usage in told] == [
            [Usage("account_score", percent=percent)] for percent in (1.66, 3.33, 5.0)
        ]
        assert {one.quota for usage in told for one in usage} == {
            "application_calls", "account_score", "insights_per_hour",
        }  # fmt: skip


async def test_a_full_score_says_when_it_takes_calls_again(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.set_quota("meta_score", 2)
        failure = (await fetch.run(job())).failure
        assert failure is not None
        assert failure.throttle is not None
        assert (failure.code, failure.throttle.quota) == ("rate_limited", "account_score")
        assert 295 <= (failure.throttle.until_s or 0) <= 300
        fullest = [end.usage for end in fetch.permits.ends if end is not None][-1]
        assert Usage("account_score", percent=100.0) in fullest


async def test_a_full_hour_says_when_it_takes_calls_again(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.set_quota("meta_insights_hour", 1)
        failure = (await fetch.run(job())).failure
        assert failure is not None
        assert failure.throttle == Throttle("insights_per_hour", 3600.0)


async def test_accounts(tmp_path: Path) -> None:
    async with fetching(tmp_path, advertisers=130) as fetch:
        found = await fetch.connector.accounts(fetch.calls(job()))
        numbers = range(FIRST_ACCOUNT, FIRST_ACCOUNT + 131)
        assert [one.id for one in found] == [str(number) for number in numbers], "all but the closed one"
        first = account_of(1, FIRST_ACCOUNT)
        assert found[0] == Account(str(FIRST_ACCOUNT), first.name, first.currency, first.time_zone)
        assert len(fetch.sandbox.calls("meta.accounts")) == 2


FAULTS: tuple[tuple[str, dict[str, Any], str, bool], ...] = (
    ("meta.create", {"fault": "429", "seconds": 90}, "rate_limited", False),
    ("meta.status", {"fault": "429_retry_after", "seconds": 7}, "rate_limited", False),
    ("meta.page", {"fault": "403_rate"}, "rate_limited", False),
    ("meta.create", {"fault": "403_user_rate"}, "rate_limited", False),
    ("meta.create", {"fault": "403_daily", "seconds": 30}, "rate_limited", False),
    ("meta.create", {"fault": "ads_temporary"}, "rate_limited", False),
    ("meta.create", {"fault": "ads_daily", "seconds": 600}, "rate_limited", False),
    ("meta.create", {"fault": "403_permission"}, "no_access", False),
    ("meta.create", {"fault": "token_expired"}, "reauthorise", False),
    ("meta.status", {"fault": "revoked"}, "reauthorise", False),
    ("meta.create", {"fault": "500"}, "provider_unavailable", True),
    ("meta.status", {"fault": "503"}, "provider_unavailable", True),
    ("meta.page", {"fault": "internal"}, "provider_unavailable", True),
    ("meta.create", {"fault": "failed_report"}, "report_failed", False),
    ("meta.create", {"fault": "skipped_report"}, "report_skipped", False),
    ("meta.page", {"fault": "less_data"}, "too_much_data", False),
    ("meta.create", {"fault": "html"}, "unreadable_answer", False),
    ("meta.status", {"fault": "empty"}, "unreadable_answer", False),
    ("meta.page", {"fault": "garbage"}, "unreadable_answer", False),
    ("meta.page", {"fault": "bad_gzip"}, "bad_encoding", False),
    ("meta.page", {"fault": "wrong_encoding"}, "unreadable_answer", False),
    ("meta.page", {"fault": "cut"}, "truncated_body", True),
    ("meta.page", {"fault": "truncate"}, "truncated_body", True),
    ("meta.page", {"fault": "reset"}, "connection_reset", True),
    ("meta.status", {"fault": "hang", "seconds": 5}, "read_timeout", True),
    ("meta.page", {"fault": "drip", "seconds": 0.05}, "call_timeout", True),
    ("meta.page", {"fault": "bomb", "size": 50_000_000}, "response_too_large", False),
    ("meta.page", {"fault": "huge", "size": 50_000_000}, "response_too_large", False),
    ("meta.page", {"fault": "long_line", "size": 3_000_000}, "response_too_large", False),
)


@pytest.mark.parametrize(("route", "fault", "code", "system"), FAULTS)
async def test_faults_have_names(tmp_path: Path, route: str, fault: dict[str, Any], code: str, system: bool) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=1, stream_s=1, idle_s=0.5)) as fetch:
        fetch.sandbox.faults.add(route, **fault)
        outcome = await fetch.run(job())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == (code, system)
        assert outcome.file is None
        assert parquet_files(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "seconds", "throttle"),
    [
        ("429", 90, Throttle("insights_per_hour", 120.0)),
        ("429_retry_after", 7, Throttle("account_score", 7.0)),
        ("403_daily", 30, Throttle("account_score", 30.0)),
        ("403_rate", 30, Throttle("application_calls")),
        ("403_user_rate", 30, Throttle("user_calls")),
        ("ads_daily", 600, Throttle("insights_per_hour", 600.0)),
    ],
)
async def test_a_throttle_closes_its_bucket_for_the_time_that_is_named(
    tmp_path: Path, fault: str, seconds: int, throttle: Throttle
) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("meta.create", fault, seconds=seconds)
        failure = (await fetch.step(job())).failure
        assert failure is not None
        assert failure.throttle == throttle


async def test_a_stuck_report_is_polled_on(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("meta.create", "stuck_report")
        assert (await fetch.run(job(), polls=3)).remote is not None
