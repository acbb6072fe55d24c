"""Circuits through the planner's step: who may call an account that fails, and who is the probe (R9)."""

from __future__ import annotations

import pytest

from app.domain import planner
from app.domain.breaker import BreakerPolicy, Phase
from app.domain.circuits import MAX_SPARED
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Offer
from app.testing.planning import TODAY, accept, facts, reasons
from app.testing.planning_play import (
    ACCOUNT,
    DOWN,
    FAILED,
    NEUTRAL,
    OK,
    RECOVERY_MS,
    begun,
    half_open,
    opened,
    wide,
)

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


def test_what_fails_before_it_opens_is_an_attempt() -> None:
    play, (offer,) = begun()
    play.call(offer, FAILED)
    play.hand_back(offer, failure=DOWN)
    assert (play.batch(offer).attempts, play.batch(offer).spared) == (1, 0)


def test_a_report_that_fails_while_the_provider_answers_is_an_attempt_also_of_a_probe() -> None:
    play, offer = half_open()
    play.call(offer, OK)
    play.hand_back(offer, failure=Failure(ErrorClass.PROVIDER_RESPONSE, "report_failed", "It failed.", retryable=True))
    assert (play.batch(offer).attempts, play.batch(offer).spared) == (1, 0)


def test_a_step_handed_back_has_no_delay_of_its_own_when_the_circuit_closes() -> None:
    play, offers = opened(2)
    play.hand_back(offers[0])
    play.hand_back(offers[1], released=True, not_before_s=500.0)
    play.wait(RECOVERY_MS)
    offer = play.offers[play.state.probing[ACCOUNT][0]]
    play.offers.clear()
    play.call(offer, OK)
    play.call(offer, OK)
    assert len(play.offers) == 1, "the other one"


def test_who_failed_as_the_probe_gives_way_even_to_a_backfill() -> None:
    play, offers = opened(2, rule=None, priority_class=5)
    for offer in offers:
        play.hand_back(offer)
    play.offers.clear()
    play.wait(RECOVERY_MS)
    (first,) = play.offers.values()
    play.call(first, FAILED)
    play.hand_back(first, failure=DOWN)
    assert play.batch(first).priority_class == 4
    play.offers.clear()
    play.wait(RECOVERY_MS)
    assert first.batch_id not in play.offers
    assert len(play.offers) == 1


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
