"""What a worker holds of the followed topics: requests and connectors by organisation, and who waits for an end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.messages import RequestView
from app.domain.model import ConnectorFacts
from app.ports import PageKey, ViewUnavailable, Wanted
from app.streams import follower as module
from app.streams import internal
from app.streams.follower import Follower
from app.streams.kafka import Broker
from app.streams.topics import Names
from app.streams.views import WorkerConnectors, WorkerViews
from app.testing import planning
from app.testing.rest_world import CONNECTOR, ORG, OTHER_ORG, queued

NAMES = Names("connector")


@pytest.fixture
def follower() -> Follower:
    return Follower(Broker("-"), NAMES, lambda _answer: None)


def tell(follower: Follower, topic: str, key: str, row: Any) -> None:
    follower._take(topic, SimpleNamespace(key=key.encode(), value=internal.dump_row(row), offset=0))


def view(number: int, **changes: Any) -> RequestView:
    return replace(queued(1_000), request_id=planning.request_id(number), **({"accepted_at": 1_000 + number} | changes))


def show(follower: Follower, *views: RequestView) -> None:
    for one in views:
        tell(follower, NAMES.requests, one.request_id, one)


def listed(follower: Follower, before: PageKey | None = None, limit: int = 9, **filters: str) -> list[int]:
    """Numbers of the organisation's requests."""
    found = follower.newest(Wanted(ORG, **filters), before, limit)
    return [int(one.request_id[4:], 16) for one in found]


def test_live_and_closed_requests_are_listed_together_and_newest_first(follower: Follower) -> None:
    show(follower, view(2), view(1, state="completed"), view(4, org_id=OTHER_ORG), view(3), view(5, accepted_at=1_003))
    assert listed(follower) == [5, 3, 2, 1]
    assert listed(follower, limit=2) == [5, 3]
    assert listed(follower, (1_003, planning.request_id(5))) == [3, 2, 1]
    assert listed(follower, (1_003, planning.request_id(0))) == [2, 1]
    assert follower.newest(Wanted(99), None, 9) == []


def test_filters_follow_every_move(follower: Follower) -> None:
    show(follower, view(1), view(2, connector_id="conn_" + "9" * 32), view(1, state="running", revision=2))
    assert listed(follower, status="running") == [1]
    assert listed(follower, status="queued") == [2]
    assert listed(follower, connector_id=CONNECTOR) == [1]
    show(follower, view(1, state="failed", revision=3))
    assert (listed(follower, status="running"), listed(follower, status="failed")) == ([], [1])
    assert follower.newest(Wanted(ORG, "failed"), None, 1)[0].revision == 3


def test_what_is_held_no_longer_is_not_listed(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSED_KEPT", 2)
    show(follower, view(9), *(view(number, state="completed") for number in (1, 2, 3, 4)))
    assert listed(follower) == [9, 4, 3]
    tell(follower, NAMES.requests, planning.request_id(9), None)
    assert listed(follower) == [4, 3]
    # Read again from the start, as after a broken connection.
    show(follower, view(9), *(view(number, state="completed") for number in (1, 2, 3, 4)))
    assert listed(follower) == [9, 4, 3]


def test_an_unreadable_record_leaves_what_is_known(follower: Follower) -> None:
    show(follower, view(1))
    for value in (b"{}", b"[]", b"{", b'{"org_id":"x","accepted_at":1,"state":"s","connector_id":"c"}'):
        record = SimpleNamespace(key=planning.request_id(1).encode(), value=value, offset=1)
        follower._take(NAMES.requests, record)
    assert listed(follower) == [1]


async def test_waiting_for_the_end_is_not_ended_by_a_move(follower: Follower) -> None:
    show(follower, view(1))
    first = asyncio.create_task(follower.next_view(planning.request_id(2), 1.0))
    ended = asyncio.create_task(follower.ended_view(planning.request_id(1), 1.0))
    await asyncio.sleep(0)
    show(follower, view(1, state="running", revision=2), view(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (ended.done(), (await first or view(0)).request_id) == (False, planning.request_id(2))
    show(follower, view(1, state="cancelled", revision=3))
    found = await ended
    assert found is not None
    assert (found.state, found.revision) == ("cancelled", 3)
    assert await follower.ended_view(planning.request_id(1), 1.0) == found
    assert await follower.ended_view(planning.request_id(2), 0.01) is None
    assert follower._waiters == {}


def facts(number: int, **changes: Any) -> ConnectorFacts:
    return planning.facts(number, **({"org_id": ORG} | changes))


class Store:
    """PostgreSQL, away or not."""

    def __init__(self, *facts: ConnectorFacts, away: bool = False) -> None:
        self.facts, self.away = facts, away

    async def find(self, _id: str) -> ConnectorFacts | None:
        raise AssertionError("nobody asks for one")

    async def list_for(self, _org_id: int) -> list[ConnectorFacts]:
        if self.away:
            raise ConnectionError
        return list(self.facts)


async def test_connectors_of_an_organisation_come_from_the_replica(follower: Follower) -> None:
    follower.caught_up.set()
    connectors = WorkerConnectors(follower, Store(away=True))
    for one in (facts(3), facts(1), facts(2, org_id=OTHER_ORG), facts(4)):
        tell(follower, NAMES.connectors, one.connector_id, one)
    assert await connectors.of(ORG) == [facts(1), facts(3), facts(4)]
    tell(follower, NAMES.connectors, facts(3).connector_id, facts(3, deleted=True))
    tell(follower, NAMES.connectors, facts(1).connector_id, facts(1, status="paused"))
    tell(follower, NAMES.connectors, facts(4).connector_id, None)
    assert await connectors.of(ORG) == [facts(1, status="paused")]
    tell(follower, NAMES.connectors, facts(1).connector_id, facts(1, org_id=OTHER_ORG))
    assert (await connectors.of(ORG), await connectors.of(99)) == ([], [])


async def test_before_the_replica_is_read_postgresql_says_it(follower: Follower) -> None:
    assert await WorkerConnectors(follower, Store(facts(2), facts(1))).of(ORG) == [facts(1), facts(2)]
    with pytest.raises(ViewUnavailable):
        await WorkerConnectors(follower, Store(away=True)).of(ORG)


async def test_stored_pages_come_from_the_history_or_not_at_all(follower: Follower) -> None:
    asked: list[Any] = []

    async def page(*given: Any) -> list[RequestView]:
        asked.append(given)
        if len(asked) > 1:
            raise ConnectionError
        return [view(1)]

    history: Any = SimpleNamespace(page=page)
    views = WorkerViews(follower, history)
    given = (Wanted(ORG, "queued", CONNECTOR), (5, "req_"), 3)
    assert await views.page(*given) == [view(1)]
    assert asked == [given]
    with pytest.raises(ViewUnavailable):
        await views.page(Wanted(ORG), None, 3)
    show(follower, view(2))
    assert views.newest(Wanted(ORG), None, 3) == [views.held(planning.request_id(2))]
