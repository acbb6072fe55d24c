"""The one permit that an open circuit lets through, and what a new owner finds (R9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain import closing, planner
from app.domain.breaker import Phase
from app.domain.messages import Cancel, Returned
from app.domain.state import restore
from app.testing.planning import TODAY, accept, facts, request_id, result_of
from app.testing.planning_play import (
    ACCOUNT,
    DOWN,
    FAILED,
    LIFETIME_MS,
    NEUTRAL,
    OK,
    RECOVERY_MS,
    Play,
    begun,
    half_open,
    opened,
)

# the probe


def test_one_probe_is_out_and_others_wait_for_its_end() -> None:
    play, offers = opened(3)
    play.hand_back(offers[0])
    play.wait(RECOVERY_MS)
    probe = play.granted(offers[1])
    assert play.circuit.probe == probe
    assert [row.probe for row in play.state.permits.values() if row.returned_at is None] == [True]
    assert play.ask(offers[2]) is None, "held: it ends within moments"
    answers = play.end(probe, OK).answers
    assert [a.denied for a in answers] == [None], "then the next one is a probe of its own"
    assert play.ask(offers[1]) is None
    answers = play.end(answers[0].ask_id, FAILED).answers
    assert [(a.denied, a.retry_at) for a in answers] == [("circuit", play.state.now + RECOVERY_MS)]


def test_two_successes_close_it_and_say_so_once() -> None:
    play, offer = half_open()
    opened_at = play.circuit.since
    play.call(offer, OK)
    assert play.phase() is Phase.HALF_OPEN
    assert play.tell(accept(7, TODAY - 1, TODAY - 1)).offers == [] or play.circuit.probe is None
    play.tell(after_ms=250)
    play.call(offer, OK)
    assert play.phase() is Phase.CLOSED
    assert play.told("circuit_closed") == [{"account_id": ACCOUNT, "open_s": (play.state.now - opened_at) / 1000}]
    for _ in range(4):
        play.call(offer, FAILED)
    assert play.phase() is Phase.CLOSED, "a new row of failures has five again"


def test_closing_lets_everybody_start() -> None:
    play, offers = opened(4)
    for offer in offers:
        play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS)
    (offer,) = play.offers.values()
    play.call(offer, OK)
    play.call(offer, OK)
    assert len(play.offers) == 4
    assert play.state.probing == {}


def test_a_failed_probe_opens_it_for_another_recovery_time_without_a_second_event() -> None:
    play, offer = half_open()
    play.call(offer, OK)
    play.call(offer, FAILED)
    assert play.circuit.retry_at == play.state.now + RECOVERY_MS
    assert play.circuit.successes == 0, "two in a row"
    assert play.ask(offer) is not None
    play.hand_back(offer, failure=DOWN)
    play.offers.clear()
    play.wait(RECOVERY_MS - 1)
    assert play.offers == {}
    assert len(play.told("circuit_opened")) == 1
    play.wait(1 + 21_000)
    assert list(play.offers) == [offer.batch_id]


@pytest.mark.parametrize("verdict", [NEUTRAL, None], ids=["refused", "never sent"])
def test_a_neutral_probe_is_free_again(verdict: int | None) -> None:
    play, offer = half_open()
    play.call(offer, OK)
    play.call(offer, verdict)
    assert (play.phase(), play.circuit.successes, play.circuit.probe) == (Phase.HALF_OPEN, 1, None)
    play.call(offer, OK)
    assert play.phase() is Phase.CLOSED


def test_a_probe_that_never_comes_back_is_a_failure_at_its_latest_end() -> None:
    play, offer = half_open()
    probe, out_at = play.granted(offer), play.state.now
    before = play.circuit
    play.tell(after_ms=LIFETIME_MS - 1)
    assert play.circuit == before
    play.tell(after_ms=1)
    assert (play.circuit.probe, play.circuit.last_error) == (None, "probe_lost")
    assert play.circuit.retry_at == out_at + LIFETIME_MS + RECOVERY_MS
    before = play.circuit
    play.end(probe, OK)
    assert play.circuit == before, "what is told of it later is too late"


def test_a_file_may_take_its_time_as_the_probe() -> None:
    """No quota counts it, and it has more time than a call."""
    play, offer = half_open()
    play.call(offer, OK)
    probe = play.granted(offer, "downloads")
    play.tell(after_ms=LIFETIME_MS + 60_000)
    assert play.circuit.probe == probe
    play.end(probe, OK)
    assert play.phase() is Phase.CLOSED


def test_a_step_that_may_probe_and_does_not_ask_is_followed_by_another() -> None:
    play, offers = opened(2)
    for offer in offers:
        play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS)
    (first,) = play.offers.values()
    play.hand_back(first)
    assert len(play.state.leases) == 1, "handed back, and one of them is offered again at once"


def test_polls_wait_for_the_circuit_and_one_of_them_is_the_probe() -> None:
    play, offers = begun(3)
    for n, offer in enumerate(offers):
        play.hand_back(offer, remote={"report": str(n)})
    play.wait(4_000)
    (extra,) = play.tell(accept(9, TODAY - 9, TODAY - 9)).offers
    for _ in range(5):
        play.call(extra, FAILED)
    play.tell(Cancel(request_id(9), 1, facts().connector_id))
    play.hand_back(extra)
    play.offers.clear()
    play.wait(RECOVERY_MS - 1)
    assert play.offers == {}, "their polls were due long ago"
    assert planner.next_due(play.state) == play.circuit.retry_at
    views = [closing.waiting(play.state, play.batch(o)) for o in offers]
    assert [v and v["reason"] for v in views] == ["circuit_open"] * 3
    play.wait(1)
    (poll,) = play.offers.values()
    assert poll.step == "poll"
    play.call(poll, OK)
    play.call(poll, OK)
    assert len(play.offers) == 3
    play.hand_back(play.offers[poll.batch_id], file=result_of(poll))
    assert len(play.told("data_fetched")) == 1


# hand-over


def test_an_heir_that_comes_after_the_probes_latest_end_does_not_wait_for_it_for_ever() -> None:
    play, offer = half_open()
    play.granted(offer)
    play.state = restore(play.rule, play.rows.read(), play.state.now)
    play.tell(after_ms=LIFETIME_MS + 5_000)
    assert (play.circuit.probe, play.circuit.last_error) == (None, "probe_lost")


@pytest.mark.parametrize("moment", ["counting", "open", "half open", "probe out", "one success", "closed"])
def test_a_new_owner_goes_on_where_the_old_one_was(moment: str) -> None:
    play, (offer,) = begun()
    for _ in range(3):
        play.call(offer, FAILED)
    _maybe(play, moment, "counting")
    play.call(offer, FAILED)
    play.call(offer, FAILED)
    assert play.phase() is Phase.OPEN
    _maybe(play, moment, "open")
    answer = play.ask(offer)
    assert answer is not None
    assert answer.denied == "circuit"
    play.hand_back(offer)
    play.wait(RECOVERY_MS)
    _maybe(play, moment, "half open")
    offer = play.offers[offer.batch_id]
    probe = play.granted(offer)
    _maybe(play, moment, "probe out")
    assert play.ask(offer) is None
    play.end(probe, OK)
    _maybe(play, moment, "one success")
    for ask_id in [row.ask_id for row in play.state.permits.values() if row.returned_at is None]:
        play.end(ask_id, OK)
    if play.phase() is not Phase.CLOSED:
        play.call(offer, OK)
    _maybe(play, moment, "closed")
    play.call(offer, OK)
    assert play.phase() is Phase.CLOSED
    assert [e.type for e in play.events if e.type.startswith("circuit")] == ["circuit_opened", "circuit_closed"]


def _maybe(play: Play, moment: str, here: str) -> None:
    if moment == here:
        before = play.circuit
        play.move()
        assert play.circuit == before


def test_a_probe_that_was_out_at_a_hand_over_and_never_returns_is_lost_all_the_same() -> None:
    play, offer = half_open()
    play.granted(offer)
    play.move()
    play.tell(after_ms=LIFETIME_MS)
    assert (play.circuit.probe, play.circuit.last_error) == (None, "probe_lost")


def test_the_row_of_a_circuit_that_closed_is_forgotten_when_no_call_of_before_can_end_any_more() -> None:
    play, offer = half_open()
    play.call(offer, OK)
    play.call(offer, OK)
    assert ACCOUNT in play.state.circuits
    play.hand_back(offer, file=result_of(offer))
    play.wait(400_000)
    assert play.state.circuits == {}
    assert [key for key in play.rows.read() if key.startswith("k/")] == []


def test_an_older_workers_return_and_an_older_permit_are_read() -> None:
    """Without errors, without an account: nothing of it stops anybody."""
    play, (offer,) = begun()
    for _ in range(5):
        ask_id = play.granted(offer)
        play.tell(Returned((ask_id,), ((ask_id, 10, 0),)))
    assert play.told("circuit_opened")[0]["last_error"] == "system_failure"
    play, (offer,) = begun()
    for _ in range(5):
        ask_id = play.granted(offer)
        play.state.permits[ask_id] = replace(play.state.permits[ask_id], account_id="", connector_type="")
        play.end(ask_id, FAILED)
    assert play.state.circuits == {}
