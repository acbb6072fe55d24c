"""When a waiting request should start."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from app.domain import closing, estimate, rhythm
from app.domain.messages import Ask, Offer, Returned, StepOutcome, Tick
from app.domain.model import Days, Quota
from app.domain.pace import Ratios, Turns
from app.domain.rate_limit import Bucket
from app.domain.rows import Request
from app.domain.state import State, restore
from app.testing.planning import NOW, REPORT, TODAY, Rows, accept, facts, quota, request_id, result_of, rules, take

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
    assert wait_s(state, 2).p90_s == pytest.approx(3 * math.exp(1.6 * 0.3) - 1, abs=0.05)


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


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_long_quota_that_is_closed_for_moments_is_not_spent(zone: str | None) -> None:
    state, _ = begun(quota("per_day", 15_000, DAY_MS, calendar_zone=zone), waiting=400)
    assert [wait_s(state, n).p50_s for n in (2, 401)] == [2.0, 800.0]
    (bucket,) = state.limits_of(facts(1)).of("reports", facts(1))
    bucket.closed_until = NOW + 12_000
    take(state, Tick(), at=NOW + 1)
    assert [wait_s(state, n).p50_s for n in (2, 401)] == [14.0, 812.0], "what it holds is there when it opens"
    midnight = bucket.next_day(NOW) if zone else NOW + DAY_MS
    bucket.closed_until = midnight
    take(state, Tick(), at=NOW + 2)
    assert [wait_s(state, n).p50_s * 1_000 - (midnight - NOW) for n in (2, 401)] == pytest.approx([2e3, 8e5], abs=100)


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


def test_who_shares_a_better_batch_teaches_of_its_class() -> None:
    state, (offer,) = begun(waiting=0)
    both = (accept(n, TODAY, TODAY, connector=facts(9), priority_class=class_) for n, class_ in ((8, 1), (9, 5)))
    take(state, *both)
    changes = take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer)), at=NOW + 9_000)
    assert [key[:4] for key in changes.rows if key.startswith("e/")] == ["e/1:"]


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
    ratio = math.log(51 / 10)
    assert again.ratios == state.ratios == {"3:1": estimate.learned(Ratios(), ratio)}
    assert again.ratios["3:1"].count == 1


def test_waits_that_vary_little_are_told_narrowly_and_never_as_certain() -> None:
    known = Ratios()
    for n in range(1_000):
        known = estimate.learned(known, 0.3 + 0.001 * (n % 5))
    assert known.middle == pytest.approx(0.3, abs=0.02)
    assert 0.01 <= known.high - known.middle < 0.02
    for _ in range(400):
        known = estimate.learned(known, 1.0)
    assert known.middle == pytest.approx(1.0, abs=0.2), "a change is followed"


def test_who_comes_later_and_goes_before_is_in_its_own_pace() -> None:
    """One organisation asked for much, the others come all the time: its place says too little."""
    state = State(rules(max_concurrent=1), now=NOW)
    (offer,) = take(state, *(accept(n, TODAY, TODAY, connector=facts(n, org_id=1)) for n in range(80))).offers
    others = iter(range(100, 1_000))
    waiting = [row.accept.request_id for row in state.requests.values() if row.accept.connector.org_id == 1][-1]
    for turn in range(60):
        comes = [next(others)] if turn % 2 else []
        new = [accept(n, TODAY, TODAY, connector=facts(n, org_id=2 + n % 2)) for n in comes]
        end = StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer))
        (offer,) = take(state, *new, end, at=state.now + 1_000).offers
    (batch_id,) = state.requests[waiting].parts
    batch = state.batches[batch_id]
    ahead = state.queue.ahead_of_own(batch)
    each_ms = state.pace.turns[1, 3].each_ms(state.now)
    assert each_ms is not None
    assert each_ms == pytest.approx(2_000, rel=0.1), "every other turn is another's"
    assert estimate.raw_ms(state, batch) == pytest.approx(ahead * 2_000, rel=0.1)
    assert state.queue.rank(batch) - 1 < ahead + 3


def test_only_starts_that_followed_a_wait_say_how_fast_turns_come() -> None:
    turns = Turns()
    for at in range(12):
        turns.taken(NOW + 10_000 * at, NOW)
    assert turns.each_ms(NOW + 110_000) == pytest.approx(10_000)
    # It had nothing to do meanwhile, and its next batch came when it started.
    turns.taken(NOW + 200_000, NOW + 199_000)
    assert turns.each_ms(NOW + 200_000) == pytest.approx(10_000)
    for at in range(40):
        turns.taken(NOW + 200_000 + 60_000 * at, NOW)
    later = NOW + 200_000 + 60_000 * 39
    assert turns.each_ms(later) == pytest.approx(60_000, rel=0.1), "the last quarter of an hour counts most"
    assert turns.each_ms(later + 3_600_000) is None, "an hour later it says nothing"


def test_a_fetch_that_was_handed_back_is_no_turn() -> None:
    state, (offer,) = begun(waiting=1)
    back = StepOutcome(offer.batch_id, offer.epoch, 0, "w", 0, released=True, not_before_s=5.0)
    (other,) = take(state, back, at=NOW + 1_000).offers
    end = StepOutcome(other.batch_id, other.epoch, 0, "w", 1, file=result_of(other))
    assert not take(state, end, at=NOW + 2_000).offers
    (again,) = take(state, Tick(), at=NOW + 6_000).offers
    assert again.batch_id == offer.batch_id
    assert state.pace.turns[offer.connector.org_id, offer.priority_class].last_at == NOW + 1_000


def test_of_a_size_with_few_starts_the_spread_of_shorter_waits_is_told() -> None:
    state = State(rules(), now=NOW)
    state.ratios = {"3:1": Ratios(0.7, 0.1, 2.0, 500), "3:2": Ratios(-0.5, 0.9, 1.0, 19), "2:2": Ratios(9, 9, 9, 99)}
    told = estimate._calibrated(state, 3, 40_000)
    assert told.p50_s == pytest.approx(40.0)
    assert told.p90_s == pytest.approx(41 * math.exp(0.2) - 1, abs=0.1)
    state.now = NOW + 40_000
    estimate.learn(state, Request(accept(1, TODAY, TODAY, accepted_at=NOW), expected_ms=1_000_000))
    assert state.ratios["3:4"].spread < 0.5, "the first of a size begins with them"


def test_one_start_that_is_far_out_moves_little() -> None:
    far = estimate.learned(Ratios(0.0, 0.05, 1.6, 400), -6.0)
    assert abs(far.middle) < 0.01
    assert far.spread < 0.055


def test_a_full_bucket_frees_its_slots_in_the_rhythm_in_which_they_were_spent() -> None:
    state, (offer,) = begun(quota("per_minute", 3, 60_000), slots=4, waiting=-3)
    for at in range(3):
        take(state, Ask(f"a{at}", "w", offer.batch_id, offer.epoch, 0, "reports"), at=NOW + 1_000 * at)
        take(state, Returned((f"a{at}",)), at=NOW + 1_000 * at)
    (bucket,) = state.limits_of_type("DV360").buckets.values()
    now = NOW + 10_000
    after_s = [round((rhythm.nth_free_at(bucket, now, n, heard_at=now) - now) / 1_000) for n in range(1, 8)]
    assert after_s == [50, 51, 52, 110, 111, 112, 170]
    bucket.closed_until = now + 300_000
    assert rhythm.nth_free_at(bucket, now, 1, heard_at=now) == now + 300_000
    bucket = Bucket(bucket.key, bucket.quota, bucket.lifetime_ms, bucket.guard_ms)
    assert [rhythm.nth_free_at(bucket, now, n, heard_at=now) - now for n in (3, 4)] == [0, 60_001]


def test_a_call_that_is_out_for_long_frees_its_slot_now_at_the_earliest() -> None:
    state, offers = begun(quota(limit=4, period_ms=1_000), slots=4)
    take(state, *(Ask(o.batch_id, "w", o.batch_id, o.epoch, 0, "reports") for o in offers))
    (bucket,) = state.limits_of_type("DV360").buckets.values()
    now = NOW + 60_000
    after_ms = [rhythm.nth_free_at(bucket, now, n, heard_at=NOW) - now for n in (1, 4, 5, 41)]
    assert after_ms == [0, 0, 1_001, 10_010]


def test_an_accounts_long_quota_keeps_only_who_spends_from_it() -> None:
    state, _ = begun(quota("per_hour", 6, 3_600_000, scope="account"), minimum=3, slots=1, waiting=100)
    other = accept(500, TODAY, TODAY, connector=facts(500))
    same = [accept(n, day, day, connector=facts(500)) for n, day in ((501, TODAY - 9), (502, TODAY - 19))]
    take(state, other, *same)
    first, second, third = sorted(
        state.near.waiting(f"{facts(500).connector_id}|{REPORT}", Days(TODAY - 19, TODAY)),
        key=lambda name: state.queue.position(name) or 0,
    )
    hours = [estimate.raw_ms(state, state.batches[name]) / 3_600_000 for name in (first, second, third)]
    assert max(hours[:2]) < 0.1, "the hundred before them are of other accounts"
    assert hours[2] >= 0.5


def test_a_fetch_that_a_new_owner_found_under_way_says_nothing_of_how_long_one_holds_a_slot() -> None:
    rows, rule = Rows(), rules([quota("per_minute", 100, 60_000)], minimum=1)
    changes = take(State(rule, now=NOW), *(accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, 11)))
    rows.write(changes)
    state = restore(rule, rows.read(), NOW)
    for n, offer in enumerate(changes.offers):
        take(state, Ask(f"a{n}", "w", offer.batch_id, offer.epoch, 0, "reports"))
        take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer)), at=state.now + 1_000)
    assert state.pace.hold_ms.value == HOLD_MS
    assert state.pace.calls("per_minute") == 0


def test_reports_that_wait_at_the_provider_keep_those_behind_them() -> None:
    """Slots are free; what is short is the number of reports, and each takes half an hour."""
    rule = rules([quota("per_minute", 1_000, 60_000)])
    bounded = replace(rule.connectors["DV360"], max_remote_jobs=2)
    state, half_an_hour = State(replace(rule, connectors={"DV360": bounded}), now=NOW), 1_800_000
    offers = take(state, *(accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, 22))).offers
    for _ in range(6):
        polls = []
        for o in offers:
            outcome = StepOutcome(o.batch_id, o.epoch, 0, "w", 2, remote={"report": "1"}, poll_after_s=1_800.0)
            polls.append(take(state, outcome))
        assert len(state.in_flight["DV360"]) == 2
        due = take(state, Tick(), at=state.now + half_an_hour).offers
        done = [StepOutcome(o.batch_id, o.epoch, o.step_no, "w", 3, file=result_of(o)) for o in due]
        offers = take(state, *done).offers
    last = max(state.queue, key=lambda name: state.queue.position(name) or 0)
    ahead = len(state.queue) - 1
    raw = estimate.raw_ms(state, state.batches[last])
    assert raw == pytest.approx((ahead + 1) * half_an_hour / 2, rel=0.05)


def test_a_new_owner_does_not_know_how_long_the_reports_took_that_it_found() -> None:
    rows, rule = Rows(), rules(minimum=1)
    changes = take(State(rule, now=NOW), accept(1, TODAY, TODAY))
    rows.write(changes)
    state, (offer,) = restore(rule, rows.read(), NOW), changes.offers
    take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 1, file=result_of(offer)), at=NOW + 5_000)
    assert state.pace.job_ms.count == 0


def test_what_is_borrowed_from_waits_of_another_size_stays_within_a_size() -> None:
    """Waits of moments that became hours lie a thousand times apart; a day is not three years for that."""
    state = State(rules(), now=NOW)
    known = Ratios()
    for n in range(2_000):
        known = estimate.learned(known, math.log(3_600) * (n % 4))
    state.ratios["3:0"] = known
    told = estimate._calibrated(state, 3, DAY_MS)
    assert told.p50_s == pytest.approx(DAY_MS / 1_000)
    assert told.p90_s <= 4.01 * DAY_MS / 1_000


def test_only_what_a_quota_counts_is_a_call_of_it() -> None:
    state, (offer,) = begun(quota("per_day", 9, DAY_MS), minimum=1)
    for at in range(2):
        take(state, Ask(f"a{at}", "w", offer.batch_id, offer.epoch, 0, "reports"))
    take(state, Ask("file", "w", offer.batch_id, offer.epoch, 0, "download"))
    take(state, StepOutcome(offer.batch_id, offer.epoch, 0, "w", 3, file=result_of(offer)))
    assert (state.pace.calls("per_day"), state.pace.calls("another")) == (2.0, 0.0)
