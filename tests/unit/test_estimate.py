"""When a waiting request should start."""

from __future__ import annotations

import math
import random

import pytest

from app.domain import closing, estimate
from app.domain.messages import Ask, Offer, StepOutcome, Tick
from app.domain.model import Quota
from app.domain.pace import Ratios
from app.domain.rows import Request
from app.domain.state import State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, request_id, result_of, rules, take

HOLD_MS = 2_000
DAY_MS = 86_400_000


def begun(*quotas: Quota, minimum: int = 1, slots: int = 1, waiting: int = 0) -> tuple[State, list[Offer]]:
    """A planner whose slots are taken, and so many requests of other connectors behind."""
    state = State(rules(quotas, minimum=minimum, max_concurrent=slots), now=NOW)
    accepts = [accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, slots + waiting + 1)]
    return state, take(state, *accepts).offers


def wait_s(state: State, number: int) -> estimate.Expected:
    request = state.requests[request_id(number)]
    return closing.expected(state, request, closing.first_open(state, request))


def test_turns_ahead_at_the_pace_at_which_work_starts() -> None:
    state, _ = begun(waiting=3)
    assert [wait_s(state, n).p50_s for n in (1, 2, 3, 4)] == [0.0, 2.0, 4.0, 6.0]
    assert wait_s(state, 2).p90_s == pytest.approx(3 * math.exp(0.5) - 1, abs=0.05)


def test_what_a_fetch_takes_is_measured() -> None:
    state, offers = begun(slots=2, waiting=60)
    for _ in range(30):
        end = StepOutcome(offers[0].batch_id, offers[0].epoch, 0, "w", 1, file=result_of(offers[0]))
        offers = [*offers[1:], *take(state, end, at=state.now + 5_000).offers]
    assert state.pace.hold_ms.value == pytest.approx(10_000, rel=0.1)
    last = max(state.batches.values(), key=lambda batch: state.queue.position(batch.batch_id) or 0)
    assert estimate.raw_ms(state, last) == pytest.approx(5_000 * len(state.queue), rel=0.1)
    take(state, Tick(), at=state.now + DAY_MS)
    assert state.pace.hold_ms.value < 15_000, "two whose worker was lost do not make everybody wait for days"


def test_the_first_in_line_waits_until_its_quota_is_free() -> None:
    state, (offer,) = begun(quota("per_minute", 1, 60_000), slots=2, waiting=-1)
    take(state, Ask("a", "w", offer.batch_id, offer.epoch, 0, "reports"))
    take(state, accept(5, TODAY, TODAY, connector=facts(5)))
    assert wait_s(state, 5).p50_s == pytest.approx(60.0, abs=0.1)
    later = closing.expected(state, state.requests[request_id(5)], state.batches[next(iter(state.queue))], NOW + 20_000)
    assert later.p50_s == pytest.approx(40.0, abs=0.1)


def test_what_does_not_fit_into_the_day_waits_for_the_next_ones() -> None:
    day = quota("per_day", 4, DAY_MS, calendar_zone="UTC")
    state, _ = begun(day, minimum=2, waiting=6)
    midnight = (NOW // DAY_MS + 1) * DAY_MS + state.rules.clock_guard_ms
    until = (midnight - NOW) / 1_000
    # One runs, and room is kept for it; two calls are left today, four on each of the next days.
    assert wait_s(state, 2).p50_s < 60
    assert [wait_s(state, n).p50_s // 86_400 for n in (4, 7)] == [until // 86_400, (until + 86_400) // 86_400]


def test_estimates_are_frozen_when_first_shown_and_learned_from_at_the_start() -> None:
    state, (offer,) = begun(waiting=2)
    first = state.requests[request_id(2)].expected_ms
    assert first == HOLD_MS
    take(state, Tick(), at=NOW + 5_000)
    assert state.requests[request_id(2)].expected_ms == first
    changes = take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer)), at=NOW + 9_000)
    (row,) = (row for key, row in changes.rows.items() if key.startswith("e/"))
    assert row.middle > 0
    assert row.count == 1


@pytest.mark.parametrize(("middle", "sigma"), [(0.0, 0.5), (1.2, 0.5), (-1.0, 0.3), (0.0, 1.5)])
def test_whatever_is_left_out_is_learned(middle: float, sigma: float) -> None:
    """Nine of ten start by p90 and half by p50, though the raw estimate is off by any factor."""
    draw, state = random.Random(7), State(rules(), now=NOW)
    inside = under = 0
    for n in range(1_500):
        raw = 60_000
        wait = raw * math.exp(draw.gauss(middle, sigma))
        told = estimate._calibrated(state, 3, raw)
        if n >= 500:
            inside += wait <= told.p90_s * 1_000
            under += wait <= told.p50_s * 1_000
        state.now = NOW + round(wait)
        estimate.learn(state, Request(accept(n, TODAY, TODAY), expected_ms=raw))
    assert 0.86 <= inside / 1_000 <= 0.94
    assert 0.45 <= under / 1_000 <= 0.55


def test_what_was_learned_survives_a_move() -> None:
    rows = Rows()
    state = State(rules(), now=NOW)
    estimate.learn(state, Request(accept(1, TODAY, TODAY, accepted_at=NOW - 50_000), expected_ms=9_000))
    rows.write(state.changes)
    again = restore(state.rules, rows.read(), NOW)
    assert again.ratios == state.ratios == {"3:1": Ratios(0.5, 0.5 + 0.5 * 1.8, 1)}
