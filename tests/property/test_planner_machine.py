"""The planner told anything in any order: what must hold after every step, whatever came before it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.domain import closing, planner
from app.domain.errors import ErrorClass, Failure, Throttle
from app.domain.lanes import Fairness
from app.domain.messages import Ask, Cancel, Heartbeat, Members, Offer, Returned, StepOutcome, Tick
from app.domain.model import Quota
from app.domain.rate_limit import Bucket
from app.domain.retry import RetryPolicy
from app.domain.rules import Rules
from app.domain.state import Changes, State, restore
from app.testing.line_model import inconsistent, left_behind
from app.testing.planning import NOW, TODAY, Rows, accept, facts, quota, request_id, result_of, rules
from app.testing.planning_checks import check_in_flight, left_over
from app.testing.planning_world import FAILURES, TERMINAL_EVENTS
from app.testing.writing import write

DAY = 86_400_000
QUOTAS = (
    quota("per_second", 4, 1_000),
    quota("per_10_s", 5, 10_000, scope="account"),
    quota("per_day", 40, DAY, scope="user", calendar_zone="UTC"),
)
CONNECTORS = [
    facts(1),
    facts(2),
    facts(3, account_id="acc1"),
    facts(4, org_id=2, subject="other"),
    facts(5, org_id=2, account_id="acc9", subject="other", plan="premium"),
]
THROTTLES = [Throttle(None, None), Throttle(None, 2.0), Throttle("per_day", None), Throttle("per_10_s", 30.0)]
REFUSED = Failure(ErrorClass.INVALID_REQUEST, "invalid_request", "Refused.", retryable=False)
picks = st.integers(0, 1_000)
TABLES = {
    "r": "requests",
    "b": "batches",
    "c": "data_sets",
    "p": "permits",
    "m": "marks",
    "x": "closures",
    "h": "health",
    "w": "writes",
}


def scarce() -> Rules:
    """Three slots, small quotas, soon aged."""
    known = rules(
        QUOTAS,
        max_concurrent=3,
        max_members=4,
        fairness=Fairness({"premium": 2}, 50, 20_000),
        retry=RetryPolicy(3, 2.0, 20.0),
        call_timeout_ms=20_000,
        closed_mark_ms=60_000,
    )
    written = {name: replace(one, write_calls={"reports": 1}) for name, one in known.connectors.items()}
    return replace(known, connectors=written)


def throttled(throttle: Throttle) -> Failure:
    return Failure(ErrorClass.QUOTA, "rate_limited", "Not now.", retryable=True, throttle=throttle)


class Planner(RuleBasedStateMachine):
    """Every rule is one step, or several messages of one."""

    @initialize()
    def begin(self) -> None:
        self.setup_, self.now = scarce(), NOW
        self.state, self.rows = State(self.setup_, now=NOW), Rows()
        self.accepted: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.offers: list[Offer] = []
        self.asks: dict[str, Ask] = {}
        self.grants: dict[str, tuple[int, Offer]] = {}
        self.returns: dict[str, int] = {}
        self.number = 0

    # What it is told

    @rule(
        who=st.integers(0, 4),
        ago=st.integers(0, 12),
        days=st.integers(0, 5),
        class_=st.sampled_from([1, 2, 3, 5]),
        fields=st.sampled_from([(), (), ("reach",), ("views",)]),
        left=st.none() | st.integers(1, 40_000),
        extra=st.sampled_from([{}, {}, {"force": True}, {"max_age_s": 0}]),
        again=st.booleans(),
    )
    def come(self, again: bool, extra: dict[str, Any], left: int | None, **what: Any) -> None:
        self.number += 1
        end = min(TODAY, TODAY - what["ago"] + what["days"])
        message = accept(
            self.number,
            TODAY - what["ago"],
            end,
            connector=CONNECTORS[what["who"]],
            priority_class=what["class_"],
            fields=what["fields"],
            accepted_at=self.now,
            deadline_at=None if left is None else self.now + left,
            **extra,
        )
        self.accepted.add(message.request_id)
        self.step(*[message] * (1 + again))

    @rule(who=st.integers(0, 4), class_=st.sampled_from([1, 2, 3, 5]))
    def come_to_write(self, who: int, class_: int) -> None:
        """Beside the fetches of the same connectors; of their order ``test_writes`` knows more."""
        self.number += 1
        message = write(self.number, connector=CONNECTORS[who], priority_class=class_, accepted_at=self.now)
        self.accepted.add(message.request_id)
        self.step(message)

    @rule(pick=picks, ahead=st.booleans(), stranger=st.booleans())
    def cancel(self, pick: int, ahead: bool, stranger: bool) -> None:
        """Of any request so far, or of one that has not come yet."""
        name = request_id(self.number + 1 if ahead else 1 + pick % max(1, self.number))
        live = self.state.requests.get(name)
        who = CONNECTORS[pick % 5] if live is None or stranger else live.accept.connector
        self.step(Cancel(name, who.org_id, who.connector_id))

    @precondition(lambda self: self.offers)
    @rule(pick=picks, count=st.integers(1, 3), data=st.booleans(), worker=st.sampled_from(["w0", "w0", "w1"]))
    def ask(self, pick: int, count: int, data: bool, worker: str) -> None:
        offer = self._offer(pick)
        new = [f"ask{len(self.asks) + n}" for n in range(count)]
        for name in new:
            self.asks[name] = Ask(name, worker, offer.batch_id, offer.epoch, offer.step_no, "reports", data)
        self.step(*(self.asks[name] for name in new))

    @precondition(lambda self: self.grants.keys() - self.returns.keys())
    @rule(pick=picks, all_=st.booleans())
    def give_back(self, pick: int, all_: bool) -> None:
        out = sorted(self.grants.keys() - self.returns.keys())
        names = out if all_ else [out[pick % len(out)]]
        self.returns.update(dict.fromkeys(names, self.now))
        self.step(Returned(tuple(names), tuple((name, 5, 1) for name in names)))

    @precondition(lambda self: self.offers)
    @rule(pick=picks, how=st.sampled_from(["file", "file", "remote", "failure", "throttle", "released", "refused"]))
    def outcome(self, pick: int, how: str) -> None:
        offer = self._offer(pick)
        result = ended_well(offer, str(pick % 3))
        every: dict[str, dict[str, Any]] = {
            "file": result,
            "remote": result if offer.write is not None else {"remote": {"report": "x"}, "percent": None},
            "failure": {"failure": FAILURES[pick % len(FAILURES)]},
            "throttle": {"failure": throttled(THROTTLES[pick % len(THROTTLES)])},
            "released": {"released": True, "not_before_s": float(pick % 4)},
            "refused": {"failure": REFUSED},
        }
        self.step(StepOutcome(offer.batch_id, offer.epoch, offer.step_no, "w0", 0, ended_at=self.now, **every[how]))

    @rule(by=st.sampled_from([1, 40, 1_000, 1_001, 10_001, 15_001, 60_000, 15 * 3_600_000]), heard=st.booleans())
    def time_passes(self, by: int, heard: bool) -> None:
        """With or without heartbeats: fifteen seconds without one end a lease."""
        if heard:
            self.step(Heartbeat("w0", tuple((b, self.state.batches[b].epoch) for b in self.state.leases)))
        self.now += by
        self.step(Tick())

    @rule()
    def time_comes(self) -> None:
        due = planner.next_due(self.state)
        self.now = max(self.now, due or self.now)
        self.step(Tick())

    @rule(workers=st.sampled_from([("w0",), ("w1",), ()]))
    def workers_change(self, workers: tuple[str, ...]) -> None:
        self.step(Members(workers))

    @rule()
    def move(self) -> None:
        self.state = restore(self.setup_, self.rows.read(), self.now)
        self.step(Tick())

    def _offer(self, pick: int) -> Offer:
        """Mostly one that is under way."""
        live = [o for o in self.offers if self._current(o)]
        return (live if live and pick % 10 else self.offers)[pick % len(live if live and pick % 10 else self.offers)]

    def _current(self, offer: Offer) -> bool:
        row = self.state.batches.get(offer.batch_id)
        return row is not None and (row.epoch, row.step_no, row.state) == (offer.epoch, offer.step_no, "leased")

    # What must hold

    def step(self, *messages: Any) -> None:
        """One step, and all that is promised of it."""
        changes = planner.step(self.state, [(m, self.now) for m in messages])
        self.rows.write(changes)
        self.offers += changes.offers
        self._ends_once(changes)
        self._grants_fit(changes)
        self._indexes_agree()
        self._who_waits_knows_why()
        self._rows_are_the_state()

    def _ends_once(self, changes: Changes) -> None:
        self.ends.update(e.request_id for e in changes.events if e.type in TERMINAL_EVENTS and e.request_id)
        assert max(self.ends.values(), default=1) == 1
        assert self.ends.keys().isdisjoint(self.state.requests)
        assert self.ends.keys() | self.state.requests.keys() == self.accepted

    def _grants_fit(self, changes: Changes) -> None:
        """By a count of our own: from the grant until one period after the return, or after the latest end."""
        for answer in changes.answers:
            if answer.denied is not None:
                continue
            ask = self.asks[answer.ask_id]
            assert answer.ask_id not in self.grants
            self.grants[answer.ask_id] = self.now, next(o for o in self.offers if o.batch_id == ask.batch_id)
            for rule_ in QUOTAS:
                assert self._counted(rule_, self.grants[answer.ask_id][1]) <= rule_.limit, rule_.name

    def _counted(self, rule_: Quota, offer: Offer) -> int:
        scope = {"application": "connector_type", "account": "account_id", "user": "subject"}[rule_.scope]
        mine = getattr(offer.connector, scope)
        granted = {n: at for n, (at, o) in self.grants.items() if getattr(o.connector, scope) == mine}
        if rule_.calendar_zone:
            return sum(at // DAY == self.now // DAY for at in granted.values())
        lifetime = self.setup_.permit_valid_ms + self.setup_.call_timeout_ms
        ends = [min(self.returns.get(n, at + lifetime), at + lifetime) for n, at in granted.items()]
        return sum(end + rule_.period_ms >= self.now for end in ends)

    def _indexes_agree(self) -> None:
        state = self.state
        check_in_flight(state)
        by_state = {s: {n for n, b in state.batches.items() if b.state == s} for s in ("queued", "leased", "remote")}
        assert set(state.queue) == by_state["queued"]
        assert set(state.leases) == by_state["leased"]
        assert inconsistent(state.queue) == []
        listed = [(key, name) for key, names in state.open_batches.items() for name in names]
        assert sorted(listed) == sorted((b.data_set, n) for n, b in state.batches.items())
        for bucket in self._buckets():
            assert set(bucket.reserved) <= by_state["leased"] | by_state["remote"], bucket.key
        members = {(m, n) for n, b in state.batches.items() for m in b.members}
        assert members == {(n, part) for n, r in state.requests.items() for part in r.parts}
        assert all(r.parts for r in state.requests.values())
        assert set(state.told) <= by_state["queued"]

    def _buckets(self) -> list[Bucket]:
        return [b for limits in self.state.limits.values() for b in limits.buckets.values()]

    def _who_waits_knows_why(self) -> None:
        """After the planner has looked, nothing that waits could have started."""
        state = self.state
        assert sorted(state.queue.position(n) or 0 for n in state.queue) == list(range(1, len(state.queue) + 1))
        for row in state.requests.values():
            view = closing.view(state, row)
            if row.state == "queued":
                assert view.queue_position is not None
                assert view.waiting is not None
                until = view.waiting["until"]
                assert until is None or until > self.now
        if state.requests:
            assert (planner.next_due(state) or 0) <= max(self.now, state.now) + planner.IDLE_MS

    def _rows_are_the_state(self) -> None:
        """What is written is what is known: an heir reads the same, counts the same and goes on in the same order."""
        rows, state = self.rows.read(), self.state
        for kind, table in TABLES.items():
            assert {k[2:]: v for k, v in rows.items() if k[:2] == f"{kind}/"} == getattr(state, table), table
        heir = restore(self.setup_, rows, state.now)
        assert set(heir.queue) == set(state.queue)
        aged = set(vars(state.queue)["_aged"].values())
        assert [n for n in heir.queue if n not in aged] == [n for n in state.queue if n not in aged]
        assert (heir.queued, heir.by_org.keys()) == (state.queued, state.by_org.keys())
        limits = heir.limits_of_type("DV360")
        for bucket in self._buckets():
            other = limits.buckets.get(bucket.key) or Bucket(bucket.key, bucket.quota, 0, bucket.guard_ms)
            assert other.used(state.now) == bucket.used(state.now), bucket.key
            assert limits.closed.get(bucket.key, 0) == bucket.closed_until
            assert other.reserved == {n: left for n, left in bucket.reserved.items() if left}

    def teardown(self) -> None:
        """Whatever happened, all end when workers work and time goes on; then nothing is left of them."""
        if not hasattr(self, "state"):
            return
        for _ in range(1_000):
            if not (self.state.requests or self.state.batches):
                break
            under_way = [o for o in self.offers if self._current(o)]
            self.offers = under_way
            # A throttled day may be over only tomorrow.
            self.now += 0 if under_way else 300_000
            held = {b: lease.worker or "w0" for b, lease in self.state.leases.items()}
            # A result counts whoever brings it; this is who holds the lease.
            ends = [
                StepOutcome(o.batch_id, o.epoch, o.step_no, held[o.batch_id], 0, **ended_well(o)) for o in under_way
            ]
            self.step(*ends, Tick())
        assert self.ends.keys() == self.accepted
        for by in (200_000, 2 * DAY):
            self.now += by
            self.step(Tick())
        assert list(left_over(self.state)) == []
        assert left_behind(self.state.queue) == {}


def ended_well(offer: Offer, reading: str = "") -> dict[str, Any]:
    """How a step ends that has done its work."""
    return {"file": result_of(offer, reading=reading)} if offer.write is None else {"rows_written": 1}


TestPlanner = Planner.TestCase
TestPlanner.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
