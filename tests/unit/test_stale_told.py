"""What REST, the command line and metrics say of an open circuit and of a stale answer."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain import board
from app.domain.errors import PermitDenied
from app.domain.messages import Answer, Ask, Offer, Returned
from app.ports import Ended
from app.services.explain import story
from app.services.explain_plan import planned
from app.services.status import fetch_body, instant, status_body
from app.streams import internal
from app.streams.kafka import Record
from app.streams.ownership import Owner
from app.streams.permits import PermitDesk
from app.streams.planner_metrics import PlannerMetrics
from app.telemetry.metrics import PREFIX, Metrics
from app.testing.clock import FakeClock
from app.testing.planning import NOW, TODAY, accept, facts, request_id
from app.testing.planning_play import Play
from tests.unit.test_stale import DAY_MS, FIRST, LAST, held, later, open_it, view_of


def answered() -> tuple[Play, dict[str, Any], dict[str, Any]]:
    """A stale answer as POST and as GET tell it."""
    play = held()
    open_it(play)
    view = view_of(play.tell(later(play, 2), after_ms=1_500), 2)
    return play, fetch_body(request_id(2), view), status_body(view)


def test_rest_tells_how_old_it_is_and_when_the_provider_is_tried_again() -> None:
    play, posted, got = answered()
    assert posted["status"] == got["status"] == "completed"
    assert posted["result"] == got["result"]
    told = {name: got["result"][name] for name in ("stale", "as_of", "age_seconds", "retry_at", "message")}
    assert told == {
        "stale": True,
        "as_of": instant(NOW),
        "age_seconds": DAY_MS // 1000 + 1,
        "retry_at": instant(play.circuit.retry_at),
        "message": "Data may be stale",
    }


def test_a_fresh_answer_makes_no_such_claim() -> None:
    play = held()
    got = status_body(view_of(play.tell(later(play, 2, max_age_s=2 * 86_400)), 2))
    assert got["result"]["stale"] is False
    assert not {"message", "age_seconds", "retry_at"} & set(got["result"])
    queued = view_of(play.tell(later(play, 3)), 3)
    assert "result" not in fetch_body(request_id(3), queued)


def test_its_story_says_why_and_how_old() -> None:
    play, _, got = answered()
    sentences = [sentence.text for sentence in story(got, play.state.now)]
    assert any("served from what was held" in text and "may be stale" in text for text in sentences), sentences


def test_a_dry_run_tells_what_would_happen() -> None:
    play = held()
    open_it(play)
    plan = board.plan(play.state, later(play, 2), play.state.now)
    assert plan.outcome == "stale"
    body = {"outcome": plan.outcome, "days": {"asked": 3, "held": 0, "running": 0, "to_fetch": 3}, "calls": {}}
    assert any("served at once" in text for text in planned(body, play.state.now))
    plan = board.plan(play.state, later(play, 2, FIRST - 1, LAST), play.state.now)
    assert (plan.outcome, plan.waiting) == ("queue", {"reason": "circuit_open", "until": play.circuit.retry_at})
    assert plan.wait.p50_s >= 30
    assert board.plan(play.state, later(play, 2, connector=facts(2)), play.state.now).waiting is None


def test_the_gauge_counts_accounts_whose_circuit_is_not_closed() -> None:
    play, metrics, clock = held(), Metrics(), FakeClock()
    owners = {0: Owner(0, play.state, ready=True, stepped_at=clock.monotonic())}
    PlannerMetrics(metrics, owners, monotonic=clock.monotonic)

    def seen() -> list[float | None]:
        clock.advance(1.0)
        metrics.exposition("")
        read = metrics.registry.get_sample_value
        return [read(PREFIX + "circuit_state", {"connector_type": "DV360", "state": s}) for s in ("open", "half_open")]

    assert seen() == [0, 0]
    open_it(play)
    owners[0].stepped_at = clock.monotonic()
    assert seen() == [1, 0]
    clock.advance(30.0)
    assert seen() == [0, 1]


class Inbox:
    """Keeps what a desk sends, and answers each ask as told."""

    def __init__(self, denied: str | None, retry_at: int | None) -> None:
        self.denied, self.retry_at = denied, retry_at
        self.sent: list[Any] = []
        self.desk: PermitDesk | None = None

    async def send(self, records: Any) -> None:
        for record in records:
            assert isinstance(record, Record)
            message = internal.load(record.value)
            self.sent.append(message)
            if isinstance(message, Ask) and self.desk is not None:
                self.desk.on_answer(Answer(message.ask_id, "w", self.denied, self.retry_at))


def desk_of(denied: str | None = None, retry_at: int | None = None) -> tuple[PermitDesk, Inbox]:
    inbox = Inbox(denied, retry_at)
    clock = FakeClock()
    desk = PermitDesk(inbox, "inbox", "w", clock, 10.0, lambda: NOW)  # type: ignore[arg-type]
    inbox.desk = desk
    return desk, inbox


def offer() -> Offer:
    play = Play()
    return play.tell(accept(1, TODAY, TODAY)).offers[0]


async def test_a_worker_hears_of_the_circuit_and_until_when() -> None:
    desk, _ = desk_of("circuit", NOW + 30_000)
    with pytest.raises(PermitDenied) as denied:
        await desk.of(offer()).take("reports")
    assert (denied.value.reason, denied.value.retry_in_s) == ("circuit", 30.0)


async def test_a_worker_tells_how_its_calls_have_ended() -> None:
    desk, inbox = desk_of()
    permits = desk.of(offer())
    ends = [Ended(5, ok=True), Ended(6, ok=True, neutral=True), Ended(7, ok=False, error="http_503"), None]
    names = []
    for ended in ends:
        permit = await permits.take("reports")
        names.append(permit.ask_id)
        permits.give_back(permit, ended)
    await desk.flush()
    (told,) = [m for m in inbox.sent if isinstance(m, Returned)]
    assert told.ask_ids == tuple(names)
    assert told.ends == ((names[0], 5, 1), (names[1], 6, 2), (names[2], 7, 0))
    assert told.errors == ((names[2], "http_503"),)


def test_an_older_workers_return_has_no_errors() -> None:
    old = b'{"k":"Returned","v":{"ask_ids":["a"],"ends":[["a",10,0]]}}'
    assert internal.load(old) == Returned(("a",), (("a", 10, 0),))
