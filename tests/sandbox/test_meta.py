"""Meta over HTTP, spoken to as a careful and a careless client would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.sandbox.clock import Instant
from app.sandbox.days import months_before
from app.sandbox.dv360.state import Fixed, Polls
from app.sandbox.fixture import RunningSandbox
from app.sandbox.meta.accounts import FIRST_ACCOUNT
from app.sandbox.meta.state import COMPLETED, Question, Run, make_run, new_meta, poll_run, state_of
from tests.sandbox.client import END, START, Client, Reply, connected

ROOT = "/graph/v26.0"
FIELDS = "account_id,account_name,account_currency,campaign_id,campaign_name,impressions,clicks,actions,spend"
ACCOUNT = 4567


def bearer(user: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer EAAsandbox-{user}"}


def question(start: date = START, end: date = END, **changes: str) -> dict[str, str]:
    days = json.dumps({"since": start.isoformat(), "until": end.isoformat()})
    return {"level": "campaign", "time_increment": "1", "time_range": days, "fields": FIELDS} | changes


async def create(client: Client, form: Mapping[str, str], account: int = ACCOUNT, user: str = "alice") -> Reply:
    return await client.call("POST", f"{ROOT}/act_{account}/insights", headers=bearer(user), data=dict(form))


async def made(client: Client, form: Mapping[str, str] | None = None) -> str:
    answer = await create(client, form or question())
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"report_run_id"}
    return str(answer.json["report_run_id"])


async def get(client: Client, path: str, user: str = "alice", **query: Any) -> Reply:
    return await client.call("GET", f"{ROOT}/{path}", headers=bearer(user), params=query)


def code(answer: Reply) -> tuple[int, int, int | None]:
    error = answer.json["error"]
    assert set(error) >= {"message", "type", "fbtrace_id", "is_transient"}
    return answer.status, error["code"], error.get("error_subcode")


async def all_rows(client: Client, run: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    after, pages = "", 0
    while True:
        answer = (await get(client, f"{run}/insights", limit=limit, **({"after": after} if after else {}))).json
        rows += answer["data"]
        pages += 1
        assert len(answer["data"]) <= limit
        if "next" not in answer.get("paging", {}):
            return rows, pages
        after = answer["paging"]["cursors"]["after"]


def truth(sandbox: RunningSandbox) -> list[tuple[str, str, int, int, int, str]]:
    rows = sandbox.meta_truth(ACCOUNT, START, END)
    return [
        (row.day.isoformat(), str(row.campaign_id), row.impressions, row.clicks, row.purchases, f"{row.spend:.2f}")
        for row in rows
    ]


def read(row: Mapping[str, Any]) -> tuple[str, str, int, int, int, str]:
    purchases = [one["value"] for one in row.get("actions", []) if one["action_type"] == "purchase"]
    assert row["date_start"] == row["date_stop"]
    clicks = int(row.get("clicks", "0"))
    spend = f"{float(row.get('spend', '0')):.2f}"
    return row["date_start"], row["campaign_id"], int(row["impressions"]), clicks, int(*purchases or "0"), spend


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_rows_are_the_truth_on_any_pages(limit: int) -> None:
    async with connected() as (sandbox, client):
        run = await made(client)
        assert (await get(client, run)).json["async_status"] == "Job Completed"
        rows, pages = await all_rows(client, run, limit)
        assert [read(row) for row in rows] == truth(sandbox)
        assert pages == -(-len(rows) // limit)


async def test_everything_is_text_and_zero_is_left_out() -> None:
    async with connected(campaigns=40) as (_, client):
        run = await made(client)
        await get(client, run)
        rows, _ = await all_rows(client, run, 500)
    for row in rows:
        values = [value for name, value in row.items() if name != "actions"]
        values += [value for one in row.get("actions", []) for value in one.values()]
        assert all(isinstance(value, str) and value not in ("0", "0.00") for value in values)
    assert any("clicks" not in row for row in rows)
    assert any("actions" not in row for row in rows)
    bought = next(row["actions"] for row in rows if len(row.get("actions", [])) == 4)
    assert len({one["value"] for one in bought[1:]}) == 1, "one purchase under three names"


async def test_the_last_page_has_cursors_and_no_next_and_the_others_a_token_in_their_link() -> None:
    async with connected() as (sandbox, client):
        run = await made(client)
        await get(client, run)
        first = (await get(client, f"{run}/insights", limit=20)).json["paging"]
        assert set(first) == {"cursors", "next"}
        assert "access_token=EAAsandbox-alice" in first["next"]
        assert first["next"].startswith(sandbox.api_url)
        followed = await client.call("GET", first["next"])
        last = (await get(client, f"{run}/insights", limit=20, after=first["cursors"]["after"])).json
        assert followed.json == last
        assert set(last["paging"]) == {"cursors"}
        beyond = (await get(client, f"{run}/insights", after=last["paging"]["cursors"]["after"])).json
        assert beyond == {"data": []}
        assert not any("EAA" in repr(call) for call in sandbox.calls())


async def test_a_run_calls_itself_completed_before_it_is() -> None:
    async with connected(report_duration=Polls(20)) as (sandbox, client):
        run = await made(client)
        seen = [(await get(client, run)).json for _ in range(20)]
        shown = [(one["async_status"], one["async_percent_completion"]) for one in seen]
        assert shown[0] == ("Job Not Started", 0)
        assert [percent for _, percent in shown] == sorted(percent for _, percent in shown)
        assert list(dict.fromkeys(status for status, _ in shown)) == [
            "Job Not Started", "Job Started", "Job Running", "Job Completed",
        ]  # fmt: skip
        assert [percent for status, percent in shown if status == "Job Completed"] == [90, 95, 100]
        assert all(one["id"] == run and one["account_id"] == str(ACCOUNT) for one in seen)
        early = await made(client)
        await get(client, early)
        rows, _ = await all_rows(client, early, 1_000)
        assert 0 < len(rows) < len(truth(sandbox)), "what is there is shown, and nothing says that more will come"


@pytest.mark.parametrize(
    ("fault", "status"),
    [("failed_report", "Job Failed"), ("skipped_report", "Job Skipped"), ("stuck_report", "Job Running")],
)
async def test_runs_that_end_otherwise(fault: str, status: str) -> None:
    async with connected() as (sandbox, client):
        sandbox.faults.add("meta.create", fault, times=1)
        run = await made(client)
        answer = (await get(client, run)).json
        assert (answer["async_status"], answer["async_percent_completion"] == 100) == (status, False)
        said = (answer.get("error_code"), answer.get("error_subcode"))
        assert said == ((-2, 2490547) if fault == "failed_report" else (None, None))
        assert (await get(client, await made(client))).json["async_status"] == "Job Completed"


def a_run() -> Run:
    asked = Question(1, "account", START, END, frozenset())
    return make_run(new_meta(0, 5, Fixed(100.0)), "a", asked, COMPLETED, 1, 0.0)


@pytest.mark.parametrize(
    ("now", "shown"),
    [
        (0.0, ("Job Not Started", 0)),
        (9.9, ("Job Not Started", 0)),
        (10.0, ("Job Started", 10)),
        (20.0, ("Job Running", 20)),
        (89.9, ("Job Running", 89)),
        (90.0, ("Job Completed", 90)),
        (99.9, ("Job Completed", 99)),
        (100.0, ("Job Completed", 100)),
        (1e6, ("Job Completed", 100)),
    ],
)
def test_states_follow_from_the_time(now: float, shown: tuple[str, int]) -> None:
    assert state_of(a_run(), now) == shown


def test_polls_are_counted_in_the_state() -> None:
    state = new_meta(0, 5, Polls(2))
    run = make_run(state, "a", Question(1, "account", START, END, frozenset()), COMPLETED, 1, 0.0)
    assert [state_of(run := poll_run(state, run), 0.0)[1] for _ in range(3)] == [50, 100, 100]


async def test_what_a_run_shows_never_changes() -> None:
    async with connected() as (sandbox, client):
        old = await made(client)
        await get(client, old)
        before = truth(sandbox)
        body = {"provider": "meta", "ad_account_id": ACCOUNT, "start": str(START), "end": str(END)}
        assert (await client.call("POST", "/_sandbox/restate", json=body)).json == {"days": 7}
        await client.call("POST", "/_sandbox/figures", json={"provider": "meta", "campaigns": 6})
        new = await made(client)
        await get(client, new)
        assert [read(row) for row in (await all_rows(client, old, 100))[0]] == before
        assert [read(row) for row in (await all_rows(client, new, 100))[0]] == truth(sandbox) != before
        door = {"provider": "meta", "ad_account_id": str(ACCOUNT), "start": str(START), "end": str(END)}
        told = (await client.call("GET", "/_sandbox/truth", params=door)).json["rows"]
        assert len(told) == len(truth(sandbox))
        assert {(one["campaign_id"], one["spend"]) for one in told} == {(row[1], row[5]) for row in truth(sandbox)}


TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    "change",
    [
        {"level": "ad"},
        {"time_increment": "all_days"},
        {"fields": "campaign_id,reach_of_it"},
        {"level": "account"},
        {"time_range": "last_7d"},
        {"time_range": "[]"},
        {"time_range": '{"since": "2026-11-01"}'},
        {"time_range": '{"since": "2026-11-02", "until": "2026-11-01"}'},
        {"time_range": json.dumps({"since": str(months_before(TODAY, 38)), "until": str(TODAY)})},
    ],
)
async def test_questions_that_are_refused(change: dict[str, str]) -> None:
    async with connected() as (_, client):
        assert code(await create(client, question() | change)) == (400, 100, None)


async def test_what_is_not_there_and_what_is_anothers() -> None:
    async with connected() as (_, client):
        run = await made(client)
        assert code(await get(client, run, "bob")) == (400, 100, 33)
        assert code(await get(client, f"{run}/insights", "bob")) == (400, 100, 33)
        assert code(await get(client, "77")) == (400, 100, 33)
        assert code(await create(client, question(), account=0)) == (400, 100, 33)
        for wrong in ({"after": "x"}, {"after": "YWI6MQZD"}, {"limit": 0}, {"limit": 5_001}, {"limit": "many"}):
            assert code(await get(client, f"{run}/insights", **wrong)) == (400, 100, None)


async def test_accounts_come_in_pages() -> None:
    async with connected(advertisers=3) as (_, client):
        fields = "id,account_id,name,currency,timezone_name,account_status"
        first = (await get(client, "me/adaccounts", fields=fields, limit=4)).json
        rest = (await get(client, "me/adaccounts", fields=fields, after=first["paging"]["cursors"]["after"])).json
        listed = first["data"] + rest["data"]
        assert [one["account_status"] for one in listed] == [1, 1, 1, 2, 101]
        assert [one["id"] for one in listed] == [f"act_{FIRST_ACCOUNT + at}" for at in range(5)]
        assert set(listed[0]) == set(fields.split(","))
        assert ("next" in first["paging"], "next" in rest["paging"]) == (True, False)


def usage(answer: Reply) -> tuple[int, float, int, int, int]:
    """(call_count, acc_id_util_pct, minutes, seconds, percent of the insights throttle)"""
    (case,) = json.loads(answer.headers["X-Business-Use-Case-Usage"])[str(ACCOUNT)]
    score = json.loads(answer.headers["X-Ad-Account-Usage"])
    throttle = json.loads(answer.headers["x-fb-ads-insights-throttle"])
    assert case["type"] == "ads_insights"
    return (
        case["call_count"], score["acc_id_util_pct"], case["estimated_time_to_regain_access"],
        score["reset_time_duration"], throttle["acc_id_util_pct"],
    )  # fmt: skip


class Moved:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> Instant:
        return Instant(1_795_000_000 + self.seconds, self.seconds)


async def test_headers_rise_to_a_hundred_and_then_come_throttles_without_retry_after() -> None:
    clock = Moved()
    async with connected(clock=clock, enforce=True) as (sandbox, client):
        sandbox.set_quota("meta_insights_hour", 5)
        sandbox.set_quota("meta_score", 3)
        seen = [await get(client, "1")]  # of no account: a run that does not exist
        assert "X-Ad-Account-Usage" not in seen[0].headers
        asked = question(date(2026, 11, 1), date(2026, 11, 2))
        seen = [await create(client, asked) for _ in range(4)]
        assert [usage(one)[:2] for one in seen] == [(20, 33.33), (40, 66.66), (60, 100.0), (80, 100.0)]
        assert code(seen[3]) == (400, 17, 2446079)
        assert usage(seen[3])[3] == 300
        clock.seconds = 301.0
        fifth, sixth = await create(client, asked), await create(client, asked)
        assert (fifth.status, code(sixth)) == (200, (400, 80000, None))
        assert usage(sixth) == (100, 66.66, 55, 0, 100)
        assert not any("Retry-After" in one.headers for one in (*seen, fifth, sixth))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("429", (400, 80000, None)),
        ("429_retry_after", (400, 17, 2446079)),
        ("403_rate", (403, 4, 1504022)),
        ("403_user_rate", (400, 17, None)),
        ("403_daily", (400, 613, 1487742)),
        ("403_permission", (403, 200, None)),
        ("token_expired", (400, 190, 463)),
        ("revoked", (400, 190, 458)),
        ("internal", (200, 1, None)),
        ("500", (500, 2, 1504043)),
        ("less_data", (500, 1, None)),
    ],
)
async def test_faults_in_its_own_words(fault: str, told: tuple[int, int, int | None]) -> None:
    async with connected() as (sandbox, client):
        run = await made(client)
        sandbox.faults.add("meta.page", fault, times=1)
        assert code(await get(client, f"{run}/insights")) == told
        again = await get(client, f"{run}/insights")
        assert again.status == (400 if fault == "revoked" else 200)


async def test_a_reset_forgets_runs_and_not_their_numbers() -> None:
    async with connected() as (sandbox, client):
        run = await made(client)
        sandbox.reset()
        assert code(await get(client, run)) == (400, 100, 33)
        assert int(await made(client)) > int(run)


async def test_small_answers_come_without_a_run() -> None:
    async with connected(campaigns=6) as (sandbox, client):
        asked = question() | {"limit": "10"}
        first = await get(client, f"act_{ACCOUNT}/insights", **asked)
        assert first.status == 200
        assert "X-Business-Use-Case-Usage" in first.headers
        paging = first.json["paging"]
        assert "time_range=" in paging["next"]
        assert "access_token=EAAsandbox" in paging["next"]
        after = paging["cursors"]["after"]
        rest = await get(client, f"act_{ACCOUNT}/insights", **question(), limit="5000", after=after)
        assert "next" not in rest.json["paging"]
        run = await made(client)
        await get(client, run)
        by_run, _ = await all_rows(client, run, 500)
        assert first.json["data"] + rest.json["data"] == by_run
        sandbox.restate_meta(ACCOUNT, START, END)
        again = await get(client, f"act_{ACCOUNT}/insights", **question(), limit="5000")
        assert again.json["data"] != by_run, "no run keeps the figures of before"
        assert len(sandbox.world.meta.runs) == 1
        for path, level in ((f"act_{ACCOUNT}", "ad"), ("act_0", "campaign")):
            assert code(await get(client, f"{path}/insights", **question(level=level)))[:2] == (400, 100)


async def test_an_answer_without_a_run_may_be_too_much() -> None:
    async with connected(campaigns=3_000) as (_, client):
        assert code(await get(client, f"act_{ACCOUNT}/insights", **question())) == (500, 2, 1_504_038)
        assert (await get(client, f"act_{ACCOUNT}/insights", **question(end=START))).status == 200
