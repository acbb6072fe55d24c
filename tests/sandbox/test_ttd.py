"""The Trade Desk in the sandbox: who may call, lists, a report's way, its file, refusals and counts, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.sandbox.dv360.state import Fixed, Lognormal, Polls
from app.sandbox.fixture import RunningSandbox
from app.sandbox.ttd import state as ttd
from app.sandbox.ttd import tokens
from app.sandbox.ttd.figures import advertiser, truth_rows
from app.sandbox.ttd.state import COMPLETE, FAILED, PENDING, TEMPLATES, UNSEEN, Asked
from tests.sandbox.client import END, START, Client, Reply, cells, connected

PAGE = {"PageStartIndex": 0, "PageSize": 100}
BODY: dict[str, Any] = {
    "ReportScheduleName": "req_789",
    "ReportTemplateId": 102,
    "AdvertiserFilters": ["adv7"],
    "ReportDateRange": "Custom",
    "ReportStartDateInclusive": f"{START}T00:00:00",
    "ReportEndDateExclusive": f"{END + timedelta(days=1)}T00:00:00",
    "ReportFrequency": "Once",
    "ReportFileFormat": "CSV",
    "TimeZone": "UTC",
    "ReportDateFormat": "Sortable",
    "ReportNumericFormat": "US",
    "IncludeHeaders": True,
}


async def ask(client: Client, path: str, body: Any, user: str = "ana", **headers: str) -> Reply:
    known = {"TTD-Auth": client.sandbox.ttd_token(user), **headers}
    return await client.call("POST", f"/ttd/v3/{path}", json=body, headers=known)


async def scheduled(client: Client, **changes: Any) -> int:
    answer = await ask(client, "myreports/reportschedule", {**BODY, **changes})
    assert answer.status == 200, answer.body
    number = answer.json["ReportScheduleId"]
    assert isinstance(number, int)
    return number


async def executions(client: Client, *schedules: int, advertiser_id: str = "adv7", **paging: int) -> Any:
    body = {"AdvertiserIds": [advertiser_id], "ReportScheduleIds": list(schedules), **PAGE, **paging}
    answer = await ask(client, "myreports/reportexecution/query/advertisers", body)
    assert answer.status == 200, answer.body
    return answer.json


def set_links(sandbox: RunningSandbox, kind: str) -> None:
    sandbox.world.ttd.links = kind


async def test_a_report_is_not_there_then_pending_then_complete() -> None:
    async with connected(report_duration=Polls(3)) as (_, client):
        number = await scheduled(client)
        first, second, third = [await executions(client, number) for _ in range(3)]
        assert (first["Result"], first["ResultCount"], first["TotalFilteredCount"]) == ([], 0, 0)
        assert (second["Result"][0]["ReportExecutionState"], second["Result"][0]["ReportDeliveries"]) == ("Pending", [])
        (done,) = third["Result"]
        assert done["ReportExecutionState"] == "Complete"
        assert (done["ReportScheduleId"], done["ReportScheduleName"]) == (number, "req_789")
        assert done["ReportEndDateExclusive"] == BODY["ReportEndDateExclusive"]
        assert len(done["ReportDeliveries"]) == 1


def schedule_of(duration: Fixed | Polls | Lognormal, fate: str = COMPLETE) -> tuple[ttd.TtdState, ttd.Schedule]:
    state = ttd.new_state(1, 1_000.0, 5, duration)
    asked = Asked("r", TEMPLATES[1], (7,), START, END, "UTC")
    return state, ttd.make_schedule(state, "ana", asked, fate, seed=1, now=100.0)


@pytest.mark.parametrize("fate", [COMPLETE, FAILED])
def test_states_follow_from_time(fate: str) -> None:
    _, made = schedule_of(Fixed(10.0), fate)
    seen = [ttd.state_of(made, at) for at in (100.0, 101.9, 102.0, 109.9, 110.0, 500.0)]
    assert seen == [UNSEEN, UNSEEN, PENDING, PENDING, fate, fate]


def test_a_stuck_report_is_pending_for_good_and_one_that_takes_no_time_is_there_at_once() -> None:
    assert ttd.state_of(schedule_of(Fixed(1.0), PENDING)[1], 1e9) == PENDING
    assert ttd.state_of(schedule_of(Fixed(0.0))[1], 100.0) == COMPLETE
    assert ttd.state_of(schedule_of(Polls(0))[1], 100.0) == COMPLETE


async def test_both_kinds_of_link_lead_to_the_same_file() -> None:
    async with connected() as (sandbox, client):
        token = {"TTD-Auth": sandbox.ttd_token("ana")}
        files = []
        for kind, host in (("view", sandbox.api_url), ("signed", sandbox.storage_url)):
            set_links(sandbox, kind)
            done = (await executions(client, await scheduled(client)))["Result"][0]
            link = done["ReportDeliveries"][0]["DownloadURL"]
            assert link.startswith(f"{host}/")
            bare, shown = await client.call("GET", link), await client.call("GET", link, headers=token)
            assert (bare.status, shown.status) == ((401, 200) if kind == "view" else (200, 400))
            files.append((shown if kind == "view" else bare).body)
        assert files[0] == files[1]
        rows = cells(files[0].decode())
        assert tuple(rows[0]) == ttd.CAMPAIGN_COLUMNS
        truth = sandbox.ttd_truth("adv7", "UTC", START, END)
        assert [row[0] for row in rows[1:]] == [f"{row.day}T00:00:00" for row in truth]
        assert [(row[3], row[4], row[5]) for row in rows[1:]] == [
            (one.campaign_id, one.campaign_name, str(one.impressions)) for one in truth
        ]


async def test_links_alternate_until_they_are_told() -> None:
    async with connected() as (sandbox, client):
        links = []
        for _ in range(4):
            done = (await executions(client, await scheduled(client)))["Result"][0]
            links.append(done["ReportDeliveries"][0]["DownloadURL"].startswith(sandbox.storage_url))
        assert links in ([True, False] * 2, [False, True] * 2)


async def test_a_signed_link_ends_and_a_forged_one_is_none() -> None:
    async with connected(link_seconds=0.0) as (sandbox, client):
        set_links(sandbox, "signed")
        link = (await executions(client, await scheduled(client)))["Result"][0]["ReportDeliveries"][0]["DownloadURL"]
        for url in (link, link.replace("Expires=1", "Expires=2"), link.partition("?")[0]):
            answer = await client.call("GET", url)
            assert (answer.status, b"AccessDenied" in answer.body) == (403, True)


async def test_a_view_is_its_makers() -> None:
    async with connected() as (sandbox, client):
        set_links(sandbox, "view")
        link = (await executions(client, await scheduled(client)))["Result"][0]["ReportDeliveries"][0]["DownloadURL"]
        answer = await client.call("GET", link, headers={"TTD-Auth": sandbox.ttd_token("bob")})
        assert answer.status == 403


async def test_a_template_decides_the_columns_and_sums() -> None:
    async with connected() as (sandbox, client):
        set_links(sandbox, "view")
        token = {"TTD-Auth": sandbox.ttd_token("ana")}
        done = (await executions(client, await scheduled(client, ReportTemplateId=103)))["Result"][0]
        rows = cells(
            (await client.call("GET", done["ReportDeliveries"][0]["DownloadURL"], headers=token)).body.decode()
        )
        truth = sandbox.ttd_truth("adv7", "UTC", START, END)
        assert tuple(rows[0]) == ttd.ACCOUNT_COLUMNS
        assert len(rows) == 8
        assert sum(int(row[3]) for row in rows[1:]) == sum(one.impressions for one in truth)


async def test_a_template_is_found_by_a_part_of_its_name() -> None:
    async with connected() as (_, client):
        path = "myreports/reporttemplateheader/query"
        found = (await ask(client, path, {"NameContains": "CAMPAIGN_performance", **PAGE})).json
        assert [one["ReportTemplateId"] for one in found["Result"]] == [101, 102]
        assert (await ask(client, path, {"NameContains": "nothing", **PAGE})).json["Result"] == []


async def test_pages_are_counted_by_rows() -> None:
    async with connected(advertisers=5) as (_, client):
        ids, at = [], 0
        for _ in range(3):
            body = {"PartnerId": "prt99", "PageStartIndex": at, "PageSize": 2}
            page = (await ask(client, "advertiser/query/partner", body)).json
            ids += [one["AdvertiserId"] for one in page["Result"]]
            assert (page["TotalFilteredCount"], page["ResultCount"]) == (5, len(page["Result"]))
            at += page["ResultCount"]
        assert ids == [f"adv{4567 + n}" for n in range(5)]
        for paging in ({}, {"PageStartIndex": -1, "PageSize": 2}, {"PageStartIndex": 0, "PageSize": 1_001}):
            assert (await ask(client, "partner/query", paging)).status == 400
        assert (await ask(client, "advertiser/query/partner", {"PartnerId": "prt1", **PAGE})).status == 403


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"ReportEndDateExclusive": BODY["ReportStartDateInclusive"]}, "ReportEndDateExclusive"),
        ({"ReportStartDateInclusive": "2020-01-01T00:00:00"}, "ReportStartDateInclusive"),
        ({"ReportStartDateInclusive": f"{START}T01:00:00"}, "ReportStartDateInclusive"),
        ({"ReportStartDateInclusive": str(START) + "T00:00:00Z"}, "ReportStartDateInclusive"),
        ({"ReportTemplateId": 9}, "ReportTemplateId"),
        ({"TimeZone": "Mars/Base"}, "TimeZone"),
        ({"ReportFrequency": "Daily"}, "ReportFrequency"),
        ({"AdvertiserFilters": []}, "AdvertiserFilters"),
        ({"ReportScheduleName": ""}, "ReportScheduleName"),
    ],
)
async def test_a_schedule_that_cannot_be(changes: dict[str, Any], wrong: str) -> None:
    async with connected() as (sandbox, client):
        answer = await ask(client, "myreports/reportschedule", {**BODY, **changes})
        assert answer.status == 400
        assert answer.json["Message"].startswith("The request failed validation")
        assert [(one["Property"], len(one["Reasons"])) for one in answer.json["ErrorDetails"]] == [(wrong, 1)]
        assert sandbox.world.ttd.schedules == {}


async def test_unknown_properties_are_ignored_unless_the_mode_is_strict() -> None:
    async with connected() as (sandbox, client):
        odd = {**BODY, "ReportColumns": ["x"]}
        assert (await ask(client, "myreports/reportschedule", odd)).status == 200
        assert sandbox.world.ttd.ignored == {"ReportColumns"}
        answer = await ask(client, "myreports/reportschedule", odd, **{"TTD-Strict-Mode": "true"})
        assert (answer.status, answer.json["ErrorDetails"][0]["Property"]) == (400, "ReportColumns")


async def test_no_such_entity_and_no_access_look_the_same() -> None:
    async with connected() as (_, client):
        for advertiser_id in ("adv0", "7", ""):
            answer = await ask(client, "myreports/reportschedule", {**BODY, "AdvertiserFilters": [advertiser_id]})
            assert answer.status == 403
            assert set(answer.json) == {"Message"}
        number = await scheduled(client)
        assert (await executions(client, number, advertiser_id="adv8"))["Result"] == []


async def test_a_schedule_is_deleted_without_content() -> None:
    async with connected() as (sandbox, client):
        number = await scheduled(client)
        url, token = f"/ttd/v3/myreports/reportschedule/{number}", {"TTD-Auth": sandbox.ttd_token("ana")}
        other = await client.call("DELETE", url, headers={"TTD-Auth": sandbox.ttd_token("bob")})
        assert other.status == 403
        gone = await client.call("DELETE", url, headers=token)
        assert (gone.status, gone.body) == (240, b"")
        assert (await executions(client, number))["Result"] == []


async def test_paths_and_types_that_are_none() -> None:
    async with connected() as (sandbox, client):
        nowhere = await ask(client, "myreports/reportexecution/query", PAGE)
        assert (nowhere.status, nowhere.json) == (404, {"Message": "Not Found"})
        token = {"TTD-Auth": sandbox.ttd_token("ana"), "Content-Type": "text/plain"}
        assert (await client.call("POST", "/ttd/v3/partner/query", data="{}", headers=token)).status == 415
        json_type = token | {"Content-Type": "application/json"}
        for body in ("{", "[]"):
            assert (await client.call("POST", "/ttd/v3/partner/query", data=body, headers=json_type)).status == 400


async def test_the_gateway_refuses_without_a_token_that_lives() -> None:
    async with connected() as (sandbox, client):
        long_lived = sandbox.ttd_token("ana")
        refused: list[dict[str, str]] = [
            {}, {"TTD-Auth": "canary"}, {"Authorization": f"Bearer {long_lived}"},
            {"TTD-Auth": "login.ana.9999999999.1." + "0" * 64},
        ]  # fmt: skip
        for headers in refused:
            answer = await client.call("POST", "/ttd/v3/partner/query", json=PAGE, headers=headers)
            assert (answer.status, answer.json) == (401, {"message": "Unauthorized"})
        sandbox.faults.add("ttd.partners", "revoked", times=1)
        for _ in range(2):
            old = await client.call("POST", "/ttd/v3/partner/query", json=PAGE, headers={"TTD-Auth": long_lived})
            assert old.status == 401
        assert (await ask(client, "partner/query", PAGE)).status == 200, "the owner made another"


async def test_a_login_gives_a_token_of_a_day_at_most() -> None:
    async with connected() as (sandbox, client):
        body = {"Login": "ana@sandbox", "Password": "sandbox-ana", "TokenExpirationInMinutes": 9_999}
        names = set()
        for _ in range(2):
            answer = await client.call("POST", "/ttd/v3/authentication", json=body)
            (name,) = set(answer.json) - {"Token"}
            names.add(name)
            left = datetime.fromisoformat(answer.json[name]) - datetime.now(UTC)
            assert timedelta(hours=23, minutes=59) < left <= timedelta(days=1)
            token = {"TTD-Auth": answer.json["Token"]}
            assert (await client.call("POST", "/ttd/v3/partner/query", json=PAGE, headers=token)).status == 200
        assert names == {"ExpirationDateUtc", "ExpirationDate"}
        for wrong in ({"Password": "sandbox-bob"}, {"Login": "ana"}):
            assert (await client.call("POST", "/ttd/v3/authentication", json={**body, **wrong})).status == 401
        assert (await client.call("POST", "/ttd/v3/authentication", json={"Login": "ana@sandbox"})).status == 400
        assert "sandbox-ana" not in repr(sandbox.calls())


def test_a_login_token_ends() -> None:
    state = tokens.new_tokens(1)
    issued = tokens.log_in(state, "ana@sandbox", "sandbox-ana", 10, now=1_000.0)
    assert issued is not None
    token, until = issued
    assert until == 1_600
    assert [tokens.is_living(state, token, at) for at in (1_599.0, 1_600.0)] == [True, False]
    tokens.revoke(state, "ana")
    assert tokens.is_living(state, token, 1_599.0), "login tokens cannot be revoked"
    assert tokens.user_of(tokens.new_tokens(2), token) is None


async def test_each_endpoint_is_counted_by_itself_for_each_user() -> None:
    async with connected(enforce=True) as (sandbox, client):
        sandbox.set_quota("ttd_partners", 2)
        statuses = [(await ask(client, "partner/query", PAGE)).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = await ask(client, "partner/query", PAGE)
        assert refused.json == {"Message": "Too Many Requests"}
        assert 58 <= int(refused.headers["Retry-After"]) <= 60
        assert (await ask(client, "partner/query", PAGE, user="bob")).status == 200
        assert (await ask(client, "advertiser/query/partner", {"PartnerId": "prt99", **PAGE})).status == 200
        row = next(one for one in sandbox.quotas() if one["name"] == "ttd_partners" and one["value"] == "ana")
        assert (row["peak"], row["over"], row["calls"]) == (4, 2, 4)
        assert [call.over_quota for call in sandbox.calls("ttd.partners")] == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        ("429", 429, "60"), ("429_retry_after", 429, "60"), ("403_daily", 429, "60"), ("ads_temporary", 429, "60"),
        ("403_permission", 403, None), ("token_expired", 401, None), ("500", 500, None), ("internal", 500, None),
        ("502", 502, None), ("503", 503, "1"), ("504", 504, None),
    ],
)  # fmt: skip
async def test_faults_in_its_own_words(fault: str, status: int, retry_after: str | None) -> None:
    async with connected() as (sandbox, client):
        sandbox.faults.add("ttd.*", fault)
        answer = await ask(client, "partner/query", PAGE)
        assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
        assert set(answer.json) == ({"message"} if status == 401 else {"Message"})


async def test_faults_can_be_aimed_at_a_report_and_an_account() -> None:
    async with connected() as (sandbox, client):
        sandbox.faults.add("ttd.schedule", "failed_report", title="req_7")
        sandbox.faults.add("ttd.executions", "500", account="adv8")
        failed = await executions(client, await scheduled(client))
        assert failed["Result"][0]["ReportExecutionState"] == "Failed"
        body = {"AdvertiserIds": ["adv8"], "ReportScheduleIds": [1], **PAGE}
        assert (await ask(client, "myreports/reportexecution/query/advertisers", body)).status == 500


async def test_the_log_says_who_asked_for_what_and_holds_no_token() -> None:
    async with connected() as (sandbox, client):
        number = await scheduled(client)
        await executions(client, number)
        made, poll = sandbox.calls()
        assert (made.user, made.account, made.title, made.query_id, made.quota_group) == (
            "ana", "adv7", "req_789", str(number), "ttd_schedules",
        )  # fmt: skip
        assert (poll.route, poll.account, poll.title, poll.query_id) == (
            "ttd.executions", "adv7", "req_789", str(number),
        )  # fmt: skip
        assert made.authorization
        assert "sandbox-ttd" not in repr(sandbox.calls())


def test_figures_follow_from_seed_zone_campaign_and_day() -> None:
    account = advertiser(1, 7)

    def figures(seed: int, zone: str, revision: int = 0) -> list[Any]:
        return list(truth_rows(seed, account, zone, START, END, 5, lambda _day: revision))

    first = figures(1, "UTC")
    assert figures(1, "UTC") == first
    assert len(first) == 35
    for other in (figures(2, "UTC"), figures(1, "Asia/Tokyo"), figures(1, "UTC", 1)):
        assert [row.impressions for row in other] != [row.impressions for row in first]


async def test_control_doors() -> None:
    async with connected() as (sandbox, client):
        query = f"provider=ttd&advertiser_id=adv7&start={START}&end={END}"

        async def truth() -> list[Any]:
            rows = (await client.call("GET", f"/_sandbox/truth?{query}")).json["rows"]
            assert isinstance(rows, list)
            return rows

        before = await truth()
        assert [row["impressions"] for row in before] == [
            row.impressions for row in sandbox.ttd_truth("adv7", "UTC", START, END)
        ]
        changed = {"provider": "ttd", "advertiser_id": "adv7", "start": str(START), "end": str(START)}
        assert (await client.call("POST", "/_sandbox/restate", json=changed)).status == 200
        after = await truth()
        assert [one == other for one, other in zip(before, after, strict=True)] == [False] * 5 + [True] * 30
        few = {"provider": "ttd", "advertiser_id": "adv7", "campaigns": 1}
        assert (await client.call("POST", "/_sandbox/figures", json=few)).status == 200
        assert len(await truth()) == 7
        assert (await client.call("POST", "/_sandbox/durations", json={"reports": {"polls": 9}})).status == 200
        assert sandbox.world.ttd.duration == Polls(9)
        assert (await client.call("GET", "/_sandbox/truth?provider=ttd&advertiser_id=7&start=a&end=b")).status == 400


async def test_a_reset_forgets_all_but_the_numbering() -> None:
    async with connected() as (sandbox, client):
        first = await scheduled(client)
        sandbox.restate_ttd("adv7", START, END)
        world = sandbox.world
        world.ttd.templates = (replace(TEMPLATES[0], name="x"),)
        sandbox.reset()
        assert not world.ttd.schedules
        assert not world.ttd.revisions
        assert tuple(one.template_id for one in world.ttd.templates) == (101, 102, 103)
        assert await scheduled(client) > first
