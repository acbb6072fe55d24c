"""Pages of requests against a slow, obvious model: what is stored and held, the newer of each, each request once."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.messages import RequestView
from app.ports import PageKey, Wanted
from app.services.listing import ROUNDS, key, page
from app.streams import request_index
from app.streams.request_index import RequestIndex
from app.testing.rest import FakeRequestViews, newest_of

STATES = ["queued", "failed"]
CONNECTORS = ["conn_" + digit * 32 for digit in "12"]


def view(number: int, **changes: Any) -> RequestView:
    """Request ``number``; several are accepted in one millisecond."""
    given: dict[str, Any] = {
        "request_id": f"req_{number * 7919 % 101:032x}", "org_id": 1 + number % 5 // 4,
        "connector_id": CONNECTORS[number % 2], "connector_type": "DV360", "report_type": "r", "start": 1, "end": 1,
        "fields": (), "priority_class": 2, "state": "queued", "accepted_at": 1_000 + number // 3, "revision": 1,
        "body_hash": "-",
    }  # fmt: skip
    return RequestView(**(given | changes))


def version(number: int, told: tuple[int, str] | None) -> list[RequestView]:
    return [] if told is None else [view(number, revision=told[0], state=told[1])]


Version = st.none() | st.tuples(st.integers(1, 3), st.sampled_from(STATES))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(Version, Version), max_size=40),
    st.integers(1, 4),
    st.sampled_from([None, *STATES]),
    st.sampled_from([None, *CONNECTORS]),
)
def test_all_pages_together_are_what_the_model_lists(
    told: list[tuple[tuple[int, str] | None, tuple[int, str] | None]],
    limit: int,
    status: str | None,
    connector_id: str | None,
) -> None:
    views, known = FakeRequestViews(), dict[str, RequestView]()
    for number, (stored, held) in enumerate(told):
        # What is held follows the topic that is stored from, and is never behind it.
        ahead = held is not None and stored is not None and stored[0] >= held[0]
        older, newer = version(number, held if ahead else stored), version(number, held)
        views.stored.update({one.request_id: one for one in older})
        views.views.update({one.request_id: one for one in newer})
        known.update({one.request_id: one for one in (*older, *newer)})
    expected = newest_of(known, Wanted(1, status, connector_id), None, 100)

    async def walk() -> list[RequestView]:
        found: list[RequestView] = []
        before: PageKey | None = None
        for _ in range(100):
            got = await page(views, Wanted(1, status, connector_id), before, limit)
            assert len(got.views) <= limit
            found += got.views
            if got.after is None:
                return found
            assert before is None or got.after < before
            before = got.after
        raise AssertionError("the pages do not end")

    assert asyncio.run(walk()) == expected


@pytest.mark.parametrize("held_alone", [(2,), (2, 1)])
async def test_a_page_goes_no_further_than_both_sides_are_known(held_alone: tuple[int, ...]) -> None:
    """Of the newest stored all have moved on; the next stored lies between them and what is only held."""
    views = FakeRequestViews()
    moved, stored, held = (7, 6, 5), view(4, org_id=1), [view(n, org_id=1) for n in held_alone]
    views.stored = {one.request_id: one for one in (stored, *(view(n, org_id=1) for n in moved))}
    views.views = {one.request_id: one for one in held}
    views.views |= {one.request_id: one for one in (view(n, org_id=1, revision=2, state="failed") for n in moved)}
    expected = sorted([stored, *held], key=key, reverse=True)
    assert (await page(views, Wanted(1, "queued"), None, 1)).views == expected[:1]
    assert (await page(views, Wanted(1, "queued"), key(expected[0]), 2)).views == expected[1:]


async def test_a_page_that_cannot_be_filled_goes_on_where_it_ends() -> None:
    """Everything stored as queued has ended since; only the oldest waits."""
    views = FakeRequestViews()
    numbers = range(1, 101)
    views.stored = {one.request_id: one for one in (view(n, org_id=1) for n in numbers)}
    views.views = {one.request_id: one for one in (view(n, org_id=1, revision=2, state="failed") for n in numbers[1:])}
    got = await page(views, Wanted(1, "queued"), None, 2)
    assert got.views == []
    assert got.after == sorted(map(key, views.stored.values()), reverse=True)[3 * ROUNDS - 1]


Step = st.tuples(st.integers(0, 30), st.sampled_from(["put", "put", "drop", "ask"]), st.sampled_from(STATES))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(Step, max_size=120),
    st.none() | st.integers(0, 30),
    st.sampled_from([None, *STATES]),
    st.sampled_from([None, *CONNECTORS]),
)
def test_the_index_is_what_a_sorted_list_would_be(
    steps: list[tuple[int, str, str]], at: int | None, status: str | None, connector_id: str | None
) -> None:
    index, model = RequestIndex(), dict[str, RequestView]()
    before = None if at is None else key(view(at))
    wanted = Wanted(1, status, connector_id)
    # So few that every way of sorting in and of clearing up is taken.
    with patch.object(request_index, "FEW", 2):
        for number, what, state in steps:
            one = view(number, state=state)
            if what == "put":
                index.put(one.request_id, one.org_id, one.accepted_at, one.state, one.connector_id)
                model[one.request_id] = one
            elif what == "drop":
                index.drop(one.request_id)
                model.pop(one.request_id, None)
            else:
                found = newest_of(model, wanted, before, 100)
                assert list(index.newest(wanted, before)) == [one.request_id for one in found]
