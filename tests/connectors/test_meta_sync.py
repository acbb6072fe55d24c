"""Small reports of Meta, read without a run: the same rows as a run's, fewer calls, and a run where it is too much."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.base import Limits
from app.connectors.meta.client import MetaConnector
from app.connectors.meta.sync import MOST_PAGES, is_small
from app.domain.errors import PermitDenied, Throttle
from app.domain.messages import Offer
from app.sandbox.meta.accounts import FIRST_ACCOUNT
from tests.connectors.meta import Graph, meta_fetch, meta_offer, meta_row, page
from tests.connectors.rig import LAST, SandboxFetch, parquet_files, rows_of, sandboxed

FIRST = LAST - timedelta(days=2)
SYNC_DAYS, PAGE_SIZE = "CONNECTOR__PROVIDERS__META__SYNC_DAYS", "CONNECTOR__PROVIDERS__META__PAGE_SIZE"


def fetching(folder: Path, more: dict[str, str] | None = None, **settings: Any) -> AbstractAsyncContextManager[Any]:
    return sandboxed("META", folder, more=more, **settings)


def job(**changes: Any) -> Offer:
    known = {"start": FIRST.toordinal(), "end": LAST.toordinal()} | changes
    return meta_offer("start", account_id=str(FIRST_ACCOUNT), **known)


async def both(fetch: SandboxFetch, asked: Offer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows at once, and the rows of a run."""
    at_once = await fetch.step(asked)
    assert at_once.remote is None
    fetch.more[SYNC_DAYS] = "0"
    started = await fetch.step(replace(asked, run=2))
    assert started.remote is not None
    by_run = await fetch.step(replace(asked, run=2, step="poll", remote=started.remote))
    return rows_of(at_once), rows_of(by_run)


@pytest.mark.parametrize("report_type", ["campaign_performance", "account_performance"])
@pytest.mark.parametrize("page_size", ["25", "29", "500"])
async def test_both_forms_give_the_same_rows(tmp_path: Path, report_type: str, page_size: str) -> None:
    async with fetching(tmp_path, campaigns=23, more={PAGE_SIZE: page_size}) as fetch:
        at_once, by_run = await both(fetch, job(report_type=report_type))
        assert at_once == by_run
        assert len(at_once) == (3 if report_type.startswith("account") else len(fetch.sandbox.meta_truth(
            FIRST_ACCOUNT, FIRST, LAST)))  # fmt: skip
        assert sum(row["spend"] for row in at_once) == sum(
            row.spend for row in fetch.sandbox.meta_truth(FIRST_ACCOUNT, FIRST, LAST)
        )


async def test_one_call_is_all_and_its_figures_are_the_data_sets(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        outcome = await fetch.step(job())
        assert (outcome.calls, outcome.remote) == (1, None)
        assert [call.route for call in fetch.sandbox.calls()] == ["meta.sync"]
        assert fetch.permits.asked == [("insights", True)]
        assert {one.quota for end in fetch.permits.ends if end for one in end.usage} >= {"insights_per_hour"}


async def test_further_pages_start_no_data(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=20, more={PAGE_SIZE: "25"}) as fetch:
        await fetch.step(job())
        assert fetch.permits.asked[0] == ("insights", True)
        assert len(fetch.permits.asked) > 1
        assert set(fetch.permits.asked[1:]) == {("insights", False)}
        assert {call.route for call in fetch.sandbox.calls()} == {"meta.sync"}


@pytest.mark.parametrize(
    ("days", "report_type", "route"),
    [
        (3, "campaign_performance", "meta.sync"),
        (4, "campaign_performance", "meta.create"),
        (30, "account_performance", "meta.sync"),
        (31, "account_performance", "meta.create"),
    ],
)
async def test_few_days_are_small(tmp_path: Path, days: int, report_type: str, route: str) -> None:
    async with fetching(tmp_path) as fetch:
        await fetch.step(job(start=LAST.toordinal() - days + 1, report_type=report_type))
        assert [call.route for call in fetch.sandbox.calls()] == [route]


@given(st.integers(1, 400), st.integers(0, 31), st.sampled_from(["campaign_performance", "account_performance"]))
def test_what_is_small(days: int, most: int, report_type: str) -> None:
    asked = meta_offer("start", start=700_000, end=700_000 + days - 1, report_type=report_type)
    weight = {"campaign_performance": 10, "account_performance": 1}[report_type]
    assert is_small(asked, most) == (days * weight <= most * 10)


async def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        first = await fetch.step(job())
        arrived = len(fetch.sandbox.calls())
        again = await fetch.step(job(epoch=9))
        assert (again.file, again.calls) == (first.file, 0)
        assert len(fetch.sandbox.calls()) == arrived


@pytest.mark.parametrize("struck", [1, 2])
async def test_too_much_at_any_page_becomes_a_run_in_the_same_step(tmp_path: Path, struck: int) -> None:
    async with fetching(tmp_path, campaigns=23, more={PAGE_SIZE: "25"}) as fetch:
        fetch.sandbox.faults.add("meta.sync", "less_data", every=struck)
        started = await fetch.step(job())
        assert (started.failure, started.file) == (None, None)
        assert started.remote is not None
        assert [call.route for call in fetch.sandbox.calls()] == [*["meta.sync"] * struck, "meta.create"]
        assert fetch.permits.asked[-1] == ("insights", True), "the figures are those of the run"
        stored = rows_of(await fetch.step(replace(job(), step="poll", remote=started.remote)))
        assert len(stored) == len(fetch.sandbox.meta_truth(FIRST_ACCOUNT, FIRST, LAST))


async def test_what_runs_into_the_providers_time_becomes_a_run(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=7_000) as fetch:
        assert (await fetch.step(job())).remote is not None
        assert [call.route for call in fetch.sandbox.calls()] == ["meta.sync", "meta.create"]
        assert (await fetch.step(job(run=2, report_type="account_performance"))).file is not None


@pytest.mark.parametrize(("count", "at_once"), [(MOST_PAGES, True), (MOST_PAGES + 1, False)])
async def test_more_pages_than_are_worth_it_become_a_run(tmp_path: Path, count: int, at_once: bool) -> None:
    found = [page([meta_row(1, campaign=at)], f"C{at}", more=at < count) for at in range(1, count + 1)]
    async with meta_fetch(tmp_path, Graph(sync=[(200, one) for one in found]), sync_days=7) as fetch:
        outcome = await fetch.run(meta_offer("start"))
        assert (outcome.failure, outcome.remote is None) == (None, at_once)
        assert outcome.file is None or outcome.file.rows == MOST_PAGES


async def test_reading_that_is_handed_back_has_stored_nothing(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.permits.denied = PermitDenied("quota", 7.0)
        outcome = await fetch.step(job())
        assert (outcome.released, outcome.not_before_s, outcome.failure) == (True, 7.0, None)
        assert parquet_files(tmp_path) == []


async def test_days_before_the_providers_memory_are_the_requests_fault(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        old = LAST.toordinal() - 1_200
        failure = (await fetch.step(job(start=old, end=old))).failure
        assert failure is not None
        assert (failure.code, failure.retryable) == ("invalid_report", False)


async def test_an_account_is_checked_before_it_is_part_of_an_address(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        failure = (await fetch.step(replace(job(), connector=replace(job().connector, account_id="1/x")))).failure
        assert failure is not None
        assert (failure.code, len(fetch.sandbox.calls())) == ("invalid_account", 0)


FAULTS: tuple[tuple[dict[str, Any], str, bool], ...] = (
    ({"fault": "429"}, "rate_limited", False),
    ({"fault": "403_permission"}, "no_access", False),
    ({"fault": "revoked"}, "reauthorise", False),
    ({"fault": "internal"}, "provider_unavailable", True),
    ({"fault": "503"}, "provider_unavailable", True),
    ({"fault": "html"}, "unreadable_answer", False),
    ({"fault": "empty"}, "unreadable_answer", False),
    ({"fault": "cut"}, "truncated_body", True),
    ({"fault": "truncate"}, "truncated_body", True),
    ({"fault": "reset"}, "connection_reset", True),
    ({"fault": "hang", "seconds": 5}, "read_timeout", True),
)


@pytest.mark.parametrize(("fault", "code", "system"), FAULTS)
async def test_faults_have_names_and_are_no_reason_for_a_run(
    tmp_path: Path, fault: dict[str, Any], code: str, system: bool
) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=1, stream_s=1, idle_s=0.5)) as fetch:
        fetch.sandbox.faults.add("meta.sync", **fault)
        failure = (await fetch.step(job())).failure
        assert failure is not None
        assert (failure.code, failure.system, failure.remote_lost) == (code, system, False)
        assert fetch.sandbox.calls("meta.create") == []
        assert parquet_files(tmp_path) == []


async def test_a_throttle_closes_its_bucket(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("meta.sync", "429_retry_after", seconds=7)
        failure = (await fetch.step(job())).failure
        assert failure is not None
        assert failure.throttle == Throttle("account_score", 7.0)


def test_without_days_every_report_is_a_run_and_the_store_is_asked_at_the_end_alone() -> None:
    assert MetaConnector().storing_steps == ("poll",)
    assert MetaConnector(sync_days=1).storing_steps == ("start", "poll")
