"""How many reports may wait at the provider, and how often they are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain import jobs
from app.domain.messages import Offer, StepOutcome, Tick
from app.domain.model import Quota
from app.domain.rules import Rules
from app.domain.state import State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, batches, facts, quota, result_of, rules, take


def bounded(most: int | None, *quotas: Quota, steps: tuple[str, ...] = ("start", "poll")) -> Rules:
    known = rules(quotas, minimum=1, max_concurrent=50)
    dv360 = replace(known.connectors["DV360"], max_remote_jobs=most, steps=steps)
    return replace(known, connectors={"DV360": dv360})


def remote(offer: Offer, **changes: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, remote={"report": "1"}, **changes)


def test_no_fetch_begins_beyond_the_bound_and_says_why() -> None:
    state = State(bounded(2), now=NOW)
    first = take(state, *(accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, 5)))
    assert len(first.offers) == 2, "one that is at work will be a report that waits"
    assert not take(state, *(remote(o) for o in first.offers)).offers
    assert state.others_wait == {"reason": "concurrency", "until": None}
    polls = take(state, Tick(), at=NOW + 5_000).offers
    assert [o.step for o in polls] == ["poll", "poll"], "those that wait are asked for all the same"
    done = take(state, StepOutcome(polls[0].batch_id, 2, 1, "w", 1, file=result_of(polls[0])))
    assert [o.step for o in done.offers] == ["start"]


def test_a_new_owner_counts_the_same() -> None:
    rows = Rows()
    state = State(bounded(1), now=NOW)
    first = take(state, accept(1, TODAY, TODAY))
    rows.write(first)
    rows.write(take(state, remote(first.offers[0])))
    heir = restore(state.rules, rows.read(), NOW)
    assert not take(heir, accept(2, TODAY, TODAY, connector=facts(2))).offers


def test_a_fetch_that_goes_back_to_the_queue_is_no_report_that_waits() -> None:
    state = State(bounded(1), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY)).offers
    back = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 0, released=True, not_before_s=60.0)
    assert len(take(state, back, accept(2, TODAY, TODAY, connector=facts(2))).offers) == 1


@pytest.mark.parametrize(("most", "steps"), [(None, ("start", "poll")), (1, ("start",))])
def test_there_is_no_bound_where_none_is_set_or_nothing_waits(most: int | None, steps: tuple[str, ...]) -> None:
    state = State(bounded(most, steps=steps), now=NOW)
    assert len(take(state, *(accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, 5))).offers) == 4
    assert not jobs.full(state, "DV360")
    assert not jobs.full(state, "TTD")


@pytest.mark.parametrize(
    ("rule", "delay_ms"),
    [
        (quota("app", 4, 1_000), 3_000),
        (quota("user", 24, 6_000, scope="user"), 2_500),
        (quota("account", 1, 1_000, scope="account"), 2_000),
        (quota("hour", 1, 3_600_000), 1_000),
        (quota("day", 1, 86_400_000, calendar_zone="UTC"), 1_000),
        (quota("other", 1, 60_000, charge="entities"), 1_000),
        (quota("shadow", 1, 60_000, enforced=False), 1_000),
    ],
)
def test_all_that_wait_are_asked_for_with_half_of_a_short_bucket(rule: Quota, delay_ms: int) -> None:
    """Six reports, five of them of one user, each of an account of its own; a second was wished for."""
    state = State(bounded(None), now=NOW)
    subjects = ["someone"] * 5 + ["else"]
    accounts = [facts(n, subject=who) for n, who in enumerate(subjects, 1)]
    take(state, *(accept(n, TODAY, TODAY, connector=who) for n, who in enumerate(accounts, 1)))
    state.rules = bounded(None, rule)
    state.limits.clear()
    mine = next(b for b in batches(state) if b.connector == accounts[0])
    assert jobs.poll_delay_ms(state, mine, 1_000) == delay_ms


def test_a_slow_provider_is_asked_less_often() -> None:
    rule = quota("app", 4, 1_000)
    state = State(bounded(None, rule), now=NOW)
    take(state, *(accept(n, TODAY, TODAY, connector=facts(n)) for n in range(1, 5)))
    mine = batches(state)[0]
    state.limits_of(mine.connector).bucket(rule, mine.connector).response_ms = 3_000
    assert jobs.poll_delay_ms(state, mine, 1_000) == 8_000
