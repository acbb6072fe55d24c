"""When the next write to a spreadsheet may begin, where a call of the one before it may still land there."""

from __future__ import annotations

from app.domain.messages import Tick
from app.testing.planning import NOW, reasons, request_id, take
from app.testing.writing import asked, came_back, ended, offered, planner, sheet_quotas, write


def test_the_next_one_begins_when_the_call_before_it_can_no_longer_land() -> None:
    """The lease was lost and the write done by another worker; the first one's call is still out."""
    state = planner(*sheet_quotas())
    (offer,) = take(state, write(1, mode="update"), write(2)).offers
    take(state, asked(offer, "late"))
    (again,) = take(state, Tick(), at=NOW + 16_000).offers
    take(state, asked(again, "new", worker="w1"))
    done = take(state, came_back("new"), ended(again, rows_written=1))
    assert (len(done.events), done.offers) == (1, [])
    lifetime = state.rules.permit_valid_ms + state.rules.call_timeout_ms
    assert list(reasons(state).values()) == [{"reason": "earlier_write", "until": NOW + lifetime}]
    assert offered(take(state, came_back("late"))) == [request_id(2)]


def test_a_call_of_an_append_that_is_in_the_sheet_keeps_nobody_waiting() -> None:
    """Its stamp is there as well: what another worker may still send of it changes nothing."""
    state = planner(*sheet_quotas())
    (offer,) = take(state, write(1), write(2)).offers
    take(state, asked(offer, "late"))
    (again,) = take(state, Tick(), at=NOW + 16_000).offers
    take(state, asked(again, "new", worker="w1"))
    assert offered(take(state, came_back("new"), ended(again, rows_written=1))) == [request_id(2)]


def test_a_call_that_never_comes_back_is_waited_for_and_no_longer() -> None:
    state = planner(*sheet_quotas())
    (offer,) = take(state, write(1, mode="update"), write(2)).offers
    take(state, asked(offer))
    take(state, ended(offer, rows_written=1))
    lifetime = state.rules.permit_valid_ms + state.rules.call_timeout_ms
    assert take(state, Tick(), at=NOW + lifetime - 1).offers == []
    assert offered(take(state, Tick(), at=NOW + lifetime)) == [request_id(2)]


def test_a_look_up_does_not_keep_the_next_one() -> None:
    state = planner()
    (offer,) = take(state, write(1), write(2)).offers
    take(state, asked(offer, charge="read"))
    assert offered(take(state, ended(offer, rows_written=1))) == [request_id(2)]
