"""Whole fetches of Google Ads against the sandbox: what is stored equals what the provider holds, and each fault has
its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.connectors.base import Limits
from app.connectors.registry import connectors_of
from app.domain.errors import Throttle
from app.domain.messages import Offer
from app.sandbox.google_ads.accounts import FIRST_CUSTOMER, MANAGER_ID, clients
from tests.connectors.ads import ads_offer
from tests.connectors.rig import FIRST, LAST, SandboxFetch, parquet_files, rows_of, sandboxed

fetching = partial(sandboxed, "GOOGLE_ADS")


def job(customer: int = FIRST_CUSTOMER, **changes: Any) -> Offer:
    manager = changes.pop("manager_id", None)
    known = {"start": FIRST.toordinal(), "end": LAST.toordinal()} | changes
    return ads_offer(account_id=str(customer), manager_id=manager, **known)


def truth(fetch: SandboxFetch, customer: int, first: date = FIRST, last: date = LAST) -> set[tuple[Any, ...]]:
    return {
        (row.day, str(row.campaign_id), row.campaign_name, row.currency, row.impressions, row.clicks, row.conversions,
         row.cost)
        for row in fetch.sandbox.ads_truth(customer, first, last)
    }  # fmt: skip


def stored(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("date", "campaign_id", "campaign_name", "currency", "impressions", "clicks", "conversions", "spend")
    return {tuple(row[name] for name in names) for row in rows}


async def test_stored_rows_are_the_providers(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = await fetch.rows(job())
        assert stored(rows) == truth(fetch, FIRST_CUSTOMER)
        assert len(rows) == len(stored(rows)) > 20
        assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)
        assert {row["account_id"] for row in rows} == {str(FIRST_CUSTOMER)}
        (call,) = fetch.sandbox.calls("ads.search_stream")
        assert not call.over_quota
        assert fetch.permits.asked == [("operations", True)]


async def test_a_report_of_several_batches(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=9_000) as fetch:
        outcome = await fetch.run(job())
        assert outcome.file is not None
        assert outcome.file.rows > 50_000
        wanted = truth(fetch, FIRST_CUSTOMER)
        rows = rows_of(outcome)
        assert (stored(rows), len(rows)) == (wanted, len(wanted))


async def test_account_report(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = await fetch.rows(job(report_type="account_performance"))
        known = truth(fetch, FIRST_CUSTOMER)
        assert [row["date"] for row in rows] == [FIRST + timedelta(days=n) for n in range(7)]
        for at, name in ((4, "impressions"), (5, "clicks"), (6, "conversions"), (7, "spend")):
            assert sum(row[name] for row in rows) == sum((row[at] for row in known), Decimal(0))
        assert {row["account_name"] for row in rows} == {f"Customer {FIRST_CUSTOMER}"}


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        assert await fetch.rows(job()) == []


async def test_an_account_behind_a_manager(tmp_path: Path) -> None:
    _, hidden = clients(MANAGER_ID)
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.run(job(hidden))
        assert outcome.failure is not None
        assert outcome.failure.code == "no_access"
        rows = await fetch.rows(job(hidden, manager_id=str(MANAGER_ID)))
        assert stored(rows) == truth(fetch, hidden)


async def test_figures_that_were_restated_are_read_anew(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        before = await fetch.rows(job())
        fetch.sandbox.restate_ads(FIRST_CUSTOMER, LAST, LAST)
        after = await fetch.rows(job(run=2))
        assert stored(after) == truth(fetch, FIRST_CUSTOMER) != stored(before)


async def test_second_worker_finds_the_file_and_calls_nobody(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        first = await fetch.run(job())
        again = await fetch.run(job(epoch=9))
        assert (again.file, again.calls) == (first.file, 0)
        assert len(fetch.sandbox.calls("ads.search_stream")) == 1


async def test_token_refused_once_costs_one_more_permit(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("ads.*", "token_expired", times=1)
        assert await fetch.rows(job())
        assert (fetch.tokens.rejected, len(fetch.permits.asked)) == ([fetch.tokens.tokens[0]], 2)


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"customer": MANAGER_ID}, "manager_account"),
    ({"customer": 555}, "invalid_account"),
    ({"customer": 10 ** 9 - 1}, "invalid_account"),
    ({"start": FIRST.toordinal() - 1_200}, "date_out_of_range"),
    ({"manager_id": str(FIRST_CUSTOMER + 1)}, "no_access"),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "code"), REFUSED)
async def test_what_the_provider_does_not_answer(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.run(job(**changes))
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.retryable) == (code, False)


async def test_an_account_that_does_not_exist(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.run(replace(job(), connector=replace(job().connector, account_id="0123456789")))
        assert outcome.failure is not None
        assert outcome.failure.code == "account_not_found"


async def test_a_full_quota_says_until_when(tmp_path: Path) -> None:
    for rule, quota, most in (("ads_minute", None, 60), ("ads_operations", "operations_per_day", 86_400)):
        async with fetching(tmp_path) as fetch:
            fetch.sandbox.set_quota(rule, 0)
            outcome = await fetch.run(job())
            assert outcome.failure is not None
            throttle = outcome.failure.throttle
            assert isinstance(throttle, Throttle)
            assert throttle.quota == quota
            assert throttle.until_s is not None
            assert most - 5 <= throttle.until_s <= most


FAULTS: tuple[tuple[dict[str, Any], str, bool], ...] = (
    ({"fault": "429"}, "rate_limited", False),
    ({"fault": "ads_temporary", "seconds": 7}, "rate_limited", False),
    ({"fault": "ads_daily"}, "daily_quota", False),
    ({"fault": "403_rate"}, "rate_limited", False),
    ({"fault": "403_permission"}, "no_access", False),
    ({"fault": "token_expired"}, "token_rejected", False),
    ({"fault": "revoked"}, "reauthorise", False),
    ({"fault": "500"}, "provider_unavailable", True),
    ({"fault": "internal"}, "provider_unavailable", True),
    ({"fault": "502"}, "provider_unavailable", True),
    ({"fault": "503"}, "provider_unavailable", True),
    ({"fault": "504"}, "provider_unavailable", True),
    ({"fault": "html"}, "unexpected_content_type", False),
    ({"fault": "garbage"}, "unexpected_content_type", False),
    ({"fault": "empty"}, "unexpected_content_type", False),
    ({"fault": "wrong_content_type"}, "unexpected_content_type", False),
    ({"fault": "wrong_encoding"}, "unreadable_answer", False),
    ({"fault": "reset"}, "connection_reset", True),
    ({"fault": "hang", "seconds": 5}, "read_timeout", True),
    ({"fault": "cut"}, "truncated_body", True),
    ({"fault": "truncate"}, "truncated_report", True),
    ({"fault": "drip", "seconds": 0.05}, "call_timeout", True),
)


@pytest.mark.parametrize("campaigns", [5, 2_000])
@pytest.mark.parametrize(("fault", "code", "system"), FAULTS)
async def test_faults_have_names(
    tmp_path: Path, fault: dict[str, Any], code: str, system: bool, campaigns: int
) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=1, idle_s=0.5), campaigns=campaigns) as fetch:
        fetch.sandbox.faults.add("ads.*", **fault)
        outcome = await fetch.run(job())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == (code, system)
        assert outcome.file is None
        assert parquet_files(tmp_path) == []
        assert [ended.ok for ended in fetch.permits.ends if ended is not None][-1] == (not system)


async def test_accounts_of_both_types(tmp_path: Path) -> None:
    async with fetching(tmp_path, advertisers=3) as fetch:
        google_ads = await connectors_of(fetch.settings)["GOOGLE_ADS"].accounts(fetch.calls(job()))
        open_client, hidden = clients(MANAGER_ID)
        assert [(account.id, account.manager_id) for account in google_ads] == [
            (str(open_client), str(MANAGER_ID)),
            (str(hidden), str(MANAGER_ID)),
            *((str(FIRST_CUSTOMER + n), None) for n in range(3)),
        ]
        assert all(account.name and account.currency and account.time_zone for account in google_ads)
        other = replace(job(), connector=replace(job().connector, connector_type="DV360"))
        dv360 = await connectors_of(fetch.settings)["DV360"].accounts(fetch.calls(other))
        assert len(dv360) == 3
        assert all(account.currency and account.time_zone and account.manager_id is None for account in dv360)
