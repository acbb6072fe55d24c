"""The planner's metrics move with what they count: after a step what became durable, at a scrape the state."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.messages import Answer, Ask, Cancel, Event, Offer, Returned, StepOutcome, Tick, Told, Usage
from app.domain.model import Quota
from app.domain.planner import step
from app.domain.state import Changes, State
from app.streams.ownership import Owner
from app.streams.planner_metrics import PlannerMetrics
from app.telemetry.metrics import PREFIX, Metrics
from app.testing.clock import FakeClock
from app.testing.planning import NOW, REPORT, TODAY, accept, facts, quota, request_id, result_of, rules
from app.testing.planning_world import Faults, PlannerWorld

TYPE = {"connector_type": "DV360"}


class Room:
    """One owned inbox partition and what a scraper sees of it."""

    def __init__(self, *quotas: Quota, **changes: Any) -> None:
        self.metrics, self.clock = Metrics(), FakeClock()
        self.owner = Owner(0, State(rules(quotas, **changes), now=NOW), ready=True, stepped_at=self.clock.monotonic())
        self.owners = {0: self.owner}
        self.feed = PlannerMetrics(self.metrics, self.owners, monotonic=self.clock.monotonic)
        self.now = NOW

    def step(self, *messages: Any, after_ms: int = 0) -> Changes:
        self.now += after_ms
        told = [(message, self.now) for message in messages]
        begun = self.feed.begin(self.owner.state, told)
        changes = step(self.owner.state, told)
        self.owner.stepped_at = self.clock.monotonic()
        self.feed.stepped(0, self.owner.state, begun, len(told), changes)
        return changes

    def seen(self, name: str, **labels: str) -> float | None:
        self.clock.advance(1.0)
        self.metrics.exposition("")
        return self.metrics.registry.get_sample_value(PREFIX + name, TYPE | labels)

    def depth(self) -> dict[str, float | None]:
        return {p: self.seen("queue_depth", priority=p) for p in ("premium", "normal", "scheduled", "backfill")}


def outcome(offer: Offer, **what: Any) -> StepOutcome:
    return StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w", 1, **what)


def fetched(room: Room, *accepts: Any) -> Changes:
    """The accepted requests' one fetch, with its first call at NOW + 1 s and its end 5 s later."""
    first = room.step(*accepts).offers[-1]
    begun = outcome(first, remote={"report": "1"}, first_call_at=NOW + 1_000, ended_at=NOW + 2_000)
    room.step(begun, after_ms=2_000)
    poll = room.step(Tick(), after_ms=5_000).offers[-1]
    return room.step(outcome(poll, file=result_of(poll), first_call_at=NOW + 5_000, ended_at=NOW + 6_000))


def test_queue_depth_counts_queued_requests_by_the_name_of_their_priority() -> None:
    room = Room(max_concurrent=1)
    room.step(accept(1, TODAY, TODAY))
    room.step(accept(2, TODAY, TODAY, connector=facts(2), priority_class=1))
    room.step(*(accept(n, TODAY, TODAY, connector=facts(n), priority_class=5) for n in (3, 4)))
    assert room.depth() == {"premium": 1, "normal": 0, "scheduled": 0, "backfill": 2}
    assert room.seen("live_requests") == 4
    room.step(Cancel(request_id(4), 1, facts(4).connector_id))
    assert room.depth()["backfill"] == 1


def test_a_queue_that_moved_to_another_worker_is_no_longer_shown() -> None:
    room = Room(quota())
    room.step(accept(1, TODAY, TODAY))
    assert room.seen("live_requests") == 1
    room.owner.ready = False
    for name in ("live_requests", "queue_depth", "rate_limit_remaining_ratio"):
        assert room.seen(name, **{"queue_depth": {"priority": "normal"}}.get(name, {})) is None, name
    room.owners.clear()
    assert room.seen("live_requests") is None


def test_the_queue_is_walked_once_a_second_however_often_somebody_scrapes() -> None:
    room = Room()
    assert room.seen("live_requests") == 0
    room.step(accept(1, TODAY, TODAY))
    room.metrics.exposition("")
    assert room.metrics.registry.get_sample_value(PREFIX + "live_requests", TYPE) == 0
    assert room.seen("live_requests") == 1


def test_the_wait_is_counted_once_at_the_first_dispatch() -> None:
    room = Room(max_concurrent=1)
    room.step(accept(1, TODAY, TODAY), after_ms=2_500)
    waits = room.seen("queue_wait_seconds_count", priority="scheduled")
    assert (waits, room.seen("queue_wait_seconds_sum", priority="scheduled")) == (1, 2.5)
    # The same instant again, with another view of the same request.
    offer = room.step(accept(2, TODAY, TODAY, connector=facts(2), priority_class=1))
    assert not offer.offers
    running = next(iter(room.owner.state.batches.values()))
    failed = StepOutcome(running.batch_id, running.epoch, 0, "w", 1, released=True, not_before_s=1.0)
    room.step(failed)
    room.step(Tick(), after_ms=60_000)
    assert room.seen("queue_wait_seconds_count", priority="scheduled") == 1
    assert room.seen("queue_wait_seconds_count", priority="premium") == 1


def test_a_fetch_counts_its_time_its_bytes_and_whom_it_served() -> None:
    room = Room()
    fetched(room, accept(1, TODAY - 5, TODAY), accept(2, TODAY - 6, TODAY - 3, priority_class=1))
    assert room.seen("fetch_duration_seconds_count", report_type=REPORT) == 1
    assert room.seen("fetch_duration_seconds_sum", report_type=REPORT) == 5.0
    assert room.seen("result_bytes_total") == 1_000
    assert room.seen("merged_requests_total") == 2
    assert room.seen("reused_days_total") == 0
    ended = {"report_type": REPORT, "outcome": "completed"}
    assert room.seen("fetch_requests_total", **ended, priority="scheduled") == 1
    assert room.seen("fetch_requests_total", **ended, priority="premium") == 1


def test_days_that_were_there_count_as_reused_and_a_lone_request_as_not_merged() -> None:
    room = Room()
    fetched(room, accept(1, TODAY - 30, TODAY - 20))
    assert room.seen("merged_requests_total") in (None, 0)
    room.step(accept(2, TODAY - 25, TODAY - 21, accepted_at=room.now))
    assert room.seen("reused_days_total") == 5, "wholly reused"
    offer = room.step(accept(3, TODAY - 22, TODAY - 15, accepted_at=room.now), after_ms=1_000).offers[-1]
    assert (offer.start, offer.end) == (TODAY - 19, TODAY - 15)
    room.step(outcome(offer, file=result_of(offer)), after_ms=1_000)
    assert room.seen("reused_days_total") == 5 + 3, "in part"


def asked(room: Room, offer: Offer, name: str) -> list[Answer]:
    ask = Ask(name, "w", offer.batch_id, offer.epoch, offer.step_no, "reports")
    return room.step(ask).answers


def ratio(room: Room, name: str = "per_minute") -> float | None:
    return room.seen("rate_limit_remaining_ratio", quota=name)


def test_a_quota_shows_its_fullest_bucket_and_who_met_its_end() -> None:
    room = Room(quota("per_minute", 4, 60_000, scope="account"), quota("daily", 10, 86_400_000, calendar_zone="UTC"))
    assert ratio(room) is None, "no state yet"
    offers = room.step(*(accept(n, TODAY, TODAY, connector=facts(n)) for n in (1, 2))).offers
    assert ratio(room) == 1.0
    for n in range(3):
        assert asked(room, offers[0], f"a{n}")[0].denied is None
    assert asked(room, offers[1], "b0")[0].denied is None
    assert (ratio(room), ratio(room, "daily")) == (0.25, 0.6)
    asked(room, offers[0], "a3")
    asked(room, offers[0], "a4")
    assert room.seen("rate_limit_hits_total", source="local") == 1
    assert ratio(room) == 0.0
    # Nothing is told to the planner any more: time alone frees the permits.
    room.clock.advance(60 + 10 + 120)
    assert ratio(room) == 1.0
    account = offers[0].connector.account_id
    taken = room.owner.state.limits["DV360"].buckets[f"per_minute|{account}"].taken
    assert len(taken) == 4, "a look expires no permit"


def test_what_others_have_spent_is_not_unspent() -> None:
    room = Room(quota("per_minute", 4, 60_000))
    offer = room.step(accept(1, TODAY, TODAY)).offers[-1]
    asked(room, offer, "a")
    room.step(Returned(("a",), usage=(Told("a", Usage("per_minute", used=3)),)))
    assert ratio(room) == 0.25


def test_a_throttle_shows_as_the_providers_and_as_an_empty_quota() -> None:
    room = Room(quota("per_minute", 4, 60_000))
    offer = room.step(accept(1, TODAY, TODAY)).offers[-1]
    throttle = Throttle("per_minute", 30.0)
    failure = Failure(ErrorClass.QUOTA, "rate_limited", "Not now.", retryable=True, throttle=throttle)
    room.step(outcome(offer, failure=failure))
    assert room.seen("rate_limit_hits_total", source="provider") == 1
    assert ratio(room) == 0.0
    room.clock.advance(30)
    assert ratio(room) == 1.0


def test_calls_are_counted_by_how_they_ended() -> None:
    room = Room(quota())
    offer = room.step(accept(1, TODAY, TODAY)).offers[-1]
    for name in ("a", "b", "c"):
        asked(room, offer, name)
    room.step(Returned(("a", "b", "c"), (("a", 9, 1), ("b", 9, 0)), ("a", "b")), after_ms=10)
    room.step(Tick(), after_ms=60_000)
    seen = [room.seen("ledger_calls_total", outcome=one) for one in ("answered", "failed", "unknown")]
    assert seen == [1, 1, None]


def test_steps_permits_and_events_are_counted() -> None:
    room = Room(quota())
    offer = room.step(accept(1, TODAY, TODAY)).offers[-1]
    asked(room, offer, "a")
    room.step(Returned(("a",)))
    room.step(Cancel(request_id(1), 1, facts().connector_id))
    room.feed.committed(0, 0.25)
    room.feed.dead("some_reason")
    room.feed.unreadable()
    value = room.metrics.registry.get_sample_value
    assert room.seen("planner_step_seconds_count") == 4
    assert room.seen("planner_step_records_sum") == 4
    assert room.seen("planner_transaction_seconds_sum") == 0.25
    assert room.seen("permits_total", answer="granted") == 1
    assert value(PREFIX + "events_published_total", {"type": "fetch_cancelled"}) == 1
    assert value(PREFIX + "dlq_total", {"code": "some_reason"}) == 1
    assert value(PREFIX + "unreadable_records_total", {"topic": "planner"}) == 1


class Metered(PlannerWorld):
    """A planner's world whose steps are measured; ``dispatched`` are the requests that were ever running."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.metrics, self.dispatched = Metrics(), set[str]()
        self.feed = PlannerMetrics(self.metrics, {})

    def _step(self, messages: list[Any]) -> None:
        begun = self.feed.begin(self.state, [(m, self.now) for m in messages])
        super()._step(messages)
        changes = self.state.changes
        self.feed.stepped(0, self.state, begun, len(messages), changes)
        self.dispatched |= {n for n, v in changes.views.items() if v is not None and v.started_at is not None}

    def total(self, name: str) -> float:
        samples = [s for m in self.metrics.registry.collect() for s in m.samples if s.name == PREFIX + name]
        return sum(s.value for s in samples)


FAULTS = Faults(drop=0.05, twice=0.3, die=0.05, pause=0.05, fail=0.1, throttle=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_through_a_whole_life_with_faults_the_counts_are_those_of_the_world(seed: int) -> None:
    world = Metered(rules((quota("per_second", 2, 1_000),), max_concurrent=3), seed, FAULTS)
    for n in range(1, 31):
        start = TODAY - n % 7
        world.tell(accept(n, start, TODAY, connector=facts(n % 3), priority_class=(1, 2, 3, 5)[n % 4]), n * 400)
    world.run()

    def events(kind: str) -> list[Event]:
        return [e for e in world.events if e.type == kind]

    assert world.total("fetch_requests_total") == len(world.outcomes()) == 30
    assert world.total("queue_wait_seconds_count") == len(world.dispatched) > 0
    assert world.total("fetch_duration_seconds_count") == len(events("dataset_updated")) > 0
    assert world.total("result_bytes_total") == 1_000 * len(events("dataset_updated"))
    assert world.total("merged_requests_total") == sum(bool(e.data["batched_with"]) for e in events("data_fetched")) > 0
    assert world.total("rate_limit_hits_total") == len(events("rate_limit_hit")) > 0
    assert world.total("events_published_total") == len(world.events)
