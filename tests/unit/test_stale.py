"""Answers from earlier results while an account's circuit is open, and the refresh that stays behind."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain import planner, stale
from app.domain.breaker import Phase
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Accept, Cancel, RequestView
from app.domain.rows import Batch
from app.domain.state import Changes, restore
from app.testing.planning import NOW, TODAY, accept, facts, request_id, result_of
from app.testing.planning_play import ACCOUNT, FAILED, NEUTRAL, OK, Play

DAY_MS = 86_400_000
FIRST, LAST = TODAY - 2, TODAY
"""Days that change at the provider for a while: what was read of them yesterday is old."""
COLUMN = "reach"


def held() -> Play:
    """A reading of ``FIRST`` to ``LAST`` with ``reach``, a day ago; requests come at ``play.state.now``."""
    play = Play()
    play.tell(accept(1, FIRST, LAST, fields=(COLUMN,)))
    (offer,) = play.offers.values()
    play.call(offer, OK)
    play.hand_back(offer, file=result_of(offer))
    play.tell(after_ms=DAY_MS)
    play.events.clear()
    play.offers.clear()
    return play


def later(play: Play, number: int, start: int = FIRST, end: int = LAST, **changes: Any) -> Accept:
    return accept(number, start, end, accepted_at=play.state.now, **changes)


def near_the_windows_end() -> Play:
    """What comes ten seconds later cannot join what waits now."""
    play = held()
    play.tell(after_ms=play.rule.window_ms - 10_000)
    return play


def open_it(play: Play, number: int = 90) -> Changes:
    """By a request for days of long ago, which stays at it."""
    play.tell(later(play, number, TODAY - 90, TODAY - 90))
    offer = list(play.offers.values())[-1]
    last = Changes()
    for _ in range(5):
        last = play.end(play.granted(offer), FAILED)
    assert play.phase() is Phase.OPEN
    return last


def close_it(play: Play) -> None:
    """Whoever may probe does, and its calls are answered."""
    play.wait(max(0, play.circuit.retry_at - play.state.now))
    offer = play.offers[play.state.probing[ACCOUNT][0]]
    play.call(offer, OK)
    play.call(offer, OK)
    assert play.phase() is Phase.CLOSED


def view_of(changes: Changes, number: int) -> RequestView:
    view = changes.views[request_id(number)]
    assert view is not None
    return view


def refreshes(play: Play) -> list[Batch]:
    return [b for b in play.state.batches.values() if b.refresh]


def answers(play: Play) -> list[dict[str, Any]]:
    return [e.data for e in play.events if e.type == "data_fetched" and e.data["stale"]]


def test_a_request_that_comes_while_it_is_open_is_answered_at_once_from_what_is_held() -> None:
    play = held()
    open_it(play)
    changes = play.tell(later(play, 2, priority_class=1, labels={"a": "b"}))
    (event,) = [e for e in changes.events if e.type == "data_fetched"]
    assert (event.request_id, event.labels) == (request_id(2), {"a": "b"})
    told = {name: event.data[name] for name in ("stale", "as_of", "dataset_version", "records_fetched", "date_range")}
    days = {"start": "2026-03-08", "end": "2026-03-10"}
    assert told == {"stale": True, "as_of": NOW, "dataset_version": 1, "records_fetched": 6, "date_range": days}
    assert (event.data["provider_calls"], event.data["cost"], event.data["attempts"]) == (0, "0.0000", 0)
    view = view_of(changes, 2)
    assert (view.state, view.progress, view.waiting) == ("completed", 100, None)
    assert view.result is not None
    assert (view.result["stale"], view.result["as_of"]) == (True, NOW)
    assert view.result["retry_at"] == play.circuit.retry_at


def test_its_refresh_stays_queued_in_class_four_and_is_announced_and_paid_by_nobody() -> None:
    play = held()
    open_it(play)
    play.tell(later(play, 2, priority_class=1))
    (row,) = refreshes(play)
    assert (row.members, row.priority_class, row.state, row.start, row.end) == ((), 4, "queued", FIRST, LAST)
    assert row.batch_id in play.state.queue
    close_it(play)
    offer = play.offers[row.batch_id]
    play.call(offer, OK)
    play.events.clear()
    changes = play.hand_back(offer, file=result_of(offer, reading="anew"))
    assert [e.type for e in changes.events] == ["dataset_updated"]
    assert changes.events[0].data["reason"] == "restated"
    assert row.batch_id not in play.state.batches
    assert play.tell(later(play, 3)).events[0].data["stale"] is False, "it is fresh now"


def test_a_refresh_lives_through_hand_backs_polls_lost_workers_and_a_new_owner() -> None:
    play = held()
    open_it(play)
    play.tell(later(play, 2))
    (row,) = refreshes(play)
    play.move()
    assert [b.batch_id for b in refreshes(play)] == [row.batch_id]
    close_it(play)
    offer = play.offers[row.batch_id]
    play.hand_back(offer)
    play.wait(5_000)
    play.hand_back(play.offers[row.batch_id], remote={"report": "1"})
    play.wait(5_000)
    assert play.offers[row.batch_id].step == "poll"
    play.tell(after_ms=play.rule.lease_ms + 1)
    assert play.batch(offer).state == "leased"
    play.hand_back(play.offers[row.batch_id], file=result_of(offer))
    assert play.told("dataset_updated")


def test_requests_that_wait_when_it_opens_are_answered_and_those_that_need_more_wait_on() -> None:
    play = held()
    block = [later(play, 50 + n, TODAY - 60 - n, TODAY - 60 - n) for n in range(9)]  # half of all slots, less one
    play.tell(*block)
    changes = play.tell(later(play, 80, TODAY - 80, TODAY - 80), later(play, 2), later(play, 3, FIRST - 1, LAST))
    assert not [e for e in changes.events if e.type == "data_fetched"]
    assert [r.state for r in play.state.requests.values()].count("queued") == 2
    offer = play.offers[next(iter(play.state.leases))]
    for _ in range(5):
        play.call(offer, FAILED)
    assert [e.request_id for e in play.events if e.type == "data_fetched"] == [request_id(2)]
    assert play.state.requests[request_id(3)].state == "queued"
    (row,) = refreshes(play)
    assert row.members == (request_id(3),), "they shared a batch, which goes on for the other"


def test_one_whose_step_is_handed_back_while_it_is_open_is_answered_then() -> None:
    play = held()
    play.tell(later(play, 2))
    (offer,) = play.offers.values()
    open_it(play)
    assert answers(play) == []
    answer = play.ask(offer)
    assert answer is not None
    assert answer.denied == "circuit"
    play.hand_back(offer)
    assert len(answers(play)) == 1
    row = play.batch(offer)
    assert (row.members, row.refresh, row.state, row.priority_class) == ((), True, "queued", 4)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("a day is missing", {"start": FIRST - 1}),
        ("a column is missing", {"fields": ("views",)}),
        ("it forces a fresh fetch", {"force": True}),
        ("another account", {"connector": facts(2)}),
    ],
)
def test_who_is_not_answered_so(what: str, changes: dict[str, Any]) -> None:
    play = held()
    open_it(play)
    given = {"start": FIRST, "end": LAST} | changes
    play.tell(later(play, 2, **given))
    assert answers(play) == [], what
    assert request_id(2) in play.state.requests
    assert refreshes(play) == []


def test_what_is_young_enough_is_reused_as_ever_and_so_is_everything_while_it_is_closed() -> None:
    play = held()
    assert play.tell(later(play, 2)).offers, "closed: fetched anew"
    play = held()
    open_it(play)
    (event,) = play.tell(later(play, 2, max_age_s=2 * 86_400)).events
    assert event.data["stale"] is False
    assert refreshes(play) == []


def test_half_open_is_still_open() -> None:
    play = held()
    open_it(play)
    play.tell(after_ms=play.rule.breaker.recovery_ms)
    assert play.phase() is Phase.HALF_OPEN
    play.tell(later(play, 2))
    assert len(answers(play)) == 1


def test_a_request_that_would_attach_to_a_running_report_is_answered_and_the_report_goes_on() -> None:
    play = held()
    play.tell(later(play, 2))
    (offer,) = play.offers.values()
    play.hand_back(offer, remote={"report": "1"})
    open_it(play)
    play.tell(later(play, 3))
    assert len(answers(play)) == 1
    assert play.batch(offer).members == (request_id(2),)
    gone = Cancel(request_id(2), facts().org_id, facts().connector_id)
    play.tell(gone)
    close_it(play)
    assert play.offers[offer.batch_id].step == "poll", "its own member has left; who was answered stale counts"


def test_a_step_that_nobody_but_a_stale_answer_wants_goes_on_in_class_four() -> None:
    play = held()
    play.tell(later(play, 2, priority_class=1))
    (offer,) = play.offers.values()
    open_it(play)
    play.tell(later(play, 3), Cancel(request_id(2), facts().org_id, facts().connector_id))
    assert len(answers(play)) == 1
    play.hand_back(offer)
    row = play.batch(offer)
    assert (row.state, row.members, row.priority_class) == ("queued", (), 4)


def test_a_request_that_is_under_way_with_another_part_waits_on() -> None:
    play = held()
    play.tell(later(play, 2, FIRST + 1, FIRST + 1, force=True))
    (offer,) = play.offers.values()
    play.hand_back(offer, file=result_of(offer))
    play.tell(*(later(play, 50 + n, TODAY - 60 - n, TODAY - 60 - n) for n in range(8)))
    blocker = next(iter(play.offers.values()))
    play.tell(later(play, 3), later(play, 80, TODAY - 99, TODAY - 99, priority_class=1))
    request = play.state.requests[request_id(3)]
    assert sorted(play.state.batches[p].state for p in request.parts) == ["leased", "queued"]
    blocker = play.offers[next(iter(play.state.leases))]
    for _ in range(5):
        play.call(blocker, FAILED)
    assert answers(play) == []
    assert play.state.requests[request_id(3)].state == "running"


def test_a_batch_that_another_waits_for_is_no_refresh_on_whom_one_can_rely() -> None:
    """Whoever wants it may leave."""
    play = near_the_windows_end()
    open_it(play)
    play.tell(later(play, 2, force=True, priority_class=1))
    play.tell(after_ms=15_000)
    play.tell(later(play, 3))
    assert len(refreshes(play)) == 1


def test_members_that_are_tried_alone_are_no_refresh() -> None:
    play = held()
    open_it(play)
    play.tell(later(play, 2), later(play, 3, FIRST - 1, LAST))
    (row,) = refreshes(play)
    close_it(play)
    refused = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No.", retryable=False)
    play.hand_back(play.offers[row.batch_id], failure=refused)
    assert [b.alone for b in play.state.batches.values() if b.members == (request_id(3),)] == [True]
    assert refreshes(play) == []


def test_in_a_long_outage_each_window_leaves_no_refresh_of_its_own() -> None:
    play = held()
    open_it(play)
    for n in range(2, 12):
        play.tell(later(play, n), after_ms=play.rule.window_ms)
    assert len(answers(play)) == 10
    assert len(refreshes(play)) == 1
    play.tell(later(play, 20, FIRST + 1, LAST))
    assert len(refreshes(play)) == 1


def test_a_refresh_whose_days_somebody_else_has_read_meanwhile_is_given_up() -> None:
    play = near_the_windows_end()
    open_it(play)
    play.tell(later(play, 2))
    play.tell(after_ms=15_000)
    play.tell(later(play, 3, force=True, priority_class=1))
    (row,) = refreshes(play)
    close_it(play)
    (forced,) = [o for o in play.offers.values() if o.batch_id != row.batch_id and o.start == FIRST]
    play.call(forced, OK)
    play.hand_back(forced, file=result_of(forced))
    assert row.batch_id not in play.state.batches


def test_a_refresh_keeps_the_days_that_the_other_reading_did_not_bring() -> None:
    play = near_the_windows_end()
    open_it(play)
    play.tell(later(play, 2))
    play.tell(after_ms=15_000)
    play.tell(later(play, 3, LAST, LAST, force=True, priority_class=1))
    (row,) = refreshes(play)
    close_it(play)
    (forced,) = [o for o in play.offers.values() if o.batch_id != row.batch_id and o.start == LAST]
    play.call(forced, OK)
    play.hand_back(forced, file=result_of(forced))
    after = play.state.batches[row.batch_id]
    assert (after.start, after.end, after.refresh) == (FIRST, LAST - 1, True)


def test_a_new_member_gives_a_refresh_the_better_class() -> None:
    play = held()
    open_it(play)
    play.tell(later(play, 2))
    play.tell(later(play, 3, FIRST - 1, LAST, priority_class=2))
    (row,) = refreshes(play)
    assert (row.members, row.priority_class, row.start) == ((request_id(3),), 2, FIRST - 1)
    play.tell(Cancel(request_id(3), facts().org_id, facts().connector_id))
    (row,) = refreshes(play)
    assert (row.members, row.priority_class) == ((), 4)


def test_a_refresh_that_the_provider_refuses_is_given_up_quietly() -> None:
    play = held()
    open_it(play)
    play.tell(later(play, 2))
    (row,) = refreshes(play)
    close_it(play)
    offer = play.offers[row.batch_id]
    play.call(offer, NEUTRAL)
    refused = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No.", retryable=False)
    changes = play.hand_back(offer, failure=refused)
    assert changes.events == []
    assert row.batch_id not in play.state.batches


def test_thousands_that_wait_are_answered_a_few_at_a_time_and_an_heir_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "LOOKS_PER_STEP", 3)
    play = held()
    play.tell(*(later(play, 50 + n, TODAY - 60 - n, TODAY - 60 - n) for n in range(10)))
    offer = next(iter(play.offers.values()))
    play.tell(*(later(play, n, FIRST + n % 3, LAST, priority_class=5, max_age_s=n) for n in range(2, 12)))
    for k in range(3):  # windows apart, so that they are several batches
        play.tell(later(play, 20 + k, FIRST, LAST), after_ms=play.rule.window_ms)
    waiting = sum(r.state == "queued" for r in play.state.requests.values())
    assert waiting == 13
    for _ in range(5):
        play.call(offer, FAILED)
    assert 0 < len(answers(play)) < waiting
    assert planner.next_due(play.state) == play.state.now, "it goes on at once"
    play.state = restore(play.rule, play.rows.read(), play.state.now)
    for _ in range(waiting):
        play.tell()
    assert len(answers(play)) == waiting
    assert len(refreshes(play)) == 1
