"""What follows from a step's outcome: retries, splits, closures, costs and news."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.domain import closing
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Accept, Ask, Cancel, Offer, StepOutcome, Tick
from app.domain.model import Quota
from app.domain.retry import RetryPolicy
from app.domain.state import Changes, State, restore
from app.testing.planning import (
    NOW,
    TODAY,
    Rows,
    accept,
    batches,
    facts,
    quota,
    reasons,
    request_id,
    result_of,
    rules,
    take,
)

UNAVAILABLE = Failure(ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503", retryable=True, system=True)
REFUSED = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "No such column.", retryable=False)
SLIDING = quota("per_minute", 100, 60_000)


def begun(*accepts: Accept, quotas: tuple[Quota, ...] = (), **changes: Any) -> tuple[State, Changes]:
    state = State(rules(quotas, retry=RetryPolicy(3, 8.0, 300.0), **changes), now=NOW)
    return state, take(state, *accepts)


def ended(offer: Offer, **what: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **what)


def call(state: State, offer: Offer, *names: str, data: bool = False) -> None:
    """Permits for some calls of a step."""
    take(state, *(Ask(n, "w", offer.batch_id, offer.epoch, offer.step_no, "reports", data) for n in names))


def throttled(quota_name: str | None = None, until_s: float | None = None) -> Failure:
    return Failure(ErrorClass.QUOTA, "rate_limited", "429", retryable=True, throttle=Throttle(quota_name, until_s))


def ends(changes: Changes) -> dict[str | None, dict[str, Any]]:
    return {e.request_id: {"type": e.type} | e.data for e in changes.events if e.request_id}


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


def test_nobody_attaches_to_a_fetch_that_was_refused_as_a_whole() -> None:
    state, first = begun(accept(1, TODAY, TODAY, fields=("forbidden",)), accept(2, TODAY, TODAY, fields=("forbidden",)))
    (alone,) = take(state, ended(first.offers[0], failure=REFUSED)).offers
    take(state, accept(3, TODAY, TODAY))
    assert request_id(3) not in state.batches[alone.batch_id].members
    take(state, ended(alone, failure=REFUSED))
    assert state.requests[request_id(3)].state in ("queued", "running")


# throttles


def test_a_throttle_closes_its_bucket_for_everybody_until_the_providers_time_and_says_so_once() -> None:
    state, first = begun(accept(1, TODAY, TODAY), accept(2, TODAY, TODAY, connector=facts(2)), quotas=(SLIDING,))
    one, two = first.offers
    told = take(state, ended(one, failure=throttled("per_minute", 7.0)))
    assert [(e.type, e.data["until"], e.data["source"], e.data["spent_by_others"]) for e in told.events] == [
        ("rate_limit_hit", NOW + 7_000, "provider", True)
    ]
    assert reasons(state)[one.batch_id] == {"reason": "quota", "until": NOW + 7_000, "bucket": "per_minute"}
    more = take(state, ended(two, failure=throttled("per_minute", 6.0)), accept(3, TODAY, TODAY, connector=facts(3)))
    assert not more.events
    assert not more.offers
    assert not take(state, Tick(), at=NOW + 6_999).offers
    again = take(state, Tick(), at=NOW + 7_000)
    assert len(again.offers) == 3
    assert [b.attempts for b in batches(state)] == [0, 0, 0], "a throttle is no attempt"


def test_a_closure_outlives_the_planner() -> None:
    rows = Rows()
    state, first = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    rows.write(first)
    rows.write(take(state, ended(first.offers[0], failure=throttled(None, 7.0))))
    heir = restore(state.rules, rows.read(), NOW)
    assert not take(heir, accept(2, TODAY, TODAY, connector=facts(2)), at=NOW + 6_999).offers
    assert len(take(heir, Tick(), at=NOW + 7_000).offers) == 2


def test_closures_without_a_time_double_and_a_second_throttle_meanwhile_is_the_same_closure() -> None:
    state, first = begun(*(accept(n, TODAY, TODAY, connector=facts(n)) for n in (1, 2)), quotas=(SLIDING,))
    spans = []
    for _ in range(3):
        start = state.now
        for offer in first.offers:
            take(state, ended(offer, failure=throttled()))
        until = state.closures["per_minute|"].until
        spans.append(until - start)
        first = take(state, Tick(), at=until)
        assert len(first.offers) == 2
    assert spans == [60_000, 120_000, 240_000]


MINUTE = quota("app_minute", 100, 60_000)
USER = quota("user_minute", 100, 60_000, scope="user")
SECOND = quota("app_second", 4, 1_000)
HOUR = quota("account_hour", 100, 3_600_000, scope="account")
DAY = quota("app_day", 100, 86_400_000, calendar_zone="UTC")
ENTITIES = quota("entities_minute", 100, 60_000, charge="entities")
DAY_END = NOW + 12 * 3_600_000 + 60_000


@pytest.mark.parametrize(
    ("quotas", "named", "until_s", "closed", "until"),
    [
        ((SECOND, MINUTE, USER, HOUR, DAY), None, 7.0, "app_minute|", NOW + 7_000),
        ((SECOND, USER, HOUR, DAY), None, None, "app_second|", NOW + 60_000),
        ((USER, HOUR, DAY), None, None, "user_minute|someone", NOW + 60_000),
        ((HOUR, DAY), None, None, "account_hour|acc1", NOW + 60_000),
        ((ENTITIES, SECOND), None, None, "app_second|", NOW + 60_000),
        ((MINUTE, HOUR, DAY), "account_hour", None, "account_hour|acc1", NOW + 60_000),
        ((MINUTE, HOUR, DAY), "app_day", None, "app_day|", DAY_END),
        ((MINUTE, HOUR, DAY), "app_day", 39_600.0, "app_day|", NOW + 39_600_000),
        ((MINUTE, ENTITIES), "entities_minute", 9.0, "entities_minute|", NOW + 9_000),
        ((MINUTE, DAY), "unheard_of", None, "app_minute|", NOW + 60_000),
        ((MINUTE,), None, 0.0, "app_minute|", NOW + 1_000),
        ((MINUTE,), None, -1e9, "app_minute|", NOW + 1_000),
        ((MINUTE,), None, 1e12, "app_minute|", NOW + 26 * 3_600_000),
        ((MINUTE,), None, float("inf"), "app_minute|", NOW + 26 * 3_600_000),
    ],
)
def test_which_bucket_a_throttle_closes_and_until_when(
    quotas: tuple[Quota, ...], named: str | None, until_s: float | None, closed: str, until: int
) -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=quotas)
    call(state, first.offers[0], "ask1")
    told = take(state, ended(first.offers[0], failure=throttled(named, until_s)))
    assert {key: row.until for key, row in state.closures.items()} == {closed: until}
    assert [(e.type, e.data["bucket"], e.data["until"]) for e in told.events] == [("rate_limit_hit", closed, until)]
    (batch,) = batches(state)
    assert (batch.attempts, batch.priority_class, state.requests[request_id(1)].attempts) == (0, 3, 0)


def test_a_throttle_means_what_its_own_call_has_spent() -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=(MINUTE, ENTITIES))
    (offer,) = first.offers
    call(state, offer, "ask1")
    take(state, Ask("ask2", "w", offer.batch_id, offer.epoch, offer.step_no, "entities"), at=NOW + 1)
    take(state, ended(offer, failure=throttled()))
    assert list(state.closures) == ["entities_minute|"]


def test_a_throttle_with_a_time_is_no_step_of_the_doubling() -> None:
    state, changes = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    spans = []
    for until_s in (None, 30.0, None, None):
        start = state.now
        take(state, ended(changes.offers[0], failure=throttled(None, until_s)))
        spans.append(state.closures["per_minute|"].until - start)
        changes = take(state, Tick(), at=state.closures["per_minute|"].until)
    assert spans == [60_000, 30_000, 60_000, 120_000]


def test_closures_double_up_to_an_hour_and_begin_anew_after_a_quiet_time() -> None:
    state, changes = begun(accept(1, TODAY, TODAY), quotas=(SLIDING,))
    spans = []
    for quiet_ms in (*[0] * 8, 2 * 3_600_000):
        start = state.now
        take(state, ended(changes.offers[0], failure=throttled()))
        until = state.closures["per_minute|"].until
        spans.append(until - start)
        changes = take(state, Tick(), at=until + quiet_ms)
        if quiet_ms:
            take(state, ended(changes.offers[0], failure=throttled()))
            spans.append(state.closures["per_minute|"].until - state.now)
    assert spans == [60_000 * n for n in (1, 2, 4, 8, 16, 32, 60, 60, 60, 1)]


@pytest.mark.parametrize(
    ("quotas", "named", "closed"),
    [
        ((SLIDING, quota("per_user", 9, 60_000, scope="user")), None, "per_minute|"),
        ((SLIDING, quota("per_user", 9, 60_000, scope="user")), "per_user", "per_user|someone"),
        ((SLIDING,), "of_another_name", "per_minute|"),
        ((quota("per_hour", 9, 3_600_000, scope="account"),), None, "per_hour|acc1"),
    ],
)
def test_a_throttle_closes_what_it_names_else_the_broadest_short_bucket(
    quotas: tuple[Quota, ...], named: str | None, closed: str
) -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=quotas)
    take(state, ended(first.offers[0], failure=throttled(named, 9.0)))
    assert {k: c.until for k, c in state.closures.items()} == {closed: NOW + 9_000}


def test_without_any_bucket_the_providers_time_still_counts() -> None:
    state, first = begun(accept(1, TODAY, TODAY))
    take(state, ended(first.offers[0], failure=throttled(None, 30.0)))
    assert not take(state, Tick(), at=NOW + 29_999).offers
    assert take(state, Tick(), at=NOW + 30_000).offers


def test_a_days_quota_closes_until_the_providers_midnight() -> None:
    day = quota("per_day", 100, 86_400_000, calendar_zone="America/Los_Angeles")
    state, first = begun(accept(1, TODAY, TODAY), quotas=(day,))
    take(state, ended(first.offers[0], failure=throttled("per_day")))
    assert state.closures["per_day|"].until == NOW + 19 * 3_600_000 + 60_000, "07:00 UTC, and the guard"


def test_our_own_full_count_is_told_once_until_it_was_not_full_for_a_period() -> None:
    state, first = begun(accept(1, TODAY, TODAY), quotas=(quota("per_minute", 1, 60_000),))
    call(state, first.offers[0], "ask1")
    told = take(state, accept(2, TODAY, TODAY, connector=facts(2)))
    assert [(e.type, e.data["source"], e.data["bucket"]) for e in told.events] == [
        ("rate_limit_hit", "local", "per_minute|")
    ]
    assert not take(state, Tick(), at=NOW + 30_000).events


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
