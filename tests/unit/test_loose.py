"""Permits for calls that belong to no fetch."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from app.domain.messages import Answer, Ask, Returned, Tick
from app.domain.state import State, restore
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, rules, take

PER_MINUTE = quota("per_minute", 2, 60_000)
NEW = facts(9, connector_id="", account_id="", grant_id="grant_new")


def loose(name: str, **changes: Any) -> Ask:
    return Ask(name, "w", None, 0, 0, "reports", connector=replace(NEW, **changes))


def test_it_spends_from_the_same_buckets_and_comes_back() -> None:
    rows = Rows()
    state = State(rules((PER_MINUTE,)), now=NOW)
    changes = take(state, loose("a"), loose("b"), loose("c"))
    rows.write(changes)
    assert changes.answers == [Answer("a", "w"), Answer("b", "w"), Answer("c", "w", "quota", NOW + 60_001, 60_001)]
    heir = restore(state.rules, rows.read(), NOW)
    assert heir.limits["DV360"].buckets["per_minute|"].used(NOW) == 2
    take(heir, Returned(("a",), (("a", 5, 1),)))
    assert take(heir, loose("d"), at=NOW + 60_000).answers == []
    assert take(heir, Tick(), at=NOW + 60_001).answers == [Answer("d", "w")]
    assert heir.health == {}, "there is no connector whose health it could be"


def test_it_waits_for_a_while_for_what_is_soon_free() -> None:
    state = State(rules((quota(limit=1),)), now=NOW)
    take(state, loose("a"))
    take(state, Returned(("a",)))
    assert take(state, loose("b")).answers == []
    assert take(state, Tick(), at=NOW + 1_001).answers == [Answer("b", "w")]


def test_what_a_fetch_has_reserved_is_not_its_own() -> None:
    day = quota("per_day", 3, 86_400_000, calendar_zone="UTC")
    state = State(rules((day,), minimum=3), now=NOW)
    (offer,) = take(state, accept(1, TODAY, TODAY)).offers
    assert [a.denied for a in take(state, loose("a")).answers] == [], "it is asked again soon"
    ask = Ask("b", "w", offer.batch_id, offer.epoch, offer.step_no, "reports")
    assert [a.denied for a in take(state, ask).answers] == [None]


def test_begun_fetches_come_first_and_it_comes_before_worse_classes() -> None:
    second = quota(limit=1, period_ms=1_000)
    state = State(rules((second,), minimum=1), now=NOW)
    begun, new = take(state, *(accept(n, TODAY, TODAY, connector=facts(n)) for n in (1, 2))).offers
    first = Ask("first", "w", begun.batch_id, begun.epoch, begun.step_no, "reports")
    assert len(take(state, first).answers) == 1
    take(state, Returned(("first",)))
    waiting = (
        Ask("new", "w", new.batch_id, new.epoch, new.step_no, "reports"),
        loose("loose"),
        replace(first, ask_id="begun"),
    )
    take(state, *waiting)
    served = []
    for n in range(1, 4):
        answers = take(state, Tick(), at=NOW + n * 1_001).answers
        served += [a.ask_id for a in answers]
        take(state, *(Returned((a.ask_id,)) for a in answers))
    assert served == ["begun", "loose", "new"]


def test_the_reserve_is_for_it_too() -> None:
    state = State(rules((quota("per_hour", 2, 3_600_000, reserve=Decimal("0.5")),)), now=NOW)
    assert [a.denied for a in take(state, loose("a"), loose("b")).answers] == [None, None]


def test_an_ask_that_names_nobody_is_refused() -> None:
    state = State(rules((PER_MINUTE,)), now=NOW)
    assert take(state, Ask("a", "w", None, 0, 0, "reports")).answers == [Answer("a", "w", "stale")]


def test_a_bucket_closed_by_rows_in_doubt_holds_it_as_well() -> None:
    state = State(rules((PER_MINUTE,)), now=NOW)
    state.limits_of_type("DV360").close("per_minute|*", NOW + 90_000)
    assert take(state, loose("a")).answers == [Answer("a", "w", "quota", NOW + 90_000, 90_000)]


def test_an_ask_that_its_worker_is_about_to_give_up_spends_nothing() -> None:
    """Permits are valid for 10 s from the ask; what is granted in the last of them would hardly be used."""
    state = State(rules((quota(limit=1, period_ms=9_000),)), now=NOW)
    take(state, loose("a"))
    take(state, Returned(("a",)))
    take(state, loose("old"), at=NOW)
    take(state, loose("new"), at=NOW + 2)
    assert take(state, Tick(), at=NOW + 9_001).answers == [Answer("new", "w")]
