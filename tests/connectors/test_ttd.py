"""The adapter's calls: what it asks, which answers it takes, where its token goes, and what it lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web

from app.config import Settings, effective_quotas
from app.connectors import schemas
from app.connectors.hosts import Hosts
from app.connectors.registry import connectors_of, hosts_of
from app.connectors.ttd import reports
from app.connectors.ttd.client import MOST_UNSEEN, TtdConnector
from app.connectors.ttd.quotas import QUOTAS
from app.domain.errors import ErrorClass, Failure, ProviderError
from app.domain.model import ConnectorType
from app.ports import Account, Ready, Running
from tests.connectors.support import Handler, Setting, calling, server
from tests.connectors.ttd import ttd_offer, ttd_row, ttd_text

TEMPLATE = {"Result": [{"ReportTemplateId": 12, "Name": "connector campaign_performance"}], "ResultCount": 1}
DATE = {"Date": "Sun, 15 Nov 2026 12:00:00 GMT"}
EXECUTIONS = "/v3/myreports/reportexecution/query/advertisers"


class Provider:
    """Answers paths as told, and keeps what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"template": TEMPLATE, "schedule": {"ReportScheduleId": 5}, **answers}
        self.seen: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.seen.append((request.path, orjson.loads(raw) if raw else None))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        name = {
            "/v3/myreports/reporttemplateheader/query": "template",
            "/v3/myreports/reportschedule": "schedule",
            EXECUTIONS: "executions",
        }.get(request.path, "view")
        answer = self.answers[name]
        if isinstance(answer, tuple):
            return web.Response(status=answer[0], body=answer[1])
        return web.json_response(answer, headers=DATE) if not isinstance(answer, str) else web.Response(text=answer)


@asynccontextmanager
async def asking(handler: Handler, hosts: Callable[[str], Hosts] | None = None) -> AsyncIterator[Setting]:
    """Calls as the registry arranges them for this provider."""
    async with server(handler) as base:
        made = hosts or (lambda url: Hosts((url + "/v3/",), (), allow_private=True, token_header="TTD-Auth"))
        async with calling(handler, offer=ttd_offer(), hosts=made(base)) as setting:
            yield replace(setting, base=base)


async def step(provider: Provider, job: Any) -> Running | Ready:
    async with asking(provider.handle) as setting:
        return await TtdConnector(api_url=f"{setting.base}/v3").step(job, setting.calls)


async def refused(provider: Provider, job: Any) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await step(provider, job)
    return caught.value.failure


async def test_what_is_asked_for() -> None:
    provider = Provider()
    assert await step(provider, ttd_offer()) == Running({"schedule_id": "5", "began_at": "1794744000"})
    assert provider.seen == [
        (
            "/v3/myreports/reporttemplateheader/query",
            {"NameContains": "connector campaign_performance", "PageStartIndex": 0, "PageSize": 100},
        ),
        (
            "/v3/myreports/reportschedule",
            {
                "ReportScheduleName": "bat_" + "a" * 32 + "-1 campaign_performance",
                "ReportTemplateId": 12,
                "AdvertiserFilters": ["adv4567"],
                "ReportDateRange": "Custom",
                "ReportStartDateInclusive": "2026-11-01T00:00:00",
                "ReportEndDateExclusive": "2026-11-08T00:00:00",
                "ReportFrequency": "Once",
                "ReportFileFormat": "CSV",
                "TimeZone": "Europe/Madrid",
                "ReportDateFormat": "Sortable",
                "ReportNumericFormat": "US",
                "IncludeHeaders": True,
            },
        ),
    ]
    for headers in provider.headers:
        assert headers["ttd-auth"] == "token-one"
        assert "authorization" not in headers, "both together are an error"
        assert headers["content-type"] == "application/json"


async def test_a_poll_names_the_schedule_alone() -> None:
    provider = Provider(executions={"Result": [{"ReportScheduleId": 5, "ReportExecutionState": "Pending"}]})
    job = ttd_offer("poll", remote={"schedule_id": "5", "unseen": "4"})
    assert await step(provider, job) == Running({"schedule_id": "5"})
    body = {"AdvertiserIds": ["adv4567"], "ReportScheduleIds": [5], "PageStartIndex": 0, "PageSize": 10}
    assert provider.seen == [(EXECUTIONS, body)]


@pytest.mark.parametrize("answer", [{"Result": [], "ResultCount": 0}, {"ResultCount": 0}, {}, (240, b"")])
async def test_an_execution_may_not_be_there_yet(answer: Any) -> None:
    provider = Provider(executions=answer)
    assert await step(provider, ttd_offer("poll")) == Running({"schedule_id": "5", "unseen": "1"})
    last = {"schedule_id": "5", "unseen": str(MOST_UNSEEN - 1), "began_at": "1794744000"}
    assert await step(provider, ttd_offer("poll", remote=last)) == Running({**last, "unseen": str(MOST_UNSEEN)})
    failure = await refused(provider, ttd_offer("poll", remote={**last, "unseen": str(MOST_UNSEEN)}))
    assert (failure.code, failure.retryable, failure.remote_lost, failure.system) == ("report_lost", True, True, False)


async def test_another_schedules_execution_is_not_ours() -> None:
    other = {"ReportScheduleId": 6, "ReportExecutionState": "Failed"}
    provider = Provider(executions={"Result": [other]})
    assert await step(provider, ttd_offer("poll")) == Running({"schedule_id": "5", "unseen": "1"})


@pytest.mark.parametrize(
    ("execution", "code", "lost"),
    [
        ({"ReportExecutionState": "Failed"}, "report_failed", True),
        ({"ReportExecutionState": "Elsewhere"}, "unreadable_answer", False),
        ({}, "unreadable_answer", False),
        ({"ReportExecutionState": "Complete"}, "unreadable_answer", False),
        ({"ReportExecutionState": "Complete", "ReportDeliveries": []}, "unreadable_answer", False),
        ({"ReportExecutionState": "Complete", "ReportDeliveries": [1, {"DownloadURL": 3}]}, "unreadable_answer", False),
    ],
)
async def test_executions_that_give_no_file(execution: dict[str, Any], code: str, lost: bool) -> None:
    failure = await refused(Provider(executions={"Result": [execution]}), ttd_offer("poll"))
    assert (failure.code, failure.remote_lost, failure.retryable, failure.system) == (code, lost, True, False)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"template": {"Result": []}}, "template_missing"),
        ({"template": (240, b"")}, "template_missing"),
        ({"template": {"Result": [{"ReportTemplateId": 1, "Name": "other"}]}}, "template_missing"),
        ({"template": {"Result": [{"ReportTemplateId": 1}, {"ReportTemplateId": 2}]}}, "template_ambiguous"),
        ({"template": {"Result": {}}}, "unreadable_answer"),
        ({"template": {"Result": ["x"]}}, "unreadable_answer"),
        ({"template": {"Result": [{"ReportTemplateId": True}]}}, "unreadable_answer"),
        ({"template": []}, "unreadable_answer"),
        ({"schedule": {}}, "unreadable_answer"),
        ({"schedule": (240, b"")}, "unreadable_answer"),
        ({"schedule": {"ReportScheduleId": "5/../6"}}, "unreadable_answer"),
        ({"schedule": {"ReportScheduleId": -5}}, "unreadable_answer"),
        ({"schedule": (200, b"<html>")}, "unreadable_answer"),
    ],
)
async def test_answers_that_are_not_what_was_asked(answers: dict[str, Any], code: str) -> None:
    failure = await refused(Provider(**answers), ttd_offer())
    assert failure.code == code
    assert not failure.system


async def test_a_template_without_a_name_is_taken_when_it_is_the_only_one() -> None:
    provider = Provider(template={"Result": [{"ReportTemplateId": 77}]})
    await step(provider, ttd_offer())
    assert provider.seen[1][1]["ReportTemplateId"] == 77


async def test_several_executions_of_one_schedule_are_not_guessed_at() -> None:
    twice = {"Result": [{"ReportExecutionState": "Pending"}, {"ReportExecutionState": "Complete"}]}
    failure = await refused(Provider(executions=twice), ttd_offer("poll"))
    assert (failure.code, failure.retryable) == ("unreadable_answer", False)


def complete(link: str) -> dict[str, Any]:
    return {"Result": [{"ReportExecutionState": "Complete", "ReportDeliveries": [{"DownloadURL": link}]}]}


async def rows_of(provider: Provider, setting: Setting) -> list[Any]:
    ready = await TtdConnector(api_url=f"{setting.base}/v3").step(ttd_offer("poll"), setting.calls)
    assert isinstance(ready, Ready)
    assert ready.control == {}
    return [row async for batch in ready.batches for row in batch.to_pylist()]


async def test_a_link_to_the_api_gets_the_token_another_does_not() -> None:
    storage = Provider(view=ttd_text([ttd_row(1)]))
    async with server(storage.handle) as other:
        listed = other.removeprefix("http://")
        provider = Provider(view=ttd_text([ttd_row(1)]))
        async with asking(
            provider.handle,
            lambda url: Hosts((url + "/v3/",), (listed,), allow_private=True, token_header="TTD-Auth"),
        ) as setting:
            for base in (setting.base, other):
                provider.answers["executions"] = complete(f"{base}/v3/myreports/view/5?Signature=s")
                assert len(await rows_of(provider, setting)) == 1
    assert [("ttd-auth" in headers) for headers in provider.headers] == [True, True, True]
    assert [("ttd-auth" in headers or "authorization" in headers) for headers in storage.headers] == [False]


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/report.csv",
        "https://api.thetradedesk.com.evil.example/v3/myreports/view/5",
        "file:///etc/passwd",
        "/v3/myreports/view/5",
        "http://user:pass@{}/v3/myreports/view/5",
        "http://[",
    ],
)
async def test_a_link_elsewhere_is_not_followed(link: str) -> None:
    provider = Provider()
    async with asking(provider.handle) as setting:
        provider.answers["executions"] = complete(link.format(setting.base.removeprefix("http://")))
        with pytest.raises(ProviderError) as caught:
            await rows_of(provider, setting)
    assert caught.value.failure.code == "host_not_allowed"
    assert [path for path, _ in provider.seen] == [EXECUTIONS]


async def test_a_step_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="download"):
        await TtdConnector().step(ttd_offer("download"), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("account_id", ["", "a b", "adv1\n", "x" * 65, "advü"])
async def test_an_account_id_of_another_form_is_refused_before_a_call(account_id: str) -> None:
    known = replace(ttd_offer().connector, account_id=account_id)
    provider = Provider()
    failure = await refused(provider, ttd_offer(connector=known))
    assert (failure.error_class, failure.code, provider.seen) == (ErrorClass.INVALID_REQUEST, "invalid_account", [])


PARTNERS = ("prt1", "prt2", "prt3")


def entities(seen: list[Any], *, page: int = 2, total: bool = True) -> Handler:
    """Three partners, of whom the second has five advertisers and the third shares one with it; ``page`` rows at a
    time, whatever was asked for."""
    of = {"prt1": [], "prt2": [f"adv{n}" for n in range(5)], "prt3": ["adv4", "adv9"]}

    async def handle(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.path.removeprefix("/v3/"), body))
        if request.path == "/v3/partner/query":
            listed: list[dict[str, Any]] = [{"PartnerId": one} for one in PARTNERS]
        else:
            listed = [
                {"AdvertiserId": one, "AdvertiserName": f"Ü {one}", "CurrencyCode": "EUR"}
                for one in of[body["PartnerId"]]
            ]
        shown = listed[body["PageStartIndex"] : body["PageStartIndex"] + page]
        counts = {"TotalFilteredCount": len(listed)} if total else {}
        return web.json_response({"Result": shown, "ResultCount": len(shown), **counts})

    return handle


@pytest.mark.parametrize("total", [True, False])
async def test_accounts_are_the_advertisers_of_every_partner(total: bool) -> None:
    seen: list[Any] = []
    async with asking(entities(seen, total=total)) as setting:
        found = await TtdConnector(api_url=f"{setting.base}/v3/").accounts(setting.calls)
        assert {charge for charge, _ in setting.permits.asked} == {"entities"}
        assert setting.permits.outstanding == []
    assert found == tuple(Account(f"adv{n}", f"Ü adv{n}", "EUR", None) for n in (0, 1, 2, 3, 4, 9))
    starts = [body["PageStartIndex"] for path, body in seen if body.get("PartnerId") == "prt2"]
    assert starts == ([0, 2, 4] if total else [0, 2, 4, 5]), "the index is that of a row"


async def test_a_list_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connectors.ttd.client._MOST_PAGES", 3)

    async def handle(_request: web.Request) -> web.Response:
        return web.json_response({"Result": [{"PartnerId": "prt1"}] if _request.path.endswith("r/query") else []})

    async with asking(handle) as setting:
        with pytest.raises(ProviderError, match="does not end"):
            await TtdConnector(api_url=f"{setting.base}/v3/").accounts(setting.calls)


async def test_an_advertiser_without_an_id_is_no_account() -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response({"Result": [{"PartnerId": "prt1"}], "TotalFilteredCount": 1})

    async with asking(handle) as setting:
        with pytest.raises(ProviderError, match="AdvertiserId"):
            await TtdConnector(api_url=f"{setting.base}/v3/").accounts(setting.calls)


def test_what_is_offered() -> None:
    for report in reports.REPORTS.values():
        known = [field.name for field in schemas.load(report.name).columns if field.standard]
        assert [field.name for field in report.fields] == known, "no extras are known"
        named = {field.provider_name for field in report.fields if field.provider_name}
        assert named <= set(reports.FORM.headers)
        assert (report.retention_days, report.settling_days) == (364, 30)
    unnamed = {f.name for f in reports.ACCOUNT_PERFORMANCE.fields if not f.provider_name}
    assert unnamed == {*schemas.OURS, "account_name"}


def test_each_endpoint_is_counted_by_itself_for_each_user() -> None:
    assert {(quota.charge, quota.scope, quota.limit, quota.period_ms, quota.calendar_zone) for quota in QUOTAS} == {
        (charge, "user", 100, 60_000, None) for charge in ("templates", "schedules", "executions", "files", "entities")
    }
    assert all(quota.source and quota.connector_type == "TTD" for quota in QUOTAS)
    assert len({quota.name for quota in QUOTAS}) == len(QUOTAS)
    assert set(TtdConnector.minimum_calls) == {"templates", "schedules", "executions"}


def test_a_set_limit_is_that_of_every_endpoint_a_fetch_calls() -> None:
    settings = Settings.load({"CONNECTOR__RATE_LIMIT__TTD__REQUESTS_PER_MINUTE": "50"})
    found = {quota.charge: quota.limit for quota in effective_quotas(QUOTAS, settings)}
    assert found == {"templates": 50, "schedules": 50, "executions": 50, "files": 50, "entities": 100}


def test_settings_reach_the_adapter() -> None:
    prefix = "CONNECTOR__PROVIDERS__TTD__"
    settings = Settings.load(
        {
            f"{prefix}API_URL": "https://ttd.example/v3/",
            f"{prefix}VIEW_HOSTS": "desk.example",
            f"{prefix}DOWNLOAD_HOSTS": "files.example",
            f"{prefix}TEMPLATE_PREFIX": "acme",
            f"{prefix}POLL_SCHEDULE_S": "0.5,1",
        }
    )
    hosts = hosts_of(settings)[ConnectorType.TTD]
    assert hosts == Hosts(
        ("https://ttd.example/v3/", "https://desk.example/"), ("files.example",), token_header="TTD-Auth"
    )
    connector = connectors_of(settings)[ConnectorType.TTD]
    assert tuple(connector.poll_schedule_s) == (0.5, 1.0)
    assert (vars(connector)["_own"], vars(connector)["_prefix"]) == (hosts.api, "acme")
