"""Whole fetches against the sandbox: what is stored equals what the provider holds, and each fault has its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.connectors.base import Limits
from app.domain.messages import Offer
from app.sandbox.dv360.state import Polls
from tests.connectors.rig import FIRST, LAST, SandboxFetch, parquet_files, rows_of, sandboxed
from tests.connectors.support import facts
from tests.connectors.ttd import ADVERTISER, ttd_offer

ZONE = "Europe/Madrid"


@asynccontextmanager
async def fetching(folder: Path, *, links: str = "view", **settings: Any) -> AsyncIterator[SandboxFetch]:
    async with sandboxed("TTD", folder, **settings) as fetch:
        fetch.sandbox.world.ttd.links = links
        yield fetch


def truth(fetch: SandboxFetch, first: date = FIRST, last: date = LAST, zone: str = ZONE) -> list[dict[str, Any]]:
    """What the file must hold, to the cell."""
    known = facts()
    return [
        {
            "connector_id": known.connector_id, "date": row.day, "campaign_id": row.campaign_id,
            "campaign_name": row.campaign_name, "account_id": ADVERTISER, "currency": row.currency,
            "time_zone": zone, "impressions": row.impressions, "clicks": row.clicks,
            "conversions": row.conversions, "spend": row.cost,
        }
        for row in fetch.sandbox.ttd_truth(ADVERTISER, zone, first, last)
    ]  # fmt: skip


def start(**changes: Any) -> Offer:
    return ttd_offer("start", **({"start": FIRST.toordinal(), "end": LAST.toordinal()} | changes))


@pytest.mark.parametrize("links", ["view", "signed"])
async def test_stored_rows_are_the_providers(tmp_path: Path, links: str) -> None:
    async with fetching(tmp_path, links=links) as fetch:
        outcome = await fetch.run(start())
        rows = rows_of(outcome)
        assert rows == truth(fetch)
        assert len(rows) == 35
        assert outcome.file is not None
        assert outcome.file.totals["spend"] == str(sum(row["spend"] for row in rows))
        assert outcome.calls == 2


async def test_days_are_those_of_the_accounts_zone(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        known = facts(connector_type="TTD", account_id=ADVERTISER, time_zone="Asia/Tokyo")
        rows = rows_of(await fetch.run(start(connector=known)))
        assert rows == truth(fetch, zone="Asia/Tokyo")
        assert [row["spend"] for row in rows] != [row["spend"] for row in truth(fetch, zone="UTC")]


async def test_the_end_is_included_and_the_day_after_is_not(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = rows_of(await fetch.run(start(end=FIRST.toordinal())))
        assert rows == truth(fetch, last=FIRST)


async def test_every_request_spends_a_permit_and_one_starts_the_data(tmp_path: Path) -> None:
    async with fetching(tmp_path, report_duration=Polls(3)) as fetch:
        await fetch.run(start())
        arrived = fetch.sandbox.calls()
        assert [call.route for call in arrived] == [
            "ttd.template", "ttd.schedule", *["ttd.executions"] * 3, "ttd.view",
        ]  # fmt: skip
        assert fetch.permits.asked == [
            ("templates", False), ("schedules", True), *[("executions", False)] * 3, ("files", False),
        ]  # fmt: skip
        assert len(arrived) == len(fetch.permits.returned)
        assert not any(call.over_quota for call in arrived)
        assert {call.user for call in arrived} == {"ana"}


async def test_the_token_goes_to_the_api_and_nowhere_else(tmp_path: Path) -> None:
    for links, route, shown in (("view", "ttd.view", True), ("signed", "ttd.download", False)):
        async with fetching(tmp_path / links, links=links) as fetch:
            rows_of(await fetch.run(start()))
            assert [call.authorization for call in fetch.sandbox.calls(route)] == [shown]
            charge = "files" if shown else "downloads"
            assert fetch.permits.asked[-1] == (charge, False)


async def test_account_report(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = rows_of(await fetch.run(start(report_type="account_performance")))
        by_campaign = truth(fetch)
        assert [row["date"] for row in rows] == [FIRST + timedelta(days=n) for n in range(7)]
        for name in ("impressions", "clicks", "conversions", "spend"):
            assert sum(row[name] for row in rows) == sum((row[name] for row in by_campaign), Decimal(0))
        assert {row["account_id"] for row in rows} == {ADVERTISER}
        assert {row["account_name"] for row in rows} == {None}, "no column of that is known"


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        outcome = await fetch.run(start())
        assert outcome.file is not None
        assert outcome.file.rows == 0


async def test_many_rows_come_in_chunks(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=4_000) as fetch:
        rows = rows_of(await fetch.run(start()))
        assert rows == truth(fetch)
        assert len(rows) == 28_000


async def test_a_report_keeps_the_figures_of_when_it_was_scheduled(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        before = truth(fetch)
        started = await fetch.step(start())
        fetch.sandbox.restate_ttd(ADVERTISER, FIRST, LAST)
        rows = rows_of(await fetch.step(replace(start(), step="poll", remote=started.remote)))
        assert rows == before != truth(fetch)
        fetch.sandbox.restate_ttd(ADVERTISER, FIRST, FIRST)
        again = rows_of(await fetch.run(start(run=2)))
        assert again == truth(fetch)
        assert again[:5] != rows[:5]


async def test_an_execution_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with fetching(tmp_path, report_duration=Polls(3)) as fetch:
        started = await fetch.step(start())
        assert started.remote is not None
        unseen = await fetch.step(replace(start(), step="poll", remote=started.remote))
        assert unseen.remote == started.remote | {"unseen": "1"}
        pending = await fetch.step(replace(start(), step="poll", remote=unseen.remote))
        assert (pending.remote, pending.file, pending.failure) == (started.remote, None, None)
        assert len(fetch.sandbox.world.ttd.schedules) == 1


async def test_an_execution_that_never_comes_is_lost(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        started = await fetch.step(start())
        fetch.sandbox.world.ttd.schedules.clear()
        outcome = await fetch.run(replace(start(), step="poll", remote=started.remote), polls=20)
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.remote_lost) == ("report_lost", True)
        assert len(fetch.sandbox.calls("ttd.executions")) == 7


async def test_second_worker_finds_the_file_and_calls_nobody(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        first = await fetch.run(start())
        arrived = len(fetch.sandbox.calls())
        again = await fetch.step(replace(start(), step="poll", remote={"schedule_id": "1"}, epoch=9))
        assert (again.file, again.calls) == (first.file, 0)
        assert len(fetch.sandbox.calls()) == arrived


async def test_a_start_that_failed_has_made_no_report(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("ttd.*", "500", times=1)
        assert (await fetch.step(start())).failure is not None
        assert fetch.sandbox.world.ttd.schedules == {}
        await fetch.run(start())
        assert len(fetch.sandbox.world.ttd.schedules) == 1


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("connector campaign_performance by ad group",), "template_missing"),
        (("connector campaign_performance", "connector campaign_performance"), "template_ambiguous"),
    ],
)
async def test_one_template_must_have_the_name(tmp_path: Path, names: tuple[str, ...], code: str) -> None:
    async with fetching(tmp_path) as fetch:
        known = fetch.sandbox.world.ttd.templates[1]
        fetch.sandbox.world.ttd.templates = tuple(
            replace(known, template_id=900 + n, name=name) for n, name in enumerate(names)
        )
        outcome = await fetch.step(start())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.retryable) == (code, False)
        assert "'connector campaign_performance'" in outcome.failure.message
        assert fetch.sandbox.world.ttd.schedules == {}


@pytest.mark.parametrize(("place", "code"), [(0, "unexpected_column"), (2, "missing_column")])
async def test_a_template_of_other_columns_is_refused(tmp_path: Path, place: int, code: str) -> None:
    async with fetching(tmp_path) as fetch:
        wrong = replace(fetch.sandbox.world.ttd.templates[place], name="connector campaign_performance")
        fetch.sandbox.world.ttd.templates = (wrong,)
        outcome = await fetch.run(start())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.retryable) == (code, False)
        assert parquet_files(tmp_path) == []


async def test_a_report_that_reaches_too_far_back_is_the_requests_fault(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        old = FIRST.toordinal() - 1_000
        outcome = await fetch.step(replace(start(), start=old, end=old))
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.retryable) == ("invalid_report", False)
        assert "ReportStartDateInclusive: data are kept" in outcome.failure.message


async def test_an_account_that_is_none_is_no_access(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        for account_id, code, calls in (("adv0", "no_access", 2), ("adv 1", "invalid_account", 0)):
            outcome = await fetch.step(start(connector=facts(connector_type="TTD", account_id=account_id)))
            assert outcome.failure is not None
            assert (outcome.failure.code, outcome.failure.retryable, outcome.calls) == (code, False, calls)


async def test_token_refused_once_costs_one_more_permit(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("ttd.schedule", "token_expired", times=1)
        rows_of(await fetch.run(start()))
        assert fetch.tokens.rejected == [fetch.tokens.tokens[0]]
        assert len(fetch.permits.asked) == 5


async def test_a_signed_link_that_has_ended_is_told_anew(tmp_path: Path) -> None:
    async with fetching(tmp_path, links="signed", link_seconds=0.0) as fetch:
        started = await fetch.step(start())
        poll = replace(start(), step="poll", remote=started.remote)
        first = await fetch.step(poll)
        assert first.failure is not None
        assert (first.failure.code, first.failure.retryable) == ("download_link_expired", True)
        assert not first.failure.remote_lost
        assert "Signature" not in repr(first)
        fetch.sandbox.world.settings = replace(fetch.sandbox.world.settings, link_seconds=60.0)
        assert rows_of(await fetch.step(poll)) == truth(fetch)


async def test_a_full_quota_says_when(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.set_quota("ttd_schedules", 0)
        failure = (await fetch.step(start())).failure
        assert failure is not None
        assert (failure.code, failure.retry_after_s) == ("rate_limited", 60.0)
        assert failure.throttle is not None
        assert (failure.throttle.quota, failure.throttle.until_s) == (None, 60.0)


FAULTS: tuple[tuple[str, dict[str, Any], str, bool], ...] = (
    ("ttd.template", {"fault": "429"}, "rate_limited", False),
    ("ttd.schedule", {"fault": "429_retry_after", "seconds": 7}, "rate_limited", False),
    ("ttd.executions", {"fault": "403_rate"}, "rate_limited", False),
    ("ttd.view", {"fault": "429"}, "rate_limited", False),
    ("ttd.schedule", {"fault": "403_permission"}, "no_access", False),
    ("ttd.executions", {"fault": "403_permission"}, "report_lost", False),
    ("ttd.view", {"fault": "403_permission"}, "report_lost", False),
    ("ttd.template", {"fault": "token_expired"}, "token_rejected", False),
    ("ttd.template", {"fault": "503"}, "provider_unavailable", True),
    ("ttd.schedule", {"fault": "502"}, "provider_unavailable", True),
    ("ttd.executions", {"fault": "500"}, "provider_unavailable", True),
    ("ttd.schedule", {"fault": "html"}, "unreadable_answer", False),
    ("ttd.executions", {"fault": "empty"}, "unreadable_answer", False),
    ("ttd.schedule", {"fault": "failed_report"}, "report_failed", False),
    ("ttd.executions", {"fault": "reset"}, "connection_reset", True),
    ("ttd.executions", {"fault": "hang", "seconds": 5}, "read_timeout", True),
    ("ttd.schedule", {"fault": "cut"}, "truncated_body", True),
    ("ttd.view", {"fault": "html"}, "unexpected_content_type", False),
    ("ttd.view", {"fault": "empty"}, "empty_report", False),
    ("ttd.view", {"fault": "garbage"}, "bad_encoding", False),
    ("ttd.view", {"fault": "wrong_content_type"}, "unexpected_content_type", False),
    ("ttd.view", {"fault": "wrong_encoding"}, "bad_encoding", False),
    ("ttd.view", {"fault": "duplicate_headers"}, "duplicate_column", False),
    ("ttd.view", {"fault": "bad_gzip"}, "bad_encoding", False),
    ("ttd.view", {"fault": "cut"}, "truncated_body", True),
    ("ttd.view", {"fault": "truncate"}, "truncated_report", True),
    ("ttd.view", {"fault": "reset"}, "connection_reset", True),
    ("ttd.view", {"fault": "drip", "seconds": 0.05}, "call_timeout", True),
    ("ttd.view", {"fault": "bomb", "size": 50_000_000}, "response_too_large", False),
    ("ttd.view", {"fault": "long_line", "size": 3_000_000}, "response_too_large", False),
    ("ttd.download", {"fault": "502"}, "provider_unavailable", True),
    ("ttd.download", {"fault": "403_permission"}, "download_link_expired", False),
    ("ttd.download", {"fault": "cut"}, "truncated_body", True),
    ("ttd.download", {"fault": "truncate"}, "truncated_report", True),
    ("ttd.download", {"fault": "html"}, "unexpected_content_type", False),
)


@pytest.mark.parametrize(("route", "fault", "code", "system"), FAULTS)
async def test_faults_have_names(tmp_path: Path, route: str, fault: dict[str, Any], code: str, system: bool) -> None:
    links = "signed" if route == "ttd.download" else "view"
    async with fetching(tmp_path, links=links, limits=Limits(call_s=2, stream_s=2, idle_s=1)) as fetch:
        fetch.sandbox.faults.add(route, **fault)
        outcome = await fetch.run(start())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == (code, system)
        assert outcome.file is None
        assert parquet_files(tmp_path) == []


async def test_a_long_file_cut_between_pieces_is_not_kept(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=4_000) as fetch:
        fetch.sandbox.faults.add("ttd.view", "cut")
        outcome = await fetch.run(start())
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.system) == ("truncated_body", True)
        assert parquet_files(tmp_path) == []


async def test_no_token_in_what_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        async with fetching(tmp_path) as fetch:
            fetch.sandbox.faults.add("ttd.view", "500")
            outcome = await fetch.run(start())
    assert outcome.failure is not None
    told = repr(outcome) + "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "sandbox-ttd-ana" not in told
