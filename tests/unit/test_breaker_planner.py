"""Circuits through the planner's step: who may call an account that fails, and who is the probe (R9)."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain import closing, planner
from app.domain.breaker import BreakerPolicy, Phase
from app.domain.circuits import MAX_SPARED
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Offer, Returned
from app.domain.rules import Rules
from app.domain.state import restore
from app.testing.planning import TODAY, accept, facts, reasons, result_of
from app.testing.planning_play import ACCOUNT, FAILED, NEUTRAL, OK, Play, wide

DOWN = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)
RECOVERY_MS = 30_000
LIFETIME_MS = 130_000


def begun(count: int = 1, rule: Rules | None = None, **changes: Any) -> tuple[Play, list[Offer]]:
    """``count`` requests for one day each of one account, all offered."""
    play = Play(rule or wide())
    play.tell(*(accept(n, TODAY - 40 - n, TODAY - 40 - n, **changes) for n in range(1, count + 1)))
    offers = list(play.offers.values())
    assert len(offers) == count
    return play, offers


def opened(count: int = 1, rule: Rules | None = None) -> tuple[Play, list[Offer]]:
    """The same, and the circuit has just been opened by the first of them, which is still at it."""
    play, offers = begun(count, rule)
    for _ in range(play.rule.breaker.failure_threshold):
        play.call(offers[0], FAILED)
    assert play.phase() is Phase.OPEN
    return play, offers


def half_open(rule: Rules | None = None) -> tuple[Play, Offer]:
    """One batch, offered again after the recovery time."""
    play, (offer,) = opened(1, rule)
    play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS)
    assert play.phase() is Phase.HALF_OPEN
    return play, next(iter(play.offers.values()))


# opening


def test_it_opens_at_exactly_the_fifth_failure_in_a_row_and_says_so_once() -> None:
    play, (offer,) = begun()
    for _ in range(4):
        play.call(offer, FAILED)
    assert play.phase() is Phase.CLOSED
    assert play.told("circuit_opened") == []
    play.call(offer, FAILED)
    assert play.phase() is Phase.OPEN
    retry_at = play.state.now + RECOVERY_MS
    told = {"account_id": ACCOUNT, "failures": 5, "last_error": "http_503", "retry_at": retry_at}
    assert play.told("circuit_opened") == [told]
    (event,) = [e for e in play.events if e.type == "circuit_opened"]
    assert (event.connector_type, event.connector_id, event.org_id) == ("DV360", None, None)


def test_a_success_in_between_begins_the_count_anew() -> None:
    play, (offer,) = begun()
    for verdict in [FAILED] * 4 + [OK] + [FAILED] * 4:
        play.call(offer, verdict)
    assert play.phase() is Phase.CLOSED
    play.call(offer, FAILED)
    assert play.phase() is Phase.OPEN


@pytest.mark.parametrize("verdict", [NEUTRAL, None], ids=["refused", "never sent"])
def test_refusals_and_calls_that_never_left_count_neither_way(verdict: int | None) -> None:
    play, (offer,) = begun()
    for _ in range(20):
        play.call(offer, verdict)
    assert play.state.circuits == {}
    for each in [FAILED] * 4 + [verdict] * 3 + [FAILED]:
        assert play.phase() is Phase.CLOSED
        play.call(offer, each)
    assert play.phase() is Phase.OPEN, "nor do they begin the count anew"


def test_throttles_close_a_bucket_and_never_a_circuit() -> None:
    play, (offer,) = begun()
    throttle = Failure(ErrorClass.QUOTA, "rate_limited", "429", retryable=True, throttle=Throttle(None, 1.0))
    for _ in range(8):
        play.call(offer, NEUTRAL)
        play.hand_back(offer, failure=throttle)
        play.wait(1_500)
        offer = play.offers[offer.batch_id]
    assert play.state.circuits == {}


def test_the_settings_decide() -> None:
    play, (offer,) = begun(rule=wide(breaker=BreakerPolicy(2, 7_000, 1)))
    play.call(offer, FAILED)
    play.call(offer, FAILED)
    assert play.told("circuit_opened")[0]["retry_at"] == play.state.now + 7_000
    play.hand_back(offer)
    play.wait(7_000)
    play.call(play.offers[offer.batch_id], OK)
    assert play.phase() is Phase.CLOSED


def test_one_account_fails_and_another_of_the_type_goes_on() -> None:
    play, _ = opened()
    changes = play.tell(accept(7, TODAY - 1, TODAY - 1, connector=facts(2)))
    (other,) = changes.offers
    play.call(other, OK)
    assert play.tell(accept(8, TODAY - 9, TODAY - 9)).offers == []
    assert list(play.state.circuits) == [ACCOUNT]


def test_connectors_of_two_organisations_on_one_account_share_its_circuit() -> None:
    play, _ = opened()
    shared = facts(2, org_id=2, account_id=ACCOUNT, subject="another")
    assert play.tell(accept(7, TODAY - 1, TODAY - 1, connector=shared)).offers == []


# open


def test_an_open_circuit_hands_steps_under_way_back_and_burns_no_attempt() -> None:
    play, offers = opened(3)
    retry_at = play.circuit.retry_at
    for offer in offers:
        answer = play.ask(offer)
        assert answer is not None
        assert (answer.denied, answer.retry_at) == ("circuit", retry_at)
        play.hand_back(offer)
        row = play.batch(offer)
        assert (row.state, row.attempts, row.priority_class) == ("queued", 0, 3)
    told = {"reason": "circuit_open", "until": retry_at}
    assert list(reasons(play.state).values()) == [told] * 3
    assert all(r.attempts == 0 and r.state == "queued" for r in play.state.requests.values())


def test_nobody_of_the_account_starts_before_the_recovery_time_and_then_one_does() -> None:
    play, offers = opened(3)
    for offer in offers:
        play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS - 1)
    assert play.offers == {}
    assert planner.next_due(play.state) == play.circuit.retry_at
    play.wait(1)
    assert len(play.offers) == 1, "one may probe; the others would only be handed back"
    assert len([r for r in reasons(play.state).values() if r and r["reason"] == "circuit_open"]) == 2


def test_what_fails_while_it_is_open_is_no_attempt() -> None:
    """Ten calls under way fail at once: five open the circuit, and the outcomes of all come after that."""
    play, offers = begun(10)
    asks = [play.granted(offer) for offer in offers]
    for ask_id in asks:
        play.end(ask_id, FAILED)
    assert play.told("circuit_opened")[0]["failures"] == 5
    for offer in offers:
        play.hand_back(offer, failure=DOWN)
    rows = [play.batch(offer) for offer in offers]
    assert {(r.state, r.attempts, r.priority_class) for r in rows} == {("queued", 0, 4)}
    assert all(r.attempts == 0 for r in play.state.requests.values())
    assert play.told("fetch_failed") == []


def test_ten_minutes_of_outage_cost_five_calls_and_a_probe_each_half_minute() -> None:
    """X16: no request is lost, however often it was the probe."""
    play, offers = begun(4)
    calls: list[int] = []

    def fail(offer: Offer) -> None:
        ask_id = play.granted(offer)
        calls.append(play.state.now)
        play.end(ask_id, FAILED)
        play.hand_back(offer, failure=DOWN)

    for offer in [*offers, *offers]:
        if play.phase() is Phase.CLOSED and play.batch(offer).state == "leased":
            fail(play.offers[offer.batch_id])
        elif play.phase() is Phase.CLOSED:
            play.wait(3_000)
            fail(play.offers[offer.batch_id])
    opened_at = play.circuit.since
    first = len(calls)
    assert first == 5
    while play.state.now < opened_at + 600_000:
        play.offers.clear()
        play.wait(1_000)
        for offer in list(play.offers.values()):
            fail(offer)
    probes = calls[first:]
    assert 19 <= len(probes) <= 20
    assert all(b - a >= RECOVERY_MS for a, b in zip([opened_at, *probes], probes, strict=False))
    assert len(play.told("circuit_opened")) == 1
    assert play.told("circuit_closed") == play.told("fetch_failed") == []
    assert {r.attempts for r in play.state.batches.values()} <= {0, 1}
    assert len({play.batch(o).spared for o in offers}) <= 2, "they take turns"


def test_a_report_that_alone_makes_the_provider_fail_comes_to_an_end() -> None:
    play, (offer,) = opened()
    for _ in range(MAX_SPARED + 3):
        if offer.batch_id not in play.state.batches:
            break
        play.hand_back(play.offers[offer.batch_id], failure=DOWN)
        play.wait(RECOVERY_MS + 22_000)
        if offer.batch_id in play.state.batches:
            play.call(play.offers[offer.batch_id], FAILED)
    assert len(play.told("fetch_failed")) == 1
    assert play.told("fetch_failed")[0]["error"]["code"] == "provider_unavailable", "with its own error"
    assert play.told("fetch_failed")[0]["attempts"] == 3


def test_a_call_that_began_before_it_opened_neither_closes_nor_prolongs_it() -> None:
    play, (offer,) = begun()
    early = [play.granted(offer) for _ in range(4)]
    for _ in range(5):
        play.call(offer, FAILED)
    before = play.circuit
    play.tell(after_ms=100)
    play.end(early[0], OK)
    play.end(early[1], FAILED)
    assert play.circuit == before
    play.hand_back(offer)
    play.wait(RECOVERY_MS)
    (offer,) = play.offers.values()
    play.call(offer, OK)
    play.end(early[2], OK)
    assert play.phase() is Phase.HALF_OPEN, "nor is it one of the two"
    play.call(offer, OK)
    play.end(early[3], FAILED)
    assert play.circuit.failures == 0, "nor the first failure of the next row"
    assert len(play.told("circuit_opened")) == len(play.told("circuit_closed")) == 1


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
    play.hand_back(extra)
    play.offers.clear()
    play.wait(RECOVERY_MS - 1)
    assert play.offers == {}, "their polls were due long ago"
    views = [closing.waiting(play.state, play.batch(o)) for o in offers]
    assert [v and v["reason"] for v in views] == ["circuit_open"] * 3
    play.wait(1)
    (poll,) = play.offers.values()
    assert poll.step == "poll"
    play.call(poll, OK)
    play.call(poll, OK)
    assert len(play.offers) == 4
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
