"""The Trade Desk by GraphQL: the same rows as a file of MyReports has, in one step, and a name for each refusal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from app.connectors.base import Limits
from app.connectors.ttd import graphql
from app.connectors.ttd.client import TtdConnector
from app.domain.errors import PermitDenied, Throttle
from app.domain.messages import Offer
from tests.connectors.rig import FIRST, LAST, LocalFetch, SandboxFetch, parquet_files, rows_of, sandboxed
from tests.connectors.support import CountingPermits, calling, facts
from tests.connectors.ttd import ADVERTISER, ttd_offer

FORM = "CONNECTOR__PROVIDERS__TTD__FORM"
UTC = facts(connector_type="TTD", account_id=ADVERTISER, time_zone="UTC", currency=None)
BOTH = pytest.mark.parametrize("report_type", ["campaign_performance", "account_performance"])


WORDS = set(
    """query C id ID from to DateTime first Int after String advertiser campaigns nodes name reporting generalReporting
    where date gte lte dimensions time day metrics impressions clicks conversions spend advertiserCurrency pageInfo
    hasNextPage endCursor""".split()  # noqa: SIM905 - a list of words is read more easily so
)


@asynccontextmanager
async def fetching(folder: Path, **settings: Any) -> AsyncIterator[SandboxFetch]:
    async with sandboxed("TTD", folder, more={FORM: "graphql"}, **settings) as fetch:
        yield fetch


def job(fetch: SandboxFetch | None = None, **changes: Any) -> Offer:
    """Seven days of UTC, in the currency that the sandbox's account has."""
    currency = fetch.sandbox.ttd_truth(ADVERTISER, "UTC", FIRST, FIRST)[0].currency if fetch is not None else "EUR"
    known: dict[str, Any] = {
        "connector": replace(UTC, currency=currency),
        "start": FIRST.toordinal(),
        "end": LAST.toordinal(),
    }
    return ttd_offer("start", **(known | changes))


@BOTH
@pytest.mark.parametrize("page_rows", [10_000, 14, 7, 1])
async def test_both_forms_give_the_same_rows(
    tmp_path: Path, report_type: str, page_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql, "_PAGE_ROWS", page_rows)
    async with fetching(tmp_path) as fetch:
        asked = job(fetch, report_type=report_type)
        at_once = await fetch.step(asked)
        assert at_once.remote is None
        fetch.more[FORM] = "myreports"
        by_file = await fetch.run(replace(asked, run=2))

        def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return sorted(rows, key=lambda row: (row["date"], row.get("campaign_id", "")))

        assert ordered(rows_of(at_once)) == ordered(rows_of(by_file))
        assert at_once.file is not None
        assert by_file.file is not None
        assert at_once.file.rows == (35 if report_type.startswith("campaign") else 7)
        assert at_once.file.totals == by_file.file.totals
        assert at_once.file.days == by_file.file.days, "a loader sees no difference either"


async def test_one_call_that_rests_quotas_do_not_count(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        assert (await fetch.step(job())).calls == 1
        (call,) = fetch.sandbox.calls()
        assert (call.route, call.quota_group, call.user, call.account) == (
            "ttd.graphql", "ttd_graphql", "ana", ADVERTISER,
        )  # fmt: skip
        assert fetch.permits.asked == [("graphql", True)]
        assert {quota.charge for quota in fetch.connector.quotas} >= {"graphql", "schedules"}
        assert fetch.connector.minimum_calls["graphql"] == 1
        assert "graphql" not in TtdConnector().minimum_calls
        assert all(quota.charge != "graphql" for quota in TtdConnector().quotas)


async def test_later_pages_start_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphql, "_PAGE_ROWS", 14)
    async with fetching(tmp_path) as fetch:
        await fetch.step(job())
        assert fetch.permits.asked == [("graphql", True), ("graphql", False), ("graphql", False)]


async def test_days_of_another_zone_are_a_matter_of_myreports(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = rows_of(await fetch.run(job(connector=replace(UTC, time_zone="Asia/Tokyo"))))
        assert [row["spend"] for row in rows] == [
            row.cost for row in fetch.sandbox.ttd_truth(ADVERTISER, "Asia/Tokyo", FIRST, LAST)
        ]
        assert fetch.sandbox.calls("ttd.graphql") == []


async def test_a_report_that_was_begun_as_a_file_is_finished_as_one(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.more[FORM] = "myreports"
        started = await fetch.step(job())
        fetch.more[FORM] = "graphql"
        assert len(rows_of(await fetch.step(replace(job(), step="poll", remote=started.remote)))) == 35


async def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        first = await fetch.step(job())
        again = await fetch.step(job(epoch=9))
        assert (again.file, again.calls, len(fetch.sandbox.calls())) == (first.file, 0, 1)


async def test_no_campaigns_is_an_empty_file(tmp_path: Path) -> None:
    async with fetching(tmp_path, campaigns=0) as fetch:
        for number, report_type in enumerate(("campaign_performance", "account_performance"), 1):
            outcome = await fetch.step(job(report_type=report_type, run=number))
            assert outcome.file is not None
            assert outcome.file.rows == 0


async def test_one_day(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        rows = rows_of(await fetch.step(job(end=FIRST.toordinal())))
        assert {row["date"] for row in rows} == {FIRST}


async def test_an_unknown_account_and_too_old_days_are_the_requests_fault(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        old = FIRST.toordinal() - 500
        for changes, code in (
            ({"connector": replace(UTC, account_id="adv0")}, "not_found"),
            ({"start": old, "end": old}, "invalid_report"),
        ):
            failure = (await fetch.step(job(**changes))).failure
            assert failure is not None
            assert (failure.code, failure.retryable) == (code, False)


async def test_a_dead_token_is_changed_for_another_once(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.faults.add("ttd.graphql", "token_expired", times=1)
        assert len(rows_of(await fetch.step(job()))) == 35
        assert len(fetch.tokens.rejected) == 1


async def test_a_full_quota_says_when(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.sandbox.set_quota("ttd_graphql", 0)
        failure = (await fetch.step(job())).failure
        assert failure is not None
        assert (failure.code, failure.throttle) == ("rate_limited", Throttle(None, 60.0))
        fetch.sandbox.set_quota("ttd_graphql", 100)
        fetch.sandbox.set_quota("ttd_schedules", 0)
        assert (await fetch.step(job())).failure is None, "REST is counted apart"


FAULTS: tuple[tuple[dict[str, Any], str, bool], ...] = (
    ({"fault": "429"}, "rate_limited", False),
    ({"fault": "403_daily"}, "rate_limited", False),
    ({"fault": "403_permission"}, "not_found", False),
    ({"fault": "token_expired"}, "token_rejected", False),
    ({"fault": "internal"}, "provider_unavailable", True),
    ({"fault": "503"}, "provider_unavailable", True),
    ({"fault": "502"}, "provider_unavailable", True),
    ({"fault": "html"}, "unreadable_answer", False),
    ({"fault": "empty"}, "unreadable_answer", False),
    ({"fault": "garbage"}, "unreadable_answer", False),
    ({"fault": "bad_gzip"}, "bad_encoding", False),
    ({"fault": "cut"}, "truncated_body", True),
    ({"fault": "truncate"}, "truncated_body", True),
    ({"fault": "reset"}, "connection_reset", True),
    ({"fault": "hang", "seconds": 5}, "read_timeout", True),
    ({"fault": "huge", "size": 50_000_000}, "response_too_large", False),
)


@pytest.mark.parametrize(("fault", "code", "system"), FAULTS)
async def test_faults_have_names(tmp_path: Path, fault: dict[str, Any], code: str, system: bool) -> None:
    async with fetching(tmp_path, limits=Limits(call_s=1, stream_s=1, idle_s=0.5)) as fetch:
        fetch.sandbox.faults.add("ttd.graphql", **fault)
        failure = (await fetch.step(job())).failure
        assert failure is not None
        assert (failure.code, failure.system) == (code, system)
        assert parquet_files(tmp_path) == []


def day(on: str = "2026-11-01T00:00:00Z", **metrics: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"impressions": 120, "clicks": 3, "conversions": 1.5, "spend": {"advertiserCurrency": 2}}
    return {"dimensions": {"time": {"day": on}}, "metrics": known | metrics}


def campaign(*days: dict[str, Any], name: Any = "c9", more: Any = False) -> dict[str, Any]:
    report = {"nodes": list(days), "pageInfo": {"hasNextPage": more}}
    return {"id": name, "name": "Campaign", "reporting": {"generalReporting": report}}


def listed(*campaigns: Any, more: Any = False, after: Any = None, owner: str = ADVERTISER) -> dict[str, Any]:
    info = {"hasNextPage": more, "endCursor": after}
    return {"data": {"advertiser": {"id": owner, "campaigns": {"nodes": list(campaigns), "pageInfo": info}}}}


@asynccontextmanager
async def answering(folder: Path, *bodies: Mapping[str, Any] | bytes) -> AsyncIterator[LocalFetch[TtdConnector]]:
    """Steps against a server that gives these answers, the last one for ever."""
    left = list(bodies)

    async def handle(request: web.Request) -> web.Response:
        assert set(orjson.loads(await request.read())) == {"query", "variables"}
        assert "TTD-Auth" not in request.headers or "Authorization" not in request.headers
        body = left.pop(0) if len(left) > 1 else left[0]
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(body=content, content_type="application/json")

    async with calling(handle) as setting:
        connector = TtdConnector(form="graphql", graphql_url=f"{setting.base}/graphql")
        known = replace(UTC, currency="EUR")
        yield LocalFetch(setting, folder, connector, lambda: ttd_offer("start", connector=known))


@pytest.mark.parametrize(
    ("text", "spend"),
    [
        (b"2", "2"),
        (b"12.345678", "12.345678"),
        (b"99999999999.999999", "99999999999.999999"),
        (b"0.1234565", "0.123456"),
        (b"1e-6", "0.000001"),
        (b'"7.25"', "7.25"),
        (b"null", None),
    ],
)
async def test_money_is_exact(tmp_path: Path, text: bytes, spend: str | None) -> None:
    body = orjson.dumps(listed(campaign(day(spend={"advertiserCurrency": "?"})))).replace(b'"?"', text)
    async with answering(tmp_path, body) as fetch:
        (row,) = await fetch.rows()
        assert row["spend"] == (None if spend is None else Decimal(spend))
        assert (row["impressions"], row["clicks"], row["conversions"]) == (120, 3, Decimal("1.5"))
        assert (row["date"], row["currency"], row["account_id"]) == (date(2026, 11, 1), "EUR", ADVERTISER)


async def test_what_is_not_told_is_null(tmp_path: Path) -> None:
    async with answering(tmp_path, listed(campaign(day(spend=None, clicks=None, conversions=None)))) as fetch:
        (row,) = await fetch.rows()
        assert (row["spend"], row["clicks"], row["conversions"], row["impressions"]) == (None, None, None, 120)


CIRCLE = (listed(campaign(name="c1"), more=True, after="k"), listed(campaign(name="c2"), more=True, after="k"))
SHIFTED = (listed(campaign(day()), more=True, after="k"), listed(campaign(day())))
WRONG: tuple[tuple[tuple[Any, ...], str], ...] = (
    ((listed(campaign(day("2026-10-31T00:00:00Z"))),), "date_out_of_range"),
    ((listed(campaign(day("2026-11-01T05:00:00Z"))),), "bad_value"),
    ((listed(campaign(day(), day())),), "unreadable_answer"),
    ((listed(campaign(day(), more=True)),), "unreadable_answer"),
    ((listed(campaign(day(), more=None)),), "unreadable_answer"),
    ((listed(campaign(day()), campaign(day())),), "unreadable_answer"),
    ((listed(campaign(day(), name=None)),), "unreadable_answer"),
    ((listed(campaign(day(impressions=1.5))),), "bad_value"),
    ((listed(campaign(day(impressions=True))),), "bad_value"),
    ((listed(campaign(day(spend={"advertiserCurrency": [1]}))),), "bad_value"),
    ((listed(campaign(day(spend=5))),), "unreadable_answer"),
    ((orjson.dumps(listed(campaign(day(conversions="?")))).replace(b'"?"', b"NaN"),), "bad_value"),
    ((listed(campaign(day()), owner="adv1"),), "wrong_account"),
    ((listed("c9"),), "unreadable_answer"),
    ((listed(campaign(day()), more=True),), "unreadable_answer"),
    ((listed(campaign(day()), more=None),), "unreadable_answer"),
    (CIRCLE, "unreadable_answer"),
    (SHIFTED, "unreadable_answer"),
    (({"data": None},), "unreadable_answer"),
    (({"data": {"advertiser": None}},), "unreadable_answer"),
    (([1],), "unreadable_answer"),
    ((b"[" * 100_000,), "unreadable_answer"),
    (({**listed(campaign(day())), "errors": [{"message": "Half of it."}]},), "unexpected_status"),
    (({**listed(campaign(day())), "errors": {"odd": 1}},), "unexpected_status"),
)


@pytest.mark.parametrize(("bodies", "code"), WRONG)
async def test_what_is_not_provably_whole_and_right_is_not_kept(
    tmp_path: Path, bodies: tuple[Any, ...], code: str
) -> None:
    async with answering(tmp_path, *bodies) as fetch:
        assert (await fetch.failure()).code == code


async def test_pages_without_end_are_no_list(tmp_path: Path) -> None:
    bodies = [listed(more=True, after=cursor) for cursor in ("k", "l", "k")]
    async with answering(tmp_path, *bodies) as fetch:
        assert (await fetch.failure()).code == "unreadable_answer"
        assert fetch.setting.calls.made == 3


async def test_what_is_asked(tmp_path: Path) -> None:
    """Both ends are included, also where the last is taken for an instant; nothing is asked that no example shows."""
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Content-Type"], orjson.loads(await request.read())))
        return web.json_response(listed(campaign(day())))

    async with calling(handle) as setting:
        connector = TtdConnector(form="graphql", graphql_url=f"{setting.base}/graphql")
        await LocalFetch(setting, tmp_path, connector, lambda: ttd_offer("start", connector=UTC)).rows()
    ((path, kind, body),) = seen
    assert (path, kind) == ("/graphql", "application/json")
    assert body["variables"] == {
        "id": ADVERTISER, "from": "2026-11-01T00:00:00Z", "to": "2026-11-07T23:59:59Z", "first": 1_000,
    }  # fmt: skip
    words = set(re.findall(r"[a-zA-Z]+", body["query"]))
    assert words == WORDS


class FewPermits(CountingPermits):
    most = 1

    async def take(self, charge: str, *, data: bool = False) -> Any:
        if len(self.asked) >= self.most:
            raise PermitDenied("quota", 9.0)
        return await super().take(charge, data=data)


@pytest.mark.parametrize(("most", "code"), [(49, None), (50, "report_too_long")])
async def test_reading_that_never_gets_enough_calls_ends(
    tmp_path: Path, most: int, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphql, "_PAGE_ROWS", 7)
    async with fetching(tmp_path, campaigns=60) as fetch:
        fetch.permits = FewPermits(fetch.clock)
        fetch.permits.most = most
        outcome = await fetch.step(job())
        assert (outcome.released, outcome.failure and outcome.failure.code) == (code is None, code)
        assert parquet_files(tmp_path) == []
