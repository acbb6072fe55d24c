"""Whole fetches against the sandbox: what is stored equals what the provider holds, and each fault has its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.connectors.base import Limits
from app.connectors.dv360.quotas import QUOTAS
from app.domain.messages import Offer
from app.sandbox.dv360.state import Fixed, Polls, Quirks
from tests.connectors.rig import FIRST, LAST, SandboxFetch, parquet_files, rows_of, sandboxed
from tests.connectors.support import offer

fetching = partial(sandboxed, "DV360")


def start(**changes: Any) -> Offer:
    return offer("start", start=FIRST.toordinal(), end=LAST.toordinal(), **changes)


def truth(fetch: SandboxFetch, first: date = FIRST, last: date = LAST) -> set[tuple[Any, ...]]:
    return {
        (row.day, str(row.campaign_id), row.impressions, row.clicks, row.conversions, row.revenue)
        for row in fetch.sandbox.truth(4567, first, last)
    }


async def test_stored_rows_are_the_providers(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.run(start())
        rows = rows_of(outcome)
        stored = {
            (r["date"], r["campaign_id"], r["impressions"], r["clicks"], r["conversions"], r["spend"]) for r in rows
        }
        assert stored == truth(fetch)
        assert len(rows) == len(stored) == 35
        assert outcome.file is not None
        assert outcome.file.totals["spend"] == str(sum(row["spend"] for row in rows))
        assert [rows for _, rows, _ in outcome.file.days] == [5] * 7
        assert outcome.calls == 2


async def test_every_request_spends_a_permit_and_one_starts_the_data(tmp_path: Path) -> None:
    async with fetching(tmp_path, report_duration=Polls(2)) as fetch:
        await fetch.run(start())
        arrived = [call for call in fetch.sandbox.calls() if not call.route.startswith("oauth")]
        assert len(arrived) == len(fetch.permits.asked) == len(fetch.permits.returned)
        assert [data for _, data in fetch.permits.asked].index(True) == 1
        assert sum(data for _, data in fetch.permits.asked) == 1
        assert fetch.permits.asked[-1] == ("downloads", False)
        assert {charge for charge, _ in fetch.permits.asked[:-1]} == {"reports"}
        assert not any(call.over_quota for call in arrived)


async def test_account_report_and_extras(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = rows_of(await fetch.run(start(report_type="account_performance", fields=("media_cost",))))
        by_campaign = truth(fetch)
        assert [row["date"] for row in rows] == [FIRST + timedelta(days=n) for n in range(7)]
        assert sum(row["spend"] for row in rows) == sum((row[5] for row in by_campaign), Decimal(0))
        assert {row["account_id"] for row in rows} == {"4567"}
        assert all(row["media_cost"] is not None and row["account_name"] for row in rows)


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        outcome = await fetch.run(start())
        assert outcome.file is not None
        assert outcome.file.rows == 0


async def test_quirky_cells(tmp_path: Path) -> None:
    quirks = Quirks(dash=True, unknown=True, threshold=True)
    async with fetching(tmp_path, quirks=quirks, campaigns=30) as fetch:
        rows = rows_of(await fetch.run(start()))
        assert len(rows) == 210
        assert any(row["impressions"] is None for row in rows)
        assert any(row["campaign_name"] == "Unknown" for row in rows)


async def test_running_report_is_left_alone(tmp_path: Path) -> None:
    async with fetching(tmp_path, report_duration=Fixed(60.0)) as fetch:
        started = await fetch.step(start())
        assert started.remote is not None
        polled = await fetch.step(replace(start(), step="poll", remote=started.remote))
        assert (polled.remote, polled.file, polled.failure) == (started.remote, None, None)
        assert len(fetch.sandbox.reports()) == 1


async def test_second_worker_finds_the_file_and_calls_nobody(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        first = await fetch.run(start())
        arrived = len(fetch.sandbox.calls())
        again = await fetch.step(replace(start(), step="poll", remote={"query_id": "1", "report_id": "1"}, epoch=9))
        assert again.file == first.file
        assert again.calls == 0
        assert len(fetch.sandbox.calls()) == arrived


async def test_report_of_another_user_is_lost(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.step(replace(start(), step="poll", remote={"query_id": "1", "report_id": "2"}))
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.remote_lost, outcome.failure.retryable) == (
            "report_lost",
            True,
            True,
        )


async def test_unknown_account_dimension_is_the_requests_fault(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        old = FIRST.toordinal() - 1_000
        outcome = await fetch.step(replace(start(), start=old, end=old))
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.retryable) == ("invalid_report", False)


async def test_token_refused_once_costs_one_more_permit(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("reports.create", "token_expired", times=1)
        outcome = await fetch.run(start())
        assert outcome.file is not None
        assert fetch.tokens.rejected == [fetch.tokens.tokens[0]]
        assert len(fetch.permits.asked) == 5


FAULTS: tuple[tuple[str, dict[str, Any], str, bool], ...] = (
    ("reports.create", {"fault": "429"}, "rate_limited", False),
    ("reports.run", {"fault": "429_retry_after", "seconds": 7}, "rate_limited", False),
    ("reports.create", {"fault": "403_rate"}, "rate_limited", False),
    ("reports.create", {"fault": "403_user_rate"}, "rate_limited", False),
    ("reports.create", {"fault": "403_daily"}, "daily_quota", False),
    ("reports.create", {"fault": "403_permission"}, "no_access", False),
    ("reports.create", {"fault": "token_expired"}, "token_rejected", False),
    ("reports.create", {"fault": "503"}, "provider_unavailable", True),
    ("reports.status", {"fault": "500"}, "provider_unavailable", True),
    ("reports.status", {"fault": "html"}, "unreadable_answer", False),
    ("reports.status", {"fault": "empty"}, "unreadable_answer", False),
    ("reports.run", {"fault": "failed_report"}, "report_failed", False),
    ("reports.status", {"fault": "reset"}, "connection_reset", True),
    ("reports.status", {"fault": "hang", "seconds": 5}, "read_timeout", True),
    ("storage.download", {"fault": "502"}, "provider_unavailable", True),
    ("storage.download", {"fault": "html"}, "unexpected_content_type", False),
    ("storage.download", {"fault": "empty"}, "empty_report", False),
    ("storage.download", {"fault": "garbage"}, "bad_encoding", False),
    ("storage.download", {"fault": "wrong_content_type"}, "unexpected_content_type", False),
    ("storage.download", {"fault": "wrong_encoding"}, "bad_encoding", False),
    ("storage.download", {"fault": "duplicate_headers"}, "duplicate_column", False),
    ("storage.download", {"fault": "bad_gzip"}, "bad_encoding", False),
    ("storage.download", {"fault": "cut"}, "truncated_body", True),
    ("storage.download", {"fault": "truncate"}, "truncated_report", True),
    ("storage.download", {"fault": "reset"}, "connection_reset", True),
    ("storage.download", {"fault": "drip", "seconds": 0.05}, "call_timeout", True),
    ("storage.download", {"fault": "bomb", "size": 50_000_000}, "response_too_large", False),
    ("storage.download", {"fault": "long_line", "size": 3_000_000}, "response_too_large", False),
)


@pytest.mark.parametrize(("route", "fault", "code", "system"), FAULTS)
async def test_faults_have_names(tmp_path: Path, route: str, fault: dict[str, Any], code: str, system: bool) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=2, stream_s=1, idle_s=1)) as fetch:
        fetch.sandbox.faults.add(route, **fault)
        outcome = await fetch.run(start())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == (code, system)
        assert outcome.file is None
        assert parquet_files(tmp_path) == []


def test_quotas_have_sources_and_charges() -> None:
    assert {(quota.charge, quota.scope, quota.limit, quota.period_ms, quota.calendar_zone) for quota in QUOTAS} == {
        ("reports", "application", 4, 1_000, None),
        ("reports", "application", 2_000, 86_400_000, "America/Los_Angeles"),
        ("reports", "user", 240, 60_000, None),
        ("entities", "application", 1_500, 60_000, None),
        ("entities", "account", 300, 60_000, None),
    }
    assert all(quota.source and quota.connector_type == "DV360" for quota in QUOTAS)
    assert len({quota.name for quota in QUOTAS}) == len(QUOTAS)


async def test_expired_link_is_fetched_again(tmp_path: Path) -> None:
    async with fetching(tmp_path, link_seconds=0.0) as fetch:
        started = await fetch.step(start())
        poll = replace(start(), step="poll", remote=started.remote)
        first = await fetch.step(poll)
        assert first.failure is not None
        assert (first.failure.code, first.failure.retryable) == ("download_link_expired", True)
        assert not first.failure.remote_lost
        assert "Signature" not in repr(first)
