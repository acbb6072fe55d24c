"""Which query a fetch runs: one that was made before and is still ours, else a new one, and never more than that."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.dv360.client import Dv360Connector
from app.connectors.dv360.saved import KEPT_S
from app.domain.errors import Failure, ProviderError
from app.domain.messages import Offer
from app.ports import HttpAnswer, Running
from app.sandbox.dv360.state import Fixed
from tests.connectors.examples.dv360 import envelope
from tests.connectors.kept import Memory
from tests.connectors.rig import FIRST, LAST, SandboxFetch, rows_of, sandboxed, tokens_of
from tests.connectors.support import Tokens, facts, offer

RUN = re.compile(r"https://[^/]+/v2/queries/([0-9]+):run")
STATUS = re.compile(r"https://[^/]+/v2/queries/([0-9]+)/reports/([0-9]+)")
LOST = HttpAnswer(404, {}, envelope("NOT_FOUND"))
DENIED = HttpAnswer(403, {}, envelope("PERMISSION_DENIED"))


@dataclass
class Provider:
    """``ports.Calls`` that answer as Bid Manager does: a query is there for its maker alone. ``refusal`` is what others
    are told; ``instead`` answers every run in its place, and ``unmade`` every create."""

    user: str = "ana"
    refusal: HttpAnswer = LOST
    instead: HttpAnswer | None = None
    unmade: HttpAnswer | None = None
    state: str = "DONE"
    owners: dict[str, str] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    made: int = 0
    first_at: int | None = None
    log: list[str] = field(default_factory=list)

    async def request(self, method: str, url: str, *, charge: str, **options: Any) -> HttpAnswer:
        await asyncio.sleep(0)
        self.made += 1
        assert charge == "reports"
        if method == "GET":
            return self._status(url)
        self.bodies.append(options["json"])
        if url.endswith("/queries"):
            assert not options.get("data", False)
            self.log.append("create")
            if self.unmade is not None:
                return self.unmade
            query_id = str(100 + len(self.owners))
            self.owners[query_id] = self.user
            return _answer({"queryId": query_id})
        found = RUN.fullmatch(url)
        assert found is not None
        assert options["data"] is True, "the version of the data set is drawn with each call that may make the report"
        self.log.append("run")
        if self.instead is not None:
            return self.instead
        if self.owners.get(found[1]) != self.user:
            return self.refusal
        return _answer({"key": {"queryId": found[1], "reportId": str(self.made)}})

    def _status(self, url: str) -> HttpAnswer:
        found = STATUS.fullmatch(url)
        assert found is not None
        self.log.append("status")
        if self.owners.get(found[1]) != self.user:
            return LOST
        return _answer({"metadata": {"status": {"state": self.state}, "googleCloudStoragePath": "https://x.example/y"}})

    def stream(self, *_args: Any, **_options: Any) -> Any:
        raise AssertionError("nothing is downloaded here")

    def taken(self) -> list[str]:
        """The calls since it was last asked."""
        log, self.log = self.log, []
        return log


def _answer(content: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(200, {}, orjson.dumps(content))


async def begin(provider: Provider, kept: Memory | None, job: Offer | None = None, **settings: Any) -> Running:
    """The first step, by a worker that has just been started."""
    found = await Dv360Connector(kept=kept, **settings).step(job or offer("start"), provider)
    assert isinstance(found, Running)
    return found


async def refused(provider: Provider, kept: Memory, job: Offer | None = None) -> Failure:
    with pytest.raises(ProviderError) as caught:
        await Dv360Connector(kept=kept).step(job or offer("start"), provider)
    return caught.value.failure


async def test_other_days_run_the_same_query() -> None:
    provider, kept = Provider(), Memory()
    first = await begin(provider, kept)
    job = offer("start", start=offer().start + 40, end=offer().end + 41, batch_id="bat_" + "b" * 32, run=4)
    second = await begin(provider, kept, job)
    assert provider.taken() == ["create", "run", "run"]
    assert first.remote["query_id"] == second.remote["query_id"]
    assert first.remote["report_id"] != second.remote["report_id"]
    day = {"year": 2026, "month": 12}
    assert provider.bodies[-1] == {
        "dataRange": {
            "range": "CUSTOM_DATES",
            "customStartDate": {**day, "day": 11},
            "customEndDate": {**day, "day": 18},
        }
    }
    assert kept.lifetimes == [KEPT_S]


OTHERS: Mapping[str, Callable[[Offer], Offer]] = {
    "report type": lambda job: replace(job, report_type="account_performance"),
    "columns": lambda job: replace(job, fields=("media_cost",)),
    "account": lambda job: replace(job, connector=facts(account_id="4568")),
    "connector": lambda job: replace(job, connector=facts(connector_id="conn_" + "9" * 32)),
    "grant": lambda job: replace(job, connector=facts(grant_id="grant_" + "9" * 32)),
    "user": lambda job: replace(job, connector=facts(subject="bob")),
    "organisation": lambda job: replace(job, connector=facts(org_id=8)),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_asks_for_something_else_has_a_query_of_its_own(name: str) -> None:
    provider, kept, other = Provider(), Memory(), OTHERS[name](offer("start"))
    for job in (offer("start"), other, offer("start"), other):
        await begin(provider, kept, job)
    assert provider.taken() == ["create", "run", "create", "run", "run", "run"]
    assert len(kept.values) == 2


async def test_another_address_of_the_provider_has_queries_of_its_own() -> None:
    provider, kept = Provider(), Memory()
    await begin(provider, kept)
    await begin(provider, kept, reports_url="https://reports.example/v2/")
    assert provider.taken() == ["create", "run", "create", "run"]


@pytest.mark.parametrize("refusal", [LOST, DENIED], ids=["404", "403"])
async def test_a_query_of_another_user_is_forgotten_and_made_again_in_the_same_step(refusal: HttpAnswer) -> None:
    provider, kept = Provider(refusal=refusal), Memory()
    await begin(provider, kept)
    provider.user = "bob"
    assert (await begin(provider, kept)).remote["query_id"] == "101"
    await begin(provider, kept)
    assert provider.taken() == ["create", "run", "run", "create", "run", "run"]


async def test_a_query_that_is_not_ours_is_not_run_again_though_none_could_be_made() -> None:
    provider, kept = Provider(), Memory()
    await begin(provider, kept)
    provider.user, provider.unmade = "bob", HttpAnswer(429, {}, b"")
    assert (await refused(provider, kept)).throttle is not None
    provider.unmade = None
    await begin(provider, kept)
    assert provider.taken() == ["create", "run", "run", "create", "create", "run"]


async def test_a_step_makes_one_query_at_most() -> None:
    provider, kept = Provider(instead=LOST), Memory()
    failure = await refused(provider, kept)
    assert (failure.code, failure.retryable, failure.remote_lost) == ("report_lost", True, True)
    assert provider.taken() == ["create", "run"]
    await refused(provider, kept)
    assert provider.taken() == ["run", "create", "run"]


REFUSALS = (
    (429, b"", "rate_limited"),
    (403, envelope("RESOURCE_EXHAUSTED"), "rate_limited"),
    (403, orjson.dumps({"error": {"errors": [{"reason": "dailyLimitExceeded"}]}}), "daily_quota"),
    (403, orjson.dumps({"error": {"errors": [{"reason": "insufficientPermissions"}]}}), "insufficient_scope"),
    (401, b"", "token_rejected"),
    (400, envelope("INVALID_ARGUMENT"), "invalid_report"),
    (503, b"", "provider_unavailable"),
)


@pytest.mark.parametrize(("status", "body", "code"), REFUSALS)
async def test_other_refusals_make_no_query_and_leave_the_saved_one(status: int, body: bytes, code: str) -> None:
    provider, kept = Provider(), Memory()
    await begin(provider, kept)
    provider.instead = HttpAnswer(status, {}, body)
    assert (await refused(provider, kept)).code == code
    provider.instead = None
    await begin(provider, kept)
    assert provider.taken() == ["create", "run", "run", "run"]


async def test_a_query_whose_first_run_failed_is_run_by_the_next_try() -> None:
    provider, kept = Provider(instead=HttpAnswer(503, {}, b"")), Memory()
    assert (await refused(provider, kept)).code == "provider_unavailable"
    provider.instead = None
    await begin(provider, kept)
    assert provider.taken() == ["create", "run", "run"]


@pytest.mark.parametrize("value", [b"", b"../../secret", b"1:run?x=", b"\xff1", b"1" * 20])
async def test_what_is_no_id_is_not_sent(value: bytes) -> None:
    provider, kept = Provider(), Memory()
    await begin(provider, kept)
    kept.values = dict.fromkeys(kept.values, value)
    await begin(provider, kept)
    assert provider.taken() == ["create", "run", "create", "run"]


async def test_without_a_store_each_fetch_makes_a_query() -> None:
    provider, kept = Provider(), Memory()
    kept.away = True
    for store in (None, kept, None, kept):
        await begin(provider, store)
    assert provider.taken() == ["create", "run"] * 4


async def test_a_report_that_failed_or_is_lost_forgets_its_query_but_no_newer_one() -> None:
    provider, kept = Provider(), Memory()
    for state, code in (("FAILED", "report_failed"), ("LOST", "report_lost")):
        started = await begin(provider, kept)
        newer = await begin(provider, Memory())
        poll = offer("poll", remote=started.remote)
        provider.state = state
        provider.owners |= {started.remote["query_id"]: "nobody"} if state == "LOST" else {}
        failure = await refused(provider, kept, poll)
        assert (failure.code, failure.remote_lost) == (code, True)
        assert kept.values == {}
        (key,) = await _key(provider)
        kept.values[key] = newer.remote["query_id"].encode()
        await refused(provider, kept, poll)
        assert kept.values == {key: newer.remote["query_id"].encode()}
        kept.values.clear()


async def _key(provider: Provider) -> list[str]:
    own = Memory()
    await begin(provider, own)
    return list(own.values)


async def test_two_workers_at_once_do_no_harm() -> None:
    provider, kept = Provider(), Memory()
    both = await asyncio.gather(begin(provider, kept), begin(provider, kept))
    assert len({one.remote["report_id"] for one in both}) == 2
    after = await begin(provider, kept)
    assert after.remote["query_id"] in {one.remote["query_id"] for one in both}
    assert Counter(provider.taken()) == {"create": 2, "run": 3}


HAPPENINGS = st.one_of(
    st.tuples(st.just("fetch"), st.sampled_from(["campaign_performance", "account_performance"])),
    st.tuples(st.just("user"), st.sampled_from(["ana", "bob"])),
    st.tuples(st.just("delete"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["lose", "away", "back"]), st.none()),
)


@given(st.lists(HAPPENINGS, max_size=25), st.sampled_from([LOST, DENIED]))
def test_whatever_happened_a_fetch_makes_the_calls_it_must(
    happened: list[tuple[str, Any]], refusal: HttpAnswer
) -> None:
    asyncio.run(_compared(happened, refusal))


async def _compared(happened: list[tuple[str, Any]], refusal: HttpAnswer) -> None:
    """Against a model: per report type the last query that was kept, and which users' queries are there."""
    provider, kept, known = Provider(refusal=refusal), Memory(), dict[str, str]()
    for what, which in happened:
        if what == "fetch":
            saved = None if kept.away else known.get(which)
            alive = saved is not None and provider.owners.get(saved) == provider.user
            wanted = ["run"] if alive else [*(["run"] if saved else []), "create", "run"]
            begun = await begin(provider, kept, offer("start", report_type=which))
            assert provider.taken() == wanted
            assert provider.owners[begun.remote["query_id"]] == provider.user
            if not kept.away:
                known[which] = begun.remote["query_id"]
        elif what == "user":
            provider.user = which
        elif what == "delete":
            provider.owners |= {str(100 + which): "nobody"} if str(100 + which) in provider.owners else {}
        elif what == "lose":
            kept.values.clear()
            known.clear()
        else:
            kept.away = what == "away"


fetching = partial(sandboxed, "DV360", enforce=False)


def start(days: int = 0, **changes: Any) -> Offer:
    ends = (one - timedelta(days=days) for one in (FIRST, LAST))
    known = dict(zip(("start", "end"), (one.toordinal() for one in ends), strict=True))
    return offer("start", **known, batch_id=f"bat_{days:032x}", **changes)


def routes(fetch: SandboxFetch) -> list[tuple[str, int | None]]:
    found = [(call.route, call.status) for call in fetch.sandbox.calls() if call.provider == "dv360"]
    return [(route.removeprefix("reports."), status) for route, status in found if route.startswith("reports.")]


async def test_the_rows_are_those_of_the_days_that_were_asked_for(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.kept = Memory()
        for days, calls in ((0, 3), (30, 2), (7, 2)):
            before = len(routes(fetch))
            rows = rows_of(await fetch.run(start(days)))
            first, last = FIRST - timedelta(days=days), LAST - timedelta(days=days)
            assert {(row["date"], row["campaign_id"], row["impressions"]) for row in rows} == {
                (row.day, str(row.campaign_id), row.impressions) for row in fetch.sandbox.truth(4567, first, last)
            }
            assert {row["date"] for row in rows} == {first + timedelta(days=n) for n in range(7)}
            assert len(routes(fetch)) - before == calls
        assert [name for name, _ in routes(fetch)].count("create") == 1


async def test_the_provider_hides_queries_of_other_users_and_the_step_makes_its_own(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.kept = Memory()
        await fetch.run(start())
        fetch.tokens = Tokens(await tokens_of("DV360", fetch.sandbox, user="bob"))
        assert (await fetch.run(start(1))).file is not None
        assert (await fetch.run(start(2))).file is not None
        own = [("create", 200), ("run", 200), ("status", 200)]
        assert routes(fetch) == [*own, ("run", 404), *own, ("run", 200), ("status", 200)]
        assert {report["user"] for report in fetch.sandbox.reports()} == {"ana", "bob"}


async def test_a_report_under_way_for_another_user_stays_lost(tmp_path: Path) -> None:
    async with fetching(tmp_path, report_duration=Fixed(60.0)) as fetch:
        fetch.kept = Memory()
        started = await fetch.step(start())
        fetch.tokens = Tokens(await tokens_of("DV360", fetch.sandbox, user="bob"))
        polled = await fetch.step(replace(start(), step="poll", remote=started.remote))
        assert polled.failure is not None
        assert (polled.failure.code, polled.failure.remote_lost) == ("report_lost", True)
        assert (await fetch.step(start())).remote is not None
        assert [name for name, _ in routes(fetch)] == ["create", "run", "status", "create", "run"]
