"""What follows from a step's outcome: retries, splits, closures, costs and news."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.domain import closing
from app.domain.errors import ErrorClass, Failure
from app.domain.messages import Ask, Cancel, StepOutcome, Tick
from app.domain.state import Changes, State
from app.testing.planning import (
    CATALOGUE,
    NOW,
    REPORT,
    TODAY,
    accept,
    batches,
    facts,
    quota,
    request_id,
    result_of,
    rules,
    take,
)
from tests.unit.outcome_steps import REFUSED, UNAVAILABLE, begun, call, ended, ends

# retries


def test_a_failure_is_tried_again_after_its_backoff_in_the_retry_class() -> None:
    state, first = begun(accept(1, TODAY, TODAY, priority_class=1))
    offer = first.offers[0]
    assert not take(state, ended(offer, failure=UNAVAILABLE)).events
    (batch,) = batches(state)
    assert (batch.state, batch.attempts, batch.priority_class) == ("queued", 1, 4)
    assert NOW + 4_000 <= batch.not_before <= NOW + 8_000
    assert not take(state, Tick(), at=batch.not_before - 1).offers
    (again,) = take(state, Tick(), at=batch.not_before).offers
    assert (again.step, again.epoch, again.step_no) == ("start", 2, 1)


def test_attempts_are_bounded_and_counted() -> None:
    state, changes = begun(accept(1, TODAY, TODAY))
    for _ in range(2):
        take(state, ended(changes.offers[0], failure=UNAVAILABLE))
        changes = take(state, Tick(), at=batches(state)[0].not_before)
    end = ends(take(state, ended(changes.offers[0], failure=UNAVAILABLE)))
    assert end[request_id(1)]["attempts"] == 3
    assert end[request_id(1)]["error"]["code"] == "provider_unavailable"


def test_the_providers_own_delay_may_be_hours_and_holds_nothing() -> None:
    second = accept(2, TODAY, TODAY, connector=facts(2), accepted_at=NOW + 1)
    state, first = begun(accept(1, TODAY, TODAY), second, max_concurrent=1)
    slow = Failure(ErrorClass.PROVIDER_SYSTEM, "later", "503", retryable=True, retry_after_s=39_600)
    freed = take(state, ended(first.offers[0], failure=slow))
    assert [o.connector.connector_id for o in freed.offers] == [facts(2).connector_id]
    assert next(b for b in batches(state) if b.attempts).not_before == NOW + 39_600_000


def test_a_failed_poll_goes_back_to_the_provider_and_a_lost_report_is_run_again() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, ended(first.offers[0], remote={"report": "1"}))
    (poll,) = take(state, Tick(), at=NOW + 5_000).offers
    take(state, ended(poll, failure=UNAVAILABLE))
    (batch,) = batches(state)
    assert (batch.state, batch.remote, batch.run) == ("remote", {"report": "1"}, 1)
    (poll,) = take(state, Tick(), at=batch.not_before).offers
    gone = Failure(ErrorClass.PROVIDER_RESPONSE, "report_gone", "404", retryable=True, remote_lost=True)
    take(state, ended(poll, failure=gone))
    (again,) = take(state, Tick(), at=batches(state)[0].not_before).offers
    assert (again.step, again.run, again.remote) == ("start", 2, None)


def test_a_step_handed_back_is_no_attempt() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, ended(first.offers[0], released=True, not_before_s=3.0))
    assert state.requests[request_id(1)].state == "queued"
    (again,) = take(state, Tick(), at=NOW + 3_000).offers
    done = take(state, ended(again, file=result_of(again)))
    assert ends(done)[request_id(1)]["attempts"] == 1


def test_a_step_handed_back_for_a_full_bucket_says_which() -> None:
    first, second = accept(1, TODAY, TODAY), accept(2, TODAY, TODAY, connector=facts(2))
    state, changes = begun(first, second, quotas=(quota("per_minute", 2, 60_000),))
    call(state, changes.offers[0], "ask1", "ask2")
    take(state, ended(changes.offers[1], released=True, not_before_s=60.0))
    (batch,) = (b for b in batches(state) if b.state == "queued")
    reason = closing.waiting(state, batch)
    assert reason is not None
    assert (reason["reason"], reason["bucket"]) == ("quota", "per_minute")


# a merged batch that is refused


def test_a_refused_batch_is_tried_for_each_member_alone_and_only_the_faulty_one_fails() -> None:
    state, first = begun(accept(1, TODAY - 5, TODAY - 2, fields=("forbidden",)), accept(2, TODAY - 3, TODAY))
    call(state, first.offers[0], "ask1", "ask2")
    alone = take(state, ended(first.offers[0], failure=REFUSED)).offers
    assert [(o.fields, o.start, o.end) for o in alone] in (
        [(("forbidden",), TODAY - 5, TODAY - 2)],
        [((), TODAY - 3, TODAY)],
    ), "their days overlap, so one goes first"
    found: dict[str | None, dict[str, Any]] = {}
    for _ in range(2):
        offer = alone[0]
        how = {"failure": REFUSED} if offer.fields else {"file": result_of(offer)}
        changes = take(state, ended(offer, **how))
        found, alone = found | ends(changes), changes.offers
    assert {n: (e["type"], e["attempts"]) for n, e in found.items()} == {
        request_id(1): ("fetch_failed", 1),
        request_id(2): ("data_fetched", 1),
    }
    assert found[request_id(2)]["cost"] == "1.0000", "half of the two calls of the whole"
    assert state.batches == {}


def test_one_that_is_left_of_several_does_not_fail_of_what_another_asked() -> None:
    state, first = begun(accept(1, TODAY, TODAY, fields=("forbidden",)), accept(2, TODAY, TODAY))
    take(state, Cancel(request_id(1), 1, facts().connector_id))
    (alone,) = take(state, ended(first.offers[0], failure=REFUSED)).offers
    assert alone.fields == ()
    assert ends(take(state, ended(alone, file=result_of(alone))))[request_id(2)]["type"] == "data_fetched"


def cost_of(changes: Changes, number: int) -> str | None:
    view = changes.views[request_id(number)]
    return None if view is None else view.cost


def test_the_last_that_leaves_a_fetch_pays_for_its_calls_and_ends_it() -> None:
    first, second, other = (accept(n, TODAY, TODAY, connector=facts(max(1, n - 1))) for n in (1, 2, 3))
    state, changes = begun(first, second, other, max_concurrent=1)
    (offer,) = changes.offers
    call(state, offer, "a", "b")
    costs = [cost_of(take(state, Cancel(request_id(n), 1, facts().connector_id)), n) for n in (1, 2)]
    assert costs == ["0.0000", "2.0000"]
    # The worker is told at its next call, and the slot is another's in the same step.
    asked = take(state, Ask("c", "w", offer.batch_id, offer.epoch, offer.step_no, "reports"))
    assert [answer.denied for answer in asked.answers] == ["stale"]
    assert [new.connector for new in asked.offers] == [facts(2)]
    assert offer.batch_id not in state.batches
    take(state, ended(offer, file=result_of(offer)))
    assert request_id(2) not in state.requests


def test_who_takes_over_a_fetch_pays_for_the_rest_of_it() -> None:
    state, changes = begun(accept(1, TODAY, TODAY))
    (offer,) = changes.offers
    call(state, offer, "a", "b")
    assert cost_of(take(state, Cancel(request_id(1), 1, facts().connector_id)), 1) == "2.0000"
    take(state, accept(2, TODAY, TODAY))
    call(state, offer, "c")
    assert cost_of(take(state, ended(offer, file=result_of(offer))), 2) == "1.0000"


def test_a_deadline_that_passes_is_paid_for_in_the_same_way() -> None:
    state, changes = begun(accept(1, TODAY, TODAY, deadline_at=NOW + 5_000))
    call(state, changes.offers[0], "a")
    changes = take(state, Tick(), at=NOW + 5_000)
    assert ends(changes)[request_id(1)]["type"] == "fetch_failed"
    assert cost_of(changes, 1) == "1.0000"


def test_nobody_attaches_to_a_fetch_that_was_refused_as_a_whole() -> None:
    state, first = begun(accept(1, TODAY, TODAY, fields=("forbidden",)), accept(2, TODAY, TODAY, fields=("forbidden",)))
    (alone,) = take(state, ended(first.offers[0], failure=REFUSED)).offers
    take(state, accept(3, TODAY, TODAY))
    assert request_id(3) not in state.batches[alone.batch_id].members
    take(state, ended(alone, failure=REFUSED))
    assert state.requests[request_id(3)].state in ("queued", "running")


# results


def test_each_member_pays_its_share_and_hears_of_the_others() -> None:
    state, first = begun(accept(1, TODAY - 2, TODAY - 1), accept(2, TODAY - 1, TODAY), accept(3, TODAY, TODAY))
    call(state, first.offers[0], "ask1", "ask2", "ask3", "ask4")
    done = ends(take(state, ended(first.offers[0], file=result_of(first.offers[0]))))
    assert sorted(e["cost"] for e in done.values()) == ["1.3333", "1.3333", "1.3334"]
    assert sorted(done[request_id(1)]["batched_with"]) == [request_id(2), request_id(3)]
    assert {e["provider_calls"] for e in done.values()} == {4}
    assert [done[request_id(n)]["records_fetched"] for n in (1, 2, 3)] == [4, 4, 2], "its own days alone"


@pytest.mark.parametrize(("total", "names"), [(10, "abc"), (1_000_000, "abcdefg"), (0, "ab"), (2, "abc")])
def test_shares_sum_exactly_also_as_they_are_told(total: int, names: str) -> None:
    parts = closing.share(total, names)
    assert sum(parts.values()) == total
    assert max(parts.values()) - min(parts.values()) <= 100
    told = [Decimal(closing.money(part)) for part in parts.values()]
    assert sum(told) == Decimal(closing.money(total))


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "0.0000"), (333_333, "0.3333"), (999_950, "1.0000"), (12_345_678, "12.3457")]
)
def test_money_is_told_in_ten_thousandths(micros: int, text: str) -> None:
    assert closing.money(micros) == text


def test_calls_of_an_attempt_that_failed_are_paid_too() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    call(state, first.offers[0], "ask1", "ask2")
    take(state, ended(first.offers[0], failure=UNAVAILABLE))
    assert state.requests[request_id(1)].cost_micros == 2_000_000
    (again,) = take(state, Tick(), at=batches(state)[0].not_before).offers
    call(state, again, "ask3")
    done = ends(take(state, ended(again, file=result_of(again))))[request_id(1)]
    assert (done["cost"], done["provider_calls"], done["attempts"]) == ("3.0000", 3, 2)


def test_a_retry_needs_its_whole_minimum_anew() -> None:
    """The calls of the first attempt are no part of the second one's three."""
    day = quota("per_day", 5, 86_400_000, calendar_zone="UTC")
    state, first = begun(accept(1, TODAY, TODAY), quotas=(day,))
    call(state, first.offers[0], "ask1", "ask2", "ask3")
    take(state, ended(first.offers[0], failure=UNAVAILABLE))
    assert not take(state, Tick(), at=batches(state)[0].not_before).offers


def test_the_version_is_drawn_with_the_data_calls_permit_and_kept_by_the_result() -> None:
    state, first = begun(accept(1, TODAY, TODAY), accept(2, TODAY - 9, TODAY - 9))
    one, two = sorted(first.offers, key=lambda o: -o.start)
    call(state, one, "ask1", data=True)
    call(state, two, "ask2", data=True)
    news = take(state, ended(two, file=result_of(two)), ended(one, file=result_of(one)))
    versions = [(e.data["version"], e.data["days"][0]["date"]) for e in news.events if e.type == "dataset_updated"]
    assert [v for v, _ in versions] == [2, 1]


def test_news_of_a_data_set_say_what_changed_and_why() -> None:
    state, first = begun(accept(1, TODAY - 4, TODAY))
    told = []
    for number, reading in enumerate(("one", "other", "other"), 2):
        (offer,) = first.offers
        news = take(state, ended(offer, file=result_of(offer, reading=reading))).events[0].data
        told.append((news["reason"], [d["changed"] for d in news["days"]]))
        assert [d["state"] for d in news["days"]] == ["final", "final", "settling", "settling", "open"]
        first = take(state, accept(number, TODAY - 4, TODAY, force=True))
    assert told == [("first", [True] * 5), ("restated", [True] * 5), ("refreshed", [False] * 5)]


@pytest.mark.parametrize("how", ["retry", "split"])
def test_a_request_is_running_while_one_of_its_fetches_is(how: str) -> None:
    """Else it is queued and has no place in the line."""
    state = State(rules(), now=NOW)
    (middle,) = take(state, accept(1, TODAY - 20, TODAY - 20)).offers
    take(state, StepOutcome(middle.batch_id, 1, 0, "w", 0, file=result_of(middle)))
    first, second = take(state, accept(2, TODAY - 21, TODAY - 19), accept(3, TODAY - 21, TODAY - 21)).offers
    again = Failure(ErrorClass.PROVIDER_SYSTEM, "x", "x", retryable=True)
    refused = Failure(ErrorClass.INVALID_REQUEST, "x", "x", retryable=False)
    take(state, Tick())
    merged = first if len(state.batches[first.batch_id].members) == 2 else second
    row = state.batches[merged.batch_id]
    take(state, StepOutcome(row.batch_id, row.epoch, 0, "w", 0, failure=again if how == "retry" else refused))
    request = state.requests[accept(2, 0, 0).request_id]
    assert {state.batches[p].state for p in request.parts} >= {"leased"}
    assert request.state == "running"


def test_a_report_without_a_bound_of_retention_keeps_its_oldest_days() -> None:
    endless = {"DV360": {REPORT: replace(CATALOGUE["DV360"][REPORT], retention_days=0)}}
    state = State(replace(rules(), catalogue=endless), now=NOW)
    (offer,) = take(state, accept(1, TODAY - 2_000, TODAY - 1_990)).offers
    assert ends(take(state, ended(offer, file=result_of(offer))))[request_id(1)]["records_fetched"] == 22
