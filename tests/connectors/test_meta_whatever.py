"""Whatever Meta answers, it is read or refused: no member of any type breaks a step, and no cut answer passes."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.meta import headers as told
from app.connectors.meta import reports, rows
from app.connectors.meta.client import MetaConnector
from app.connectors.meta.errors import Reading, classify, read, run_failure
from app.connectors.meta.pages import Source, pages
from app.domain.errors import ProviderError
from app.ports import HttpAnswer
from tests.connectors.meta import COMPLETED, RUN, meta_offer, meta_row, page, refused

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""Whatever a member of an answer may turn out to be."""
HEADERS = ["x-app-usage", "x-ad-account-usage", "x-business-use-case-usage", "x-fb-ads-insights-throttle"]


def parsed(*found: dict[str, Any]) -> None:
    job = meta_offer()
    rows.parse(found, job, reports.columns(job), frozenset({"purchase"}))


NAMES = sorted(meta_row(1))


@given(st.sampled_from(NAMES), JSON_VALUES)
def test_whatever_a_member_is_the_row_is_read_or_refused(name: str, value: Any) -> None:
    with contextlib.suppress(ProviderError):
        parsed(meta_row(1) | {name: value})


@given(st.sampled_from(["action_type", "value"]), JSON_VALUES)
def test_whatever_an_action_is_the_row_is_read_or_refused(name: str, value: Any) -> None:
    with contextlib.suppress(ProviderError):
        parsed(meta_row(1, actions=[{"action_type": "purchase", "value": "1"} | {name: value}]))


def test_an_answer_that_is_cut_anywhere_is_none() -> None:
    body = orjson.dumps(page([meta_row(1), meta_row(2)], "MQ", more=True))
    Reading("page")(HttpAnswer(200, {}, body))
    for at in range(len(body)):
        with pytest.raises(ProviderError) as caught:
            Reading("page")(HttpAnswer(200, {}, body[:at]))
        assert caught.value.failure.code in ("truncated_body", "unreadable_answer")


ERROR_NAMES = [*refused(1, 1, is_transient=True)["error"], "error_user_msg"]


@given(st.sampled_from(ERROR_NAMES), JSON_VALUES, st.sampled_from([200, 400, 500]))
def test_whatever_a_member_of_a_refusal_is_it_is_one(name: str, value: Any, status: int) -> None:
    error = refused(1, 1)["error"] | {name: value}
    for call in ("create", "status", "page", "accounts"):
        classify(call, read(status, {"error": error}), {})
    run_failure({f"error_{name}": value, "error_code": value, "error_subcode": value, "error_user_msg": value})


@given(st.sampled_from(HEADERS), JSON_VALUES, st.sampled_from(["", "ads_insights", "call_count"]))
def test_whatever_a_header_holds_it_costs_nothing(header: str, value: Any, name: str) -> None:
    for held in (value, {name: value}, {"4567": [{"type": "ads_insights", name: value}]}):
        text = json.dumps(held)
        for usage in told.usage({header: text}):
            assert usage.percent is not None
            assert 0 <= usage.percent < 1e9
        for wait_s in (told.regain_s({header: text}, case="ads_insights"), told.score_reset_s({header: text})):
            assert wait_s is None or 0 < wait_s <= 86_400


class Said:
    """Calls that answer everything with one body."""

    def __init__(self, body: Any) -> None:
        self.answer = HttpAnswer(200, {}, json.dumps(body).encode())
        self.made, self.first_at = 0, None

    async def request(self, *_call: Any, check: Any, **_options: Any) -> HttpAnswer:
        check(self.answer)
        return self.answer


@given(st.sampled_from(["id", "account_id", "async_status", "async_percent_completion", "error_code"]), JSON_VALUES)
async def test_whatever_a_status_holds_it_is_read_or_refused(name: str, value: Any) -> None:
    for state in ({**COMPLETED}, {"async_status": "Job Failed"}):
        with contextlib.suppress(ProviderError):
            await MetaConnector().step(meta_offer(), Said({"id": RUN, **state, name: value}))  # type: ignore[arg-type]


@given(st.sampled_from(["data", "paging", "cursors", "after", "next", "row"]), JSON_VALUES)
async def test_whatever_a_page_holds_it_is_read_or_refused(name: str, value: Any) -> None:
    found = page([meta_row(1)], "MQ")
    place = {"cursors": found["paging"], "next": found["paging"], "after": found["paging"]["cursors"]}.get(name, found)
    place[name] = value
    if name == "row":
        found["data"] = [value]
    source = Source("https://x/", "insights", "page", 500, {}, 60)
    with contextlib.suppress(ProviderError):
        async for rows in pages(Said(found), source):  # type: ignore[arg-type]
            assert all(isinstance(row, dict) for row in rows)
    with contextlib.suppress(ProviderError):
        await MetaConnector().accounts(Said(found))  # type: ignore[arg-type]
