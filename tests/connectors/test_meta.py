"""Meta's adapter over real HTTP: how it asks, what it makes of a run's states, and when a list of pages is whole."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.connectors.base import Limits
from app.connectors.meta.client import MetaConnector
from app.connectors.meta.pages import Source, pages
from app.domain.errors import ErrorClass, PermitDenied, ProviderError
from app.ports import Account, Permit
from tests.connectors.meta import (
    ACCOUNT,
    COMPLETED,
    RUN,
    Graph,
    Reply,
    meta_fetch,
    meta_offer,
    meta_row,
    page,
    refused,
)
from tests.connectors.support import CountingPermits

RUNNING = {"id": RUN, "account_id": ACCOUNT, "async_status": "Job Running", "async_percent_completion": 40}


async def test_a_run_is_asked_for_with_all_it_needs(tmp_path: Path) -> None:
    async with meta_fetch(tmp_path) as fetch:
        outcome = await fetch.run(meta_offer("start"))
        assert outcome.remote == {"report_run_id": RUN}
        ((method, path, query, form),) = fetch.graph.seen
        assert (method, path, query) == ("POST", f"/v26.0/act_{ACCOUNT}/insights", {})
        assert json.loads(form.pop("time_range")) == {"since": "2026-11-01", "until": "2026-11-07"}
        assert form == {
            "level": "campaign",
            "time_increment": "1",
            "fields": "campaign_id,campaign_name,account_id,account_currency,impressions,clicks,actions,spend",
        }
        assert fetch.graph.tokens == ["Bearer token-one"]
        assert fetch.setting.permits.asked == [("insights", True)]


async def test_the_account_report_has_its_own_level(tmp_path: Path) -> None:
    async with meta_fetch(tmp_path) as fetch:
        await fetch.run(meta_offer("start", report_type="account_performance"))
        form = fetch.graph.seen[0][3]
        assert form["level"] == "account"
        assert form["fields"] == "account_id,account_name,account_currency,impressions,clicks,actions,spend"


@pytest.mark.parametrize(
    ("status", "percent", "told"),
    [
        ("Job Not Started", 0, 0),
        ("Job Started", 5, 5),
        ("Job Running", 40, 40),
        ("Job Completed", 99, 99),
        ("Job Completed", None, None),
        ("Job Running", "7", None),
    ],
)
async def test_a_run_that_is_not_done_is_left_alone(
    tmp_path: Path, status: str, percent: Any, told: int | None
) -> None:
    state = {"id": RUN, "account_id": ACCOUNT, "async_status": status, "async_percent_completion": percent}
    async with meta_fetch(tmp_path, Graph(status=[(200, state)])) as fetch:
        outcome = await fetch.run()
        assert (outcome.remote, outcome.percent, outcome.file) == ({"report_run_id": RUN}, told, None)
        assert len(fetch.graph.seen) == 1


async def test_a_run_that_is_done_costs_its_pages(tmp_path: Path) -> None:
    graph = Graph(pages=[(200, page([meta_row(1), meta_row(2)], "MQ", more=True)), (200, page([meta_row(3)]))])
    async with meta_fetch(tmp_path, graph) as fetch:
        rows = await fetch.rows()
        assert [row["date"].day for row in rows] == [1, 2, 3]
        assert rows[0]["spend"] == Decimal("1.230000")
        assert graph.asked == [("500", ""), ("500", "MQ")]
        assert fetch.setting.permits.asked == [("insights", False)] * 3
        assert await fetch.rows() == rows, "a second worker finds the file"
        assert len(graph.seen) == 3


@pytest.mark.parametrize(
    ("state", "code", "retryable", "lost", "system"),
    [
        ({"async_status": "Job Skipped"}, "report_skipped", True, True, False),
        ({"async_status": "Job Failed"}, "report_failed", True, True, False),
        ({"async_status": "Job Failed", "error_code": -2, "error_message": "odd"}, "report_failed", True, True, False),
        ({"async_status": "Job Failed", "error_code": 100}, "invalid_report", False, True, False),
        ({"async_status": "Job Failed", "error_code": 2}, "provider_unavailable", True, True, True),
        ({"async_status": "Job Failed", "error_code": 2, "error_subcode": 1504038}, "too_much_data", True, True, False),
        ({"async_status": "Job Done"}, "unreadable_answer", True, False, False),
        ({}, "unreadable_answer", True, False, False),
        ({"id": "77", **COMPLETED}, "wrong_account", False, False, False),
        ({"account_id": "77", **COMPLETED}, "wrong_account", False, False, False),
        ({"id": 6021, **COMPLETED}, "unreadable_answer", True, False, False),
    ],
)
async def test_runs_that_give_no_rows(
    tmp_path: Path, state: dict[str, Any], code: str, retryable: bool, lost: bool, system: bool
) -> None:
    known = {"id": RUN, "account_id": ACCOUNT, "async_percent_completion": 100}
    async with meta_fetch(tmp_path, Graph(status=[(200, known | state)])) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, failure.remote_lost, failure.system) == (code, retryable, lost, system)
        assert fetch.graph.asked == []


async def test_why_a_run_failed_is_told(tmp_path: Path) -> None:
    state = {"async_status": "Job Failed", "error_code": 190, "error_message": "Gone.", "error_user_msg": "Sign in."}
    async with meta_fetch(tmp_path, Graph(status=[(200, {"id": RUN, **state})])) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.message, failure.provider_code) == ("reauthorise", "Gone.; Sign in.", "190")


@pytest.mark.parametrize("account", ["", "act_4567", "45 67", "4567/x", "x", "1" * 33])
async def test_other_texts_name_no_account(tmp_path: Path, account: str) -> None:
    async with meta_fetch(tmp_path) as fetch:
        for step in ("start", "poll"):
            failure = await fetch.failure(meta_offer(step, account_id=account))
            assert (failure.code, failure.error_class) == ("invalid_account", ErrorClass.INVALID_REQUEST)
        assert fetch.graph.seen == []


@pytest.mark.parametrize("remote", [None, {}, {"report_run_id": "../me"}, {"report_run_id": ""}])
async def test_other_texts_name_no_run(tmp_path: Path, remote: dict[str, str] | None) -> None:
    async with meta_fetch(tmp_path) as fetch:
        assert (await fetch.failure(replace(meta_offer(), remote=remote))).code == "unreadable_answer"
        assert fetch.graph.seen == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"report_run_id": 5}', b'{"report_run_id": "x"}', b"<html>"])
async def test_an_answer_without_a_run_is_none(tmp_path: Path, body: bytes) -> None:
    async with meta_fetch(tmp_path, Graph(create=[(200, body)])) as fetch:
        assert (await fetch.failure(meta_offer("start"))).code == "unreadable_answer"


LAST = page([meta_row(2)])
CURSORS = {"cursors": {"after": "MQ"}}


@pytest.mark.parametrize(
    "replies",
    [
        [b"", LAST],
        [b"[]", LAST],
        [{}, LAST],
        [{"data": {}}, LAST],
        [page([5]), LAST],
        [page([meta_row(1), None]), LAST],
        [{"data": [meta_row(1)]}, LAST],
        [{"data": [meta_row(1)], "paging": {}}, LAST],
        [{"data": [meta_row(1)], "paging": []}, LAST],
        [{"data": [meta_row(1)], "paging": {"cursors": 5}}, LAST],
        [{"data": [meta_row(1)], "paging": {"cursors": {"after": 5}}}, LAST],
        [{"data": [meta_row(1)], "paging": {"cursors": {"after": "a b"}}}, LAST],
        [{"data": [], "paging": {"next": "https://x"}}, LAST],
        [page([meta_row(1)], "MQ", more=True), page([meta_row(2)], "MQ", more=True), LAST],
        [page([meta_row(1)], "MQ", more=True), {"data": [meta_row(2)]}],
    ],
)
async def test_lists_that_are_not_provably_whole(tmp_path: Path, replies: list[Any]) -> None:
    async with meta_fetch(tmp_path, Graph(pages=[(200, one) for one in replies])) as fetch:
        assert (await fetch.failure()).code == "unreadable_answer"


@pytest.mark.parametrize("left", [1, 40, 150, -1])
async def test_an_answer_that_ends_early_is_the_providers_failure(tmp_path: Path, left: int) -> None:
    """The connection ended as it should; the JSON did not."""
    cut = orjson.dumps(page([meta_row(2)]))[:left]
    async with meta_fetch(tmp_path, Graph(pages=[(200, page([meta_row(1)], "MQ", more=True)), (200, cut)])) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, failure.system) == ("truncated_body", True, True)
        end = fetch.setting.permits.ends[-1]
        assert end is not None
        assert end.ok is False


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_rows_are_the_same_however_they_are_cut(tmp_path: Path, size: int) -> None:
    rows = [meta_row(day) for day in range(1, 8)]
    cut = [rows[at : at + size] for at in range(0, 7, size)]
    replies: list[Reply] = [(200, page(part, f"A{n}", more=n < len(cut) - 1)) for n, part in enumerate(cut)]
    async with meta_fetch(tmp_path, Graph(pages=replies), page_size=size * 25) as fetch:
        assert [row["date"].day for row in await fetch.rows()] == list(range(1, 8))
        assert fetch.graph.asked == [(str(size * 25), f"A{n - 1}" if n else "") for n in range(len(cut))]


async def test_empty_pages_are_gone_over_and_no_rows_are_an_empty_file(tmp_path: Path) -> None:
    empty = {"data": [], "paging": {**CURSORS, "next": "https://x"}}
    async with meta_fetch(tmp_path, Graph(pages=[(200, empty), (200, LAST)])) as fetch:
        assert len(await fetch.rows()) == 1
    async with meta_fetch(tmp_path / "none", Graph(pages=[(200, page([]))])) as fetch:
        assert await fetch.rows() == []


async def test_the_link_to_the_next_page_is_neither_called_nor_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    graph = Graph(pages=[(200, page([meta_row(1)], "MQ", more=True)), (200, {"data": "canary"})])
    async with meta_fetch(tmp_path, graph) as fetch:
        await fetch.failure()
        assert all("access_token" not in query for _, _, query, _ in graph.seen)
    assert "canary" not in caplog.text
    assert "token-one" not in caplog.text


LESS: tuple[Reply, ...] = (
    (500, refused(1, message="Please reduce the amount of data you're asking for, then retry your request")),
    (400, refused(100, 1504018)),
    (400, refused(2, 1504038, is_transient=True)),
)


@pytest.mark.parametrize("less", LESS)
async def test_a_page_that_is_too_much_is_asked_for_by_halves(tmp_path: Path, less: Reply) -> None:
    graph = Graph(pages=[(200, page([meta_row(1)], "MQ", more=True)), less, less, (200, LAST)])
    async with meta_fetch(tmp_path, graph) as fetch:
        assert len(await fetch.rows()) == 2
        assert graph.asked == [("500", ""), ("500", "MQ"), ("250", "MQ"), ("125", "MQ")]


async def test_a_page_that_is_too_long_is_asked_for_by_halves(tmp_path: Path) -> None:
    long = page([meta_row(1, campaign_name="x" * 9_000)])
    async with meta_fetch(
        tmp_path, Graph(pages=[(200, long), (200, LAST)]), limits=Limits(answer_bytes=8_000)
    ) as fetch:
        assert len(await fetch.rows()) == 1
        assert [limit for limit, _ in fetch.graph.asked] == ["500", "250"]


async def test_halving_ends(tmp_path: Path) -> None:
    async with meta_fetch(tmp_path, Graph(pages=[LESS[0]])) as fetch:
        failure = await fetch.failure()
        assert (failure.code, failure.retryable, failure.system) == ("too_much_data", True, False)
        assert [limit for limit, _ in fetch.graph.asked] == ["500", "250", "125", "62", "31", "25"]


async def test_a_token_refused_in_a_body_is_replaced_once(tmp_path: Path) -> None:
    graph = Graph(create=[(400, refused(190, 463)), (200, {"report_run_id": RUN})])
    async with meta_fetch(tmp_path, graph) as fetch:
        assert (await fetch.run(meta_offer("start"))).remote == {"report_run_id": RUN}
        assert graph.tokens == ["Bearer token-one", "Bearer token-two"]
        assert fetch.setting.tokens.rejected == ["token-one"]
        assert fetch.setting.permits.asked == [("insights", True)] * 2


@pytest.mark.parametrize("status", [200, 400, 401])
async def test_a_token_refused_twice_ends_the_authorisation(tmp_path: Path, status: int) -> None:
    async with meta_fetch(tmp_path, Graph(create=[(status, refused(190, 460))])) as fetch:
        failure = await fetch.failure(meta_offer("start"))
        assert (failure.code, failure.error_class, failure.retryable) == (
            "reauthorise", ErrorClass.AUTHORISATION, False,
        )  # fmt: skip
        assert len(fetch.graph.seen) == 2


async def test_two_refusals_of_either_kind_are_enough(tmp_path: Path) -> None:
    replies: list[Reply] = [(400, refused(190)), (401, refused(190)), (200, {"report_run_id": RUN})]
    async with meta_fetch(tmp_path, Graph(create=replies)) as fetch:
        assert (await fetch.failure(meta_offer("start"))).code == "reauthorise"
        assert len(fetch.graph.seen) == 2


@pytest.mark.parametrize(
    ("reply", "ok", "neutral"),
    [
        ((400, refused(2, is_transient=True)), False, False),
        ((200, refused(1)), False, False),
        ((200, refused(17, 2446079)), True, True),
        ((400, refused(100)), True, True),
    ],
)
async def test_what_a_body_says_is_how_the_call_ended(tmp_path: Path, reply: Reply, ok: bool, neutral: bool) -> None:
    async with meta_fetch(tmp_path, Graph(create=[reply])) as fetch:
        await fetch.failure(meta_offer("start"))
        (end,) = fetch.setting.permits.ends
        assert end is not None
        assert (end.ok, end.neutral) == (ok, neutral)


async def test_the_usage_of_every_answer_is_told(tmp_path: Path) -> None:
    graph = Graph(headers={"X-App-Usage": '{"call_count": 28}'}, create=[(400, refused(4))])
    async with meta_fetch(tmp_path, graph) as fetch:
        vars(fetch.setting.calls)["_usage"] = fetch.connector.usage
        await fetch.failure(meta_offer("start"))
        (end,) = fetch.setting.permits.ends
        assert end is not None
        assert [(told.quota, told.percent) for told in end.usage] == [("application_calls", 28.0)]


class FewPermits(CountingPermits):
    """Grants ``most`` permits."""

    most = 0
    reason = "quota"

    async def take(self, charge: str, *, data: bool = False) -> Permit:
        if len(self.asked) >= self.most:
            raise PermitDenied(self.reason, 40.0)
        return await super().take(charge, data=data)


@pytest.mark.parametrize(("most", "released"), [(30, True), (31, False)])
async def test_a_report_that_never_gets_enough_calls_is_given_up_at_last(
    tmp_path: Path, most: int, released: bool
) -> None:
    replies: list[Reply] = [(200, page([meta_row(1)], f"A{n}", more=True)) for n in range(60)]
    async with meta_fetch(tmp_path, Graph(pages=replies)) as fetch:
        permits = FewPermits(fetch.setting.clock)
        permits.most = most
        vars(fetch.setting.calls)["_permits"] = permits
        fetch.setting.permits = permits
        outcome = await fetch.run()
        assert outcome.released == released
        if not released:
            assert outcome.failure is not None
            assert (outcome.failure.code, outcome.failure.retryable) == ("report_too_long", True)
            assert (outcome.failure.throttle, outcome.failure.retry_after_s) == (None, 40.0)


async def test_a_lease_that_is_lost_while_pages_are_read_says_nothing(tmp_path: Path) -> None:
    replies: list[Reply] = [(200, page([meta_row(1)], f"A{n}", more=True)) for n in range(60)]
    async with meta_fetch(tmp_path, Graph(pages=replies)) as fetch:
        permits = FewPermits(fetch.setting.clock)
        permits.most, permits.reason = 50, "stale"
        vars(fetch.setting.calls)["_permits"] = permits
        source = Source(f"{fetch.setting.base}/v26.0/{RUN}/insights", "insights", "page", 500, {}, 60)
        with pytest.raises(PermitDenied, match="stale"):
            async for _ in pages(fetch.setting.calls, source):
                pass


async def test_accounts_of_all_pages_without_closed_ones() -> None:
    def entry(number: int, status: int = 1, **more: Any) -> dict[str, Any]:
        known = {"id": f"act_{number}", "account_id": str(number), "account_status": status}
        return known | {"name": "Ünder", "currency": "EUR", "timezone_name": "Europe/Madrid"} | more

    first, second = page([entry(1), entry(2, 101), entry(3, 2)], "MQ", more=True), page([entry(1), entry(4, name=None)])
    graph = Graph(accounts=[(200, first), (200, second)])
    async with meta_fetch(Path(), graph) as fetch:
        found = await fetch.connector.accounts(fetch.setting.calls)
        assert fetch.setting.permits.asked == [("entities", False)] * 2
    assert found == (
        Account("1", "Ünder", "EUR", "Europe/Madrid"),
        Account("3", "Ünder", "EUR", "Europe/Madrid"),
        Account("4", "", "EUR", "Europe/Madrid"),
    )
    assert [query for _, _, query, _ in graph.seen] == [
        {"fields": "id,account_id,name,currency,timezone_name,account_status", "limit": "100"} | more
        for more in ({}, {"after": "MQ"})
    ]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((400, refused(10)), "no_access"),
        ((200, {"data": [{"id": "act_1"}]}), "unreadable_answer"),
        ((200, page([{"account_id": "act_1"}])), "unreadable_answer"),
        ((200, page([{"account_id": "1/2"}])), "unreadable_answer"),
    ],
)
async def test_lists_of_accounts_that_are_none(reply: Reply, code: str) -> None:
    async with meta_fetch(Path(), Graph(accounts=[reply])) as fetch:
        with pytest.raises(ProviderError) as caught:
            await fetch.connector.accounts(fetch.setting.calls)
        assert caught.value.failure.code == code


async def test_a_step_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="download"):
        await MetaConnector().step(meta_offer("download"), None)  # type: ignore[arg-type]
    assert MetaConnector.minimum_calls == {"insights": 3}
