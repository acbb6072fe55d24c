"""What a planner says of this moment, and that saying it changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace

from app.domain import board, estimate
from app.domain.health import Health
from app.domain.messages import Ask, Offer, Returned, StepOutcome, Tick
from app.domain.state import State, restore
from app.services.board import Boards, OwnedBoard, Recent
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, request_id, result_of, rules, take

LATER = NOW + 5_000


def done(offer: Offer) -> StepOutcome:
    """The step that wrote the offer's whole result."""
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, file=result_of(offer))


def waiting(*accepts: object) -> State:
    """A planner whose provider said *not now* until a minute later, with these commands."""
    state = State(rules([quota()]), now=NOW)
    state.limits_of_type("DV360").close("per_second|", NOW + 60_000)
    for message in accepts:
        take(state, message, at=NOW)
    return state


def test_places_are_those_of_the_organisation_and_best_first() -> None:
    other = facts(2, org_id=2)
    state = waiting(
        accept(1, TODAY - 9, TODAY - 8, priority_class=5),
        accept(2, TODAY - 7, TODAY - 6, connector=other, priority_class=2),
        accept(3, TODAY - 5, TODAY - 4, priority_class=1),
        accept(4, TODAY - 3, TODAY - 2, priority_class=3),
    )
    mine = board.queue(state, 1, NOW, 2)
    assert mine.positions == (1, 3, 4)
    assert [(p.accept.request_id, p.position) for p in mine.first] == [
        (request_id(3), 1), (request_id(4), 3),
    ]  # fmt: skip
    assert state.queued == 4
    assert board.queue(state, 3, NOW, 2) == board.Queue((), (), estimate.NOW)
    assert mine.first[0].waiting == {"reason": "quota", "until": NOW + 60_000, "bucket": "per_second"}


def test_a_reason_is_known_of_those_too_that_nobody_looked_at() -> None:
    shut = waiting(*(accept(n, TODAY - n, TODAY - n, connector=facts(n)) for n in (1, 2, 3)))
    reasons = [p.waiting for p in board.queue(shut, 1, NOW, 9).first]
    assert reasons == [{"reason": "quota", "until": NOW + 60_000, "bucket": "per_second"}] * 3
    busy = State(rules([quota(limit=50)], max_concurrent=1), now=NOW)
    take(busy, *(accept(n, TODAY - n, TODAY - n, connector=facts(n)) for n in (1, 2, 3)))
    assert [p.waiting for p in board.queue(busy, 1, NOW, 9).first] == [{"reason": "concurrency", "until": None}] * 2


def test_members_of_a_batch_share_its_place() -> None:
    state = waiting(accept(1, TODAY - 9, TODAY - 5), accept(2, TODAY - 6, TODAY - 2))
    assert board.queue(state, 1, NOW, 9).positions == (1, 1)


def test_the_wait_shrinks_with_time_without_a_step() -> None:
    state = waiting(accept(1, TODAY - 9, TODAY - 8))
    now, later = board.place(state, request_id(1), NOW), board.place(state, request_id(1), LATER)
    assert now is not None
    assert later is not None
    assert (now.wait.p50_s, later.wait.p50_s) == (60.0, 55.0)


def test_the_count_of_queued_requests_follows_every_move() -> None:
    state = State(rules([quota()]), now=NOW)
    changes = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW)
    assert (state.queued, len(state.by_org[1])) == (0, 1)  # it runs already
    take(state, done(changes.offers[0]))
    assert (state.queued, state.by_org) == (0, {})


def test_the_indexes_come_back_with_the_rows() -> None:
    state, rows = State(rules([quota()]), now=NOW), Rows()
    state.limits_of_type("DV360").close("per_second|", NOW + 60_000)
    for number in (1, 2, 3):
        rows.write(
            take(state, accept(number, TODAY - number, TODAY - number, connector=facts(number, org_id=number % 2 + 1)))
        )
    again = restore(state.rules, rows.read(), NOW)
    assert (again.queued, again.by_org) == (state.queued, state.by_org) == (3, again.by_org)


def test_looking_frees_no_permit_early() -> None:
    state = State(rules([quota(limit=1)]), now=NOW)
    offer = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW).offers[0]
    ask = Ask("a", "w", offer.batch_id, offer.epoch, offer.step_no, "reports")
    take(state, ask)
    before = copy.deepcopy(state.limits_of_type("DV360").buckets)
    shown = OwnedBoard(state, NOW + 3_600_000, lambda _: facts(), Recent(lambda: 0.0)).part(1, [facts().connector_id])
    assert shown["connectors"][facts().connector_id]["rate_limit"]["remaining"] == 1  # an hour from now it is free
    assert state.limits_of_type("DV360").buckets == before
    assert take(state, replace(ask, ask_id="b")).answers == []  # and now it is not


def test_health_is_made_of_returned_permits_and_is_durable() -> None:
    state, rows = State(rules([quota()]), now=NOW), Rows()
    offer = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW).offers[0]
    for name in ("a", "b", "c"):
        rows.write(take(state, Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, "reports")))
    # the third never left: it says nothing of the provider
    returned = Returned(("a", "b", "c"), (("a", 100, 1), ("b", 300, 0)))
    rows.write(take(state, returned, at=NOW + 50))
    rows.write(take(state, returned, at=NOW + 60))  # told twice, counted once
    again = restore(state.rules, rows.read(), NOW)
    for one in (state, again):
        told = board.health(one, facts().connector_id, NOW + 60)
        assert (told.status, told.calls, told.latency_ms, told.error_rate) == ("unhealthy", 2, 200, 0.5)
    assert isinstance(again.health[facts().connector_id], Health)


def test_a_plan_counts_what_is_held_what_runs_and_what_is_left() -> None:
    state = State(rules([quota(limit=10)]), now=NOW)
    offer = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW).offers[0]
    take(state, done(offer))
    take(state, accept(2, TODAY - 7, TODAY - 6), at=NOW + 1)
    plan = board.plan(state, accept(3, TODAY - 9, TODAY - 4), state.now)
    assert (plan.outcome, plan.asked, plan.held, plan.running, plan.to_fetch) == ("queue", 6, 2, 2, 2)
    assert plan.calls == {"reports": 3}
    assert [(w.quota.name, calls) for w, calls in plan.windows] == [("per_second", 3)]
    assert (plan.position, len(plan.new)) == (1, 1)


def test_a_plan_that_needs_nothing_costs_nothing() -> None:
    state = State(rules([quota(limit=10)]), now=NOW)
    offer = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW).offers[0]
    assert board.plan(state, accept(2, TODAY - 9, TODAY - 9), state.now).outcome == "attach"
    take(state, done(offer))
    plan = board.plan(state, accept(2, TODAY - 9, TODAY - 9), state.now)
    assert (plan.outcome, plan.calls, plan.position, plan.wait) == ("reuse", {"reports": 0}, None, estimate.NOW)


def test_a_plan_joins_what_waits_and_may_bring_it_forward() -> None:
    state = waiting(
        accept(1, TODAY - 20, TODAY - 19, priority_class=2), accept(2, TODAY - 9, TODAY - 5, priority_class=5)
    )
    same = board.plan(state, accept(3, TODAY - 6, TODAY - 2, priority_class=5), state.now)
    better = board.plan(state, accept(3, TODAY - 6, TODAY - 2, priority_class=1), state.now)
    assert (same.outcome, same.position, better.outcome, better.position) == ("merge", 2, "merge", 1)
    assert (same.calls, same.waiting) == (
        {"reports": 0}, {"reason": "quota", "until": NOW + 60_000, "bucket": "per_second"},
    )  # fmt: skip


def test_a_queue_that_takes_long_to_walk_is_not_walked_for_every_caller() -> None:
    state, clock, walks = State(rules(), now=NOW), [0.0], []

    def walk(took_s: float) -> dict[str, object]:
        clock[0] += took_s
        walks.append(took_s)
        return {"walk": len(walks)}

    recent = Recent(lambda: clock[0])
    assert recent.queue(state, 1, "first", lambda: walk(0.4)) == ("first", {"walk": 1})
    clock[0] = 4.3
    assert recent.queue(state, 1, "later", lambda: walk(0.4)) == ("first", {"walk": 1})
    assert recent.queue(state, 2, "later", lambda: walk(0.001)) == ("later", {"walk": 2})
    assert recent.queue(state, 2, "again", lambda: walk(0.001)) == ("again", {"walk": 3})
    clock[0] = 4.5
    assert recent.queue(state, 1, "new", lambda: walk(0.4)) == ("new", {"walk": 4})


def test_a_plan_after_an_idle_hour_is_of_now_and_spends_nothing() -> None:
    """Without requests the planner is not woken: its own time is that of its last step."""
    state = State(rules([quota(limit=1)]), now=NOW)
    offer = take(state, accept(1, TODAY, TODAY), at=NOW).offers[0]
    take(state, Ask("a", "w", offer.batch_id, offer.epoch, offer.step_no, "reports", data=True))
    take(state, done(offer), Returned(("a",)))
    later = NOW + 3_600_000
    assert board.plan(state, accept(2, TODAY, TODAY), NOW).outcome == "reuse"
    before = copy.deepcopy(state.limits_of_type("DV360").buckets)
    plan = board.plan(state, accept(2, TODAY, TODAY), later)
    assert (plan.outcome, plan.waiting) == ("queue", None)
    assert [w.remaining for w, _ in plan.windows] == [1]
    assert state.limits_of_type("DV360").buckets == before
    assert take(state, accept(2, TODAY, TODAY, accepted_at=later), at=later).offers


def test_a_plan_says_that_the_queue_is_full_or_every_slot_taken() -> None:
    full = State(rules([quota(limit=50)], max_live=1), now=NOW)
    take(full, accept(1, TODAY - 9, TODAY - 8), at=NOW)
    assert board.plan(full, accept(2, TODAY - 3, TODAY - 3), NOW).outcome == "queue_full"
    busy = State(rules([quota(limit=50)], max_concurrent=1), now=NOW)
    take(busy, accept(1, TODAY - 9, TODAY - 8), at=NOW)
    assert board.plan(busy, accept(2, TODAY - 3, TODAY - 3), NOW).waiting == {"reason": "concurrency", "until": None}


def test_a_reason_of_its_own_is_not_that_of_the_others() -> None:
    state = State(rules([quota(limit=50)], max_concurrent=2), now=NOW)
    first = accept(1, TODAY - 9, TODAY - 5, priority_class=1)
    again = accept(2, TODAY - 6, TODAY - 2, priority_class=1, force=True)
    others = [accept(n, TODAY - n, TODAY - n, connector=facts(n), priority_class=5) for n in (3, 4)]
    take(state, first, at=NOW)
    take(state, again, *others, at=NOW)
    reasons = {p.accept.request_id: (p.waiting or {}).get("reason") for p in board.queue(state, 1, NOW, 9).first}
    assert reasons == {request_id(2): "overlapping_fetch", request_id(4): "concurrency"}


def test_a_download_that_breaks_is_health_too() -> None:
    state = State(rules([quota()]), now=NOW)
    offer = take(state, accept(1, TODAY - 9, TODAY - 8), at=NOW).offers[0]
    take(state, Ask("a", "w", offer.batch_id, offer.epoch, offer.step_no, "downloads"))
    take(state, Returned(("a",), (("a", 900, 0),)), at=NOW + 1)
    assert board.health(state, facts().connector_id, NOW + 1).status == "unhealthy"
    take(state, Tick(), at=NOW + 10)
    assert state.permits == {}, "nobody counts it, so nothing is kept of it"


def test_plain_values_for_rest() -> None:
    state = waiting(accept(1, TODAY - 9, TODAY - 8))
    boards = Boards(
        lambda kind: (state, NOW) if kind == "DV360" else None,
        lambda _: "http://other:8003",
        lambda _: facts(),
        lambda: 0.0,
    )
    here = boards.here("DV360")
    assert here is not None
    assert (boards.here("META"), boards.owner("META")) == (None, "http://other:8003")
    live = here.live(request_id(1))
    assert live is not None
    assert (live["queue_position"], live["as_of"]) == (1, "2026-03-10T12:00:00.000Z")
    assert live["waiting"] == {"reason": "quota", "until": "2026-03-10T12:01:00.000Z", "bucket": "per_second"}
    assert live["rate_limit_status"]["current"] == 4  # closed: nothing is left of it
    assert here.live(request_id(9)) is None
    part = here.part(1, [facts().connector_id, "conn_unknown"])
    assert part["queue"]["positions"] == [1]
    assert part["connectors"][facts().connector_id]["health"]["status"] == "unknown"
    dry = here.dry_run(accept(2, TODAY - 9, TODAY - 7))
    assert (dry["dry_run"], dry["outcome"], dry["calls"]) == (True, "merge", {"reports": 0})
    assert [b["members"] for b in dry["batches"]] == [1]
