"""Whom a call is attributed to, when its entry is written, and what is kept until then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.ledger import WHOLE, Entry, WindowCount, outcome_of
from app.domain.messages import Ask, Cancel, Offer, Returned, StepOutcome, Tick
from app.domain.rate_limit import PermitRow
from app.domain.state import Changes, State, restore
from app.streams import internal
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, request_id, result_of, rules, take

MINUTE = 60_000
LIFETIME_MS = 130_000


class Planner:
    """A planner with its durable rows and all that it wrote into the ledger."""

    def __init__(self, *quotas: Any, **changes: Any) -> None:
        self.rules = rules(quotas or [quota(limit=100)], minimum=1, **changes)
        self.state, self.rows = State(self.rules, now=NOW), Rows()
        self.ledger: list[Any] = []

    def tell(self, *messages: Any, at: int | None = None) -> Changes:
        changes = take(self.state, *messages, at=at)
        self.rows.write(changes)
        self.ledger += changes.ledger
        return changes

    def move(self) -> None:
        self.state = restore(self.rules, self.rows.read(), self.state.now)

    def call(self, offer: Offer, name: str = "a", *, at: int | None = None) -> None:
        answers = self.tell(Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, "reports"), at=at).answers
        assert [(a.ask_id, a.denied) for a in answers] == [(name, None)]

    def entries(self) -> list[Entry]:
        return [one for one in self.ledger if isinstance(one, Entry)]

    def windows(self) -> list[WindowCount]:
        return [one for one in self.ledger if isinstance(one, WindowCount)]


def merged(count: int, **changes: Any) -> tuple[Planner, Offer]:
    """So many requests of one day, with labels, in one batch whose first step is offered."""
    planner = Planner(**changes)
    changes_ = planner.tell(*(accept(n, TODAY, TODAY, labels={"n": str(n)}) for n in range(1, count + 1)))
    return planner, changes_.offers[0]


def shares(entry: Entry) -> dict[str, int]:
    return {one.request_id: one.millionths for one in entry.members}


def back(name: str = "a", ok: int = 1) -> Returned:
    return Returned((name,), ((name, 90, ok),), (name,))


def cancel(number: int) -> Cancel:
    return Cancel(request_id(number), 1, facts().connector_id)


def done(offer: Offer) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=result_of(offer))


def test_a_call_is_shared_by_the_requests_it_was_made_for() -> None:
    planner, offer = merged(3)
    planner.call(offer, at=NOW + 5)
    planner.tell(back(), at=NOW + 99)
    (entry,) = planner.entries()
    assert (entry.granted_at, entry.ended_at, entry.outcome) == (NOW + 5, NOW + 99, "answered")
    assert (entry.batch_id, entry.charge, entry.buckets) == (offer.batch_id, "reports", ("per_second|",))
    assert (entry.org_id, entry.connector_id, entry.connector_type) == (1, facts().connector_id, "DV360")
    assert [one.labels for one in entry.members] == [{"n": "1"}, {"n": "2"}, {"n": "3"}]
    assert (sorted(shares(entry).values()), sum(shares(entry).values())) == ([333_300, 333_300, 333_400], WHOLE)


def test_a_request_cancelled_while_the_call_is_out_has_had_it_made() -> None:
    planner, offer = merged(2)
    planner.call(offer)
    planner.tell(cancel(1), back())
    assert shares(planner.entries()[0]) == {request_id(1): 500_000, request_id(2): 500_000}
    planner.call(offer, "b")
    planner.tell(back("b"))
    assert shares(planner.entries()[1]) == {request_id(2): WHOLE}


def test_a_request_that_joins_while_the_call_is_out_did_not_cause_it() -> None:
    planner, offer = merged(1)
    planner.call(offer)
    planner.tell(accept(2, TODAY, TODAY), back())
    assert planner.state.batches[offer.batch_id].members == (request_id(1), request_id(2))
    assert shares(planner.entries()[0]) == {request_id(1): WHOLE}


def test_a_call_with_nobody_left_is_the_organisations_alone() -> None:
    planner, offer = merged(1)
    # Somebody was answered from older data meanwhile, so that it goes on.
    planner.state.put_batch(replace(planner.state.batches[offer.batch_id], refresh=True))
    planner.tell(cancel(1))
    planner.call(offer)
    planner.tell(back())
    (entry,) = planner.entries()
    assert (entry.org_id, entry.connector_id, entry.members) == (1, facts().connector_id, ())


@pytest.mark.parametrize("moves", [False, True])
def test_an_entry_is_whole_when_its_batch_and_requests_ended_before_it_came_back(moves: bool) -> None:
    planner, offer = merged(2)
    planner.call(offer)
    planner.tell(done(offer))
    assert (planner.state.batches, planner.state.requests) == ({}, {})
    if moves:
        planner.move()
    planner.tell(back())
    assert shares(planner.entries()[0]) == {request_id(1): 500_000, request_id(2): 500_000}
    assert [key for key in planner.rows.read() if key.startswith("a/")] == [], "nothing needs them any longer"


def test_one_row_names_the_members_of_all_calls_and_permits_stay_small() -> None:
    planner, offer = merged(200)
    planner.call(offer, "a" * 32)
    for number in range(9):
        planner.call(offer, f"{number:032x}")
    permits = [row for row in planner.rows.read().values() if isinstance(row, PermitRow)]
    assert [key for key in planner.rows.read() if key.startswith("a/")] == [f"a/{'a' * 32}"]
    assert len(permits) == 10
    assert max(len(internal.dump_row(row) or b"") for row in permits) < 400
    planner.tell(*(back(row.ask_id) for row in permits))
    assert len(planner.entries()) == 10
    assert all(sum(shares(one).values()) == WHOLE for one in planner.entries())
    assert [key for key in planner.rows.read() if key.startswith("a/")] == [f"a/{'a' * 32}"], "the batch may go on"
    planner.tell(done(offer))
    assert [key for key in planner.rows.read() if key.startswith("a/")] == []


@pytest.mark.parametrize("moves", [False, True])
def test_rows_that_say_no_longer_who_pays_go_with_their_last_permit(moves: bool) -> None:
    planner, offer = merged(2)
    planner.call(offer, "a")
    planner.tell(cancel(1))
    planner.call(offer, "b")
    assert {key for key in planner.rows.read() if key.startswith("a/")} == {"a/a", "a/b"}
    if moves:
        planner.move()
    planner.tell(back("a"))
    planner.call(offer, "c")
    assert {key for key in planner.rows.read() if key.startswith("a/")} == {"a/b"}
    planner.tell(back("b"), back("c"))
    assert [sorted(shares(one)) for one in planner.entries()] == [
        [request_id(1), request_id(2)], [request_id(2)], [request_id(2)],
    ]  # fmt: skip


def test_a_permit_that_came_back_unused_has_no_entry_and_is_counted_in_its_window() -> None:
    planner, offer = merged(1)
    planner.call(offer)
    planner.tell(Returned(("a",), (), ()))
    planner.tell(Tick(), at=NOW + MINUTE)
    assert planner.entries() == []
    assert [(w.start, w.end, w.calls) for w in planner.windows()] == [(NOW, NOW + MINUTE, 1)]


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (Returned(("a",), (("a", 9, 1),), ("a",)), "answered"),
        (Returned(("a",), (("a", 9, 0),), ("a",)), "failed"),
        (Returned(("a",), (), ("a",)), "unknown"),
        (Returned(("a",), (("a", 9, 0),), ()), None),
        (Returned(("a",), (), ()), None),
        (Returned(("a",), (("a", 9, 1),)), "answered"),
        (Returned(("a",), (("a", 9, 0),)), "failed"),
        (Returned(("a",)), None),
    ],
)
def test_what_a_return_says_of_its_call(message: Returned, outcome: str | None) -> None:
    """The last three are of workers that did not tell what left."""
    assert outcome_of(message, "a") == outcome


@pytest.mark.parametrize("moves", [False, True])
def test_a_permit_that_never_comes_back_is_written_once_its_call_must_have_ended(moves: bool) -> None:
    planner, offer = merged(1, max_concurrent=1)
    planner.state.limits_of_type("DV360").quotas = [quota(limit=100, period_ms=3_600_000)]
    planner.call(offer)
    if moves:
        planner.move()
    planner.tell(Tick(), at=NOW + LIFETIME_MS - 1)
    assert planner.entries() == []
    planner.tell(Tick(), at=NOW + LIFETIME_MS)
    (entry,) = planner.entries()
    assert (entry.outcome, entry.ended_at, shares(entry)) == ("unknown", None, {request_id(1): WHOLE})
    assert "a" in planner.state.permits, "its bucket counts it for longer"
    planner.move()
    planner.tell(back(), Tick(), at=NOW + LIFETIME_MS + 1)
    planner.tell(Tick(), at=NOW + 4 * 3_600_000)
    assert planner.entries() == [entry], "a return that comes after all is not written again"
    assert planner.state.permits == {}


def test_an_ask_that_is_granted_anew_is_a_call_of_its_own() -> None:
    """A reminder of the first permit under that name comes while the second one is out."""
    planner, offer = merged(1, lease_ms=10 * MINUTE)
    planner.call(offer)
    planner.tell(Returned(("a",), (), ()))
    planner.tell(Tick(), at=NOW + MINUTE)
    planner.call(offer, at=NOW + 100_000)
    planner.tell(Tick(), at=NOW + LIFETIME_MS)
    assert planner.entries() == []
    planner.tell(Tick(), at=NOW + 100_000 + LIFETIME_MS)
    assert [(one.granted_at, one.outcome) for one in planner.entries()] == [(NOW + 100_000, "unknown")]


def test_an_ask_that_is_granted_anew_leaves_others_payers_alone() -> None:
    planner, offer = merged(2, lease_ms=10 * MINUTE)
    planner.call(offer, "a")
    planner.tell(Returned(("a",), (), ()))
    planner.tell(Tick(), at=NOW + MINUTE)
    planner.call(offer, "b")
    planner.tell(cancel(1))
    planner.call(offer, "a")
    planner.tell(back("b"), back("a"))
    assert [sorted(shares(one)) for one in planner.entries()] == [[request_id(1), request_id(2)], [request_id(2)]]


def test_a_permit_of_a_version_without_a_ledger_is_read_and_has_no_entry() -> None:
    old = b'{"ask_id":"a","batch_id":"bat_1","charge":"reports","keys":["per_second|"],"granted_at":%d}' % NOW
    state = restore(rules([quota()]), {"p/a": internal.load_row("p/a", old)}, NOW)
    assert take(state, back(), at=NOW + 10).ledger == []
    later = take(state, Tick(), at=NOW + MINUTE)
    assert [type(one) for one in later.ledger] == [WindowCount]
    assert state.permits == {}


def test_a_window_is_told_once_when_it_closes_whoever_plans() -> None:
    planner, offer = merged(1)
    planner.call(offer, "a", at=NOW + 100)
    planner.tell(back("a"), at=NOW + 2_000)
    planner.tell(Tick(), at=NOW + 10_000)
    assert planner.state.limits_of_type("DV360").buckets["per_second|"].used(NOW + 10_000) == 0
    planner.move()
    planner.call(offer, "b", at=NOW + 50_000)
    planner.tell(back("b"), done(offer), at=NOW + 51_000)
    planner.tell(Tick(), at=NOW + MINUTE - 1)
    assert planner.windows() == []
    planner.tell(Tick(), at=NOW + MINUTE)
    told = WindowCount("DV360", "per_second|", None, 100, NOW, NOW + MINUTE, 2)
    assert planner.windows() == [told]
    planner.move()
    planner.tell(Tick(), at=NOW + MINUTE + 1)
    planner.tell(Tick(), at=NOW + 10 * MINUTE)
    assert planner.windows() == [told]


def test_a_window_that_closed_while_nobody_planned_is_told_by_the_heir() -> None:
    planner, offer = merged(1)
    planner.call(offer, "a")
    planner.tell(back("a"))
    planner.move()
    planner.tell(Tick(), at=NOW + 100 * MINUTE)
    assert [w.calls for w in planner.windows()] == [1]


def test_a_window_is_as_long_as_its_quota_and_aligned_to_the_epoch() -> None:
    planner = Planner(quota(period_ms=70_000))
    (offer,) = planner.tell(accept(1, TODAY, TODAY)).offers
    planner.call(offer)
    start = NOW // 70_000 * 70_000
    planner.tell(Tick(), at=start + 70_000)
    assert [(w.start, w.end) for w in planner.windows()] == [(start, start + 70_000)]


def test_a_bucket_that_two_organisations_spend_from_is_neithers() -> None:
    planner = Planner(quota("per_user", 9, MINUTE, scope="user"), quota("per_account", 9, MINUTE, scope="account"))
    one, other = facts(1), replace(facts(2), org_id=2)
    offers = planner.tell(accept(1, TODAY, TODAY, connector=one), accept(2, TODAY, TODAY, connector=other)).offers
    for number, offer in enumerate(offers):
        planner.call(offer, str(number))
    planner.move()
    planner.tell(Tick(), at=NOW + MINUTE)
    found = {w.bucket: (w.org_id, w.calls) for w in planner.windows()}
    assert found == {"per_user|someone": (None, 2), "per_account|acc1": (1, 1), "per_account|acc2": (2, 1)}


def test_a_day_is_told_when_its_guard_is_over() -> None:
    day = quota("per_day", 9, 86_400_000, calendar_zone="America/Los_Angeles")
    planner = Planner(day)
    (offer,) = planner.tell(accept(1, TODAY, TODAY)).offers
    planner.call(offer)
    planner.move()
    midnight = NOW + 19 * 3_600_000
    planner.tell(Tick(), at=midnight + planner.rules.clock_guard_ms - 1)
    assert planner.windows() == []
    changes = planner.tell(Tick(), at=midnight + planner.rules.clock_guard_ms)
    assert (bool(changes), changes.rows, changes.views) == (True, {}, {}), "a change, and so it becomes durable"
    told = WindowCount("DV360", "per_day|", None, 9, midnight - 86_400_000, midnight, 1)
    assert planner.windows() == [told]
    planner.move()
    planner.tell(Tick(), at=midnight + 86_400_000)
    assert planner.windows() == [told]
