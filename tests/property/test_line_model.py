"""The line against a plain list that is sorted for every answer, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.domain.lanes import UNIT, Fairness, Topic
from app.domain.line import Line, with_turn
from app.domain.rows import Batch
from app.testing.line_model import LineModel, left_behind
from app.testing.planning import NOW, REPORT, TODAY, facts

CALLS, AGING = 3, 100
PLANS = {1: "standard", 2: "double", 3: "standard"}
TOPICS: list[Topic] = [("bucket", "day"), ("bucket", "second"), ("slots", "acc1"), ("data", "x")]
topics = st.sampled_from(TOPICS)
spans = st.none() | st.integers(0, 60)
picks = st.integers(0, 99)
classes = st.sampled_from([1, 2, 2, 3, 4, 5, 5])


def batch(number: int, org_id: int, account: int, class_: int, at: int = NOW) -> Batch:
    """Batch ``number`` of one of an organisation's accounts, under one of two users."""
    user = f"user{number % 2}"
    who = facts(number, org_id=org_id, account_id=f"acc{account}", subject=user, plan=PLANS.get(org_id, "standard"))
    return Batch(f"bat_{number:03}", who, REPORT, 0, TODAY, TODAY, (), class_, at, (f"r{number}",))


def line_of(fairness: Fairness) -> Line:
    return Line({"DV360": CALLS}, fairness)


class LineAgainstModel(RuleBasedStateMachine):
    """Every answer of the line is the model's after every step."""

    @initialize(percent=st.sampled_from([0, 25, 50, 100]))
    def begin(self, percent: int) -> None:
        self.fairness = Fairness({"double": 2}, percent, AGING)
        self.line, self.model = line_of(self.fairness), LineModel(CALLS, self.fairness)
        self.now, self.number = NOW, 0
        self.gone: list[Batch] = []

    def _some(self, pick: int) -> Batch | None:
        """A batch that waits; where some have risen, mostly one of them."""
        risen = sorted(name for name, one in self.model.waiting.items() if one.aged)
        known = risen if risen and pick % 3 else sorted(self.model.waiting)
        return self.model.waiting[known[pick % len(known)]].batch if known else None

    def _put(self, row: Batch) -> None:
        turn = self.model.turn(row)
        assert self.line.turn(row) == turn
        self.line.put(replace(row, turn=turn))
        self.model.put(replace(row, turn=turn))

    @rule(org=st.sampled_from([1, 1, 2, 3]), account=st.integers(1, 2), class_=classes, old=st.integers(0, 120))
    def come(self, org: int, account: int, class_: int, old: int) -> None:
        self.number += 1
        self._put(batch(self.number, org, account, class_, self.now - old))

    @rule(pick=picks, class_=st.integers(1, 5), older=st.sampled_from([0, 0, 7]))
    def come_again(self, pick: int, class_: int, older: int) -> None:
        """Others join a waiting batch: the better class, the earlier time."""
        if row := self._some(pick):
            class_ = min(class_, row.priority_class)
            self._put(replace(row, priority_class=class_, accepted_at=row.accepted_at - older))

    @rule(pick=picks, retry=st.booleans())
    def come_back(self, pick: int, retry: bool) -> None:
        """One that had started, or was forgotten, waits once more."""
        if self.gone:
            row = self.gone.pop(pick % len(self.gone))
            self._put(replace(row, priority_class=4) if retry else row)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        if row := self._some(pick):
            self.line.remove(row.batch_id)
            self.model.remove(row.batch_id)
            self.line.remove("bat_nobody")

    @rule(count=st.integers(1, 4))
    def start(self, count: int) -> None:
        """As dispatch does it."""
        for _ in range(count):
            due = self.model.neediest()
            name = due or self.model.best()
            if name is None:
                return
            assert (self.line.neediest(), self.line.best()) == (due, self.model.best())
            row = self.model.waiting[name].batch
            self.line.started(row)
            self.model.started(name)
            self.line.remove(name)
            self.model.remove(name)
            self.gone.append(row)
            self.model.settle()

    @precondition(lambda self: self.model.ready())
    @rule(pick=picks, span=spans, topic=st.none() | topics)
    def hold(self, pick: int, span: int | None, topic: Topic | None) -> None:
        one = self.model.ready()[pick % len(self.model.ready())].batch.batch_id
        reason = {"reason": "held", "until": None if span is None else self.now + span, "of": one}
        self.line.hold(one, reason, topic=topic)
        self.model.hold(one, reason, () if topic is None else (topic,))

    @precondition(lambda self: self.model.waiting)
    @rule(pick=picks, span=spans, for_=st.lists(topics, max_size=2))
    def park(self, pick: int, span: int | None, for_: list[Topic]) -> None:
        one = self.model.order()[pick % len(self.model.waiting)]
        reason = {"reason": "parked", "until": None if span is None else self.now + span, "of": one}
        self.line.park(one, reason, for_)
        self.model.park(one, reason, for_)

    @rule(topic=topics)
    def wake(self, topic: Topic) -> None:
        self.line.wake(topic)
        self.model.wake(topic)

    @rule(by=st.integers(0, 40))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.line.wake_due(self.now)
        self.model.wake_due(self.now)

    @rule(org=st.integers(1, 3), class_=st.integers(1, 5), pick=st.none() | picks)
    def asked_where_one_would_stand(self, org: int, class_: int, pick: int | None) -> None:
        row = None if pick is None else self._some(pick)
        stranger = replace(row, priority_class=class_) if row else batch(999, org, 1, class_, self.now)
        assert self.line.rank(stranger) == self.model.rank(stranger)

    @rule()
    def rebuilt(self) -> None:
        """From the rows alone: the same order, but that those that rose have not yet."""
        again = line_of(self.fairness)
        rows = [w.batch for w in self.model.waiting.values()]
        for row in sorted(rows, key=lambda b: (b.accepted_at, b.batch_id)):
            again.put(with_turn(again, row))
        again.rewind()
        keys = [(*(b.turn or (0, 0)), b.accepted_at, b.batch_id) for b in rows]
        assert list(again) == [key[3] for key in sorted(keys)]
        for class_ in range(1, 6):
            firsts = [key[1] - self.model.size(b) for key, b in zip(keys, rows, strict=True) if key[0] == class_]
            newcomer = batch(998, 9, 1, class_)
            assert again.turn(newcomer) == (class_, min(firsts, default=0) + CALLS * UNIT)

    @invariant()
    def it_is_the_model(self) -> None:
        if not hasattr(self, "line"):
            return
        line, model = self.line, self.model
        model.settle()
        order = model.order()
        assert (list(line), len(line)) == (order, len(order))
        assert [line.position(name) for name in order] == list(range(1, len(order) + 1))
        waiting = [model.waiting[name].batch for name in order]
        assert [line.ahead_of_own(row) for row in waiting] == [model.ahead_of_own(row) for row in waiting]
        assert line.position("bat_nobody") is None
        assert "bat_nobody" not in line
        assert all(name in line for name in order)
        assert (line.best(), line.neediest()) == (model.best(), model.neediest())
        assert {name: line.reason(name) for name in [*order, "x"]} == {n: model.reason(n) for n in [*order, "x"]}
        assert line.next_wake() == model.next_wake()
        for kind in ("bucket", "slots", "data"):
            assert sorted(line.parked(kind)) == sorted(model.topics(kind))

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        for name in self.model.order():
            self.line.remove(name)
        self.line.next_wake()
        assert left_behind(self.line) == {}
        assert len(self.line._virtual) <= 5
        assert len(self.line._last) + len(self.line._finished) <= 2 * 5 * len(PLANS)
        assert len(self.line._floors._used) <= len(PLANS)


TestLineAgainstModel = LineAgainstModel.TestCase
TestLineAgainstModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def put_all(line: Line, rows: list[Batch]) -> list[Batch]:
    """The rows with the turns they were put with."""
    made = []
    for row in rows:
        made.append(with_turn(line, row))
        line.put(made[-1])
    return made


def test_of_equally_old_batches_the_first_in_line_rises() -> None:
    """Else a burst would be served in no order, and what was told of each be wrong."""
    line = line_of(Fairness(aging_ms=AGING))
    rows = put_all(line, [batch(n, 1, 1, 5) for n in (5, 9, 1, 7)])
    line.wake_due(NOW + AGING)
    assert [name for name in line if line.aged(name)] == ["bat_005"]
    assert [line.ahead_of_own(row) for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("until", [NOW + 60_000, None, "later"])
def test_ten_thousand_early_wakes_leave_little_behind(until: Any) -> None:
    """A closed bucket wakes its lane with every permit that returns, to no use, and always to the same time."""
    line = line_of(Fairness())
    row = put_all(line, [batch(2 * n, 1, 1, 3) for n in range(3)])[0]
    line.hold("bat_002", {"reason": "backing_off", "until": NOW + 50})
    for n in range(10_000):
        at = NOW + 60_000 + n if until == "later" else until
        line.park(row.batch_id, {"reason": "quota", "until": at}, [("bucket", "day")])
        line.hold("bat_004", {"reason": "backing_off", "until": at})
        assert len(line._wakes) <= 1_020
        line.wake(("bucket", "day"))
        line.put(replace(with_turn(line, batch(4, 1, 1, 3)), turn=(3, 9 * UNIT)))
    line.wake_due(NOW + 49)
    assert line.reason("bat_002") is not None
    line.wake_due(NOW + 50)
    assert line.reason("bat_002") is None
    line.park(row.batch_id, {"reason": "quota", "until": NOW + 90_000}, [])
    line.wake_due(NOW + 89_999)
    assert line.best() is None, "the times it was woken before are over"
    line.wake_due(NOW + 90_000)
    assert line.best() == row.batch_id


def test_a_batch_that_comes_and_goes_leaves_nothing_behind() -> None:
    line = line_of(Fairness(aging_ms=AGING))
    put_all(line, [batch(1, 1, 1, 5)])
    for n in range(5_000):
        put_all(line, [batch(2, 1, 1, 3 + n % 3, NOW + n)])
        if n % 2:
            line.wake_due(NOW + n)
        line.remove("bat_002")
    sizes = {name: len(value) for name, value in vars(line).items() if hasattr(value, "__len__")}
    assert max(sizes.values()) <= 4, sizes


def test_a_batch_that_waited_for_long_does_not_turn_time_back_at_a_restart() -> None:
    """A newcomer would stand before all who waited meanwhile."""
    line = line_of(Fairness())
    blocked, *others = put_all(line, [batch(0, 1, 1, 3), *(batch(n, 2 + n % 2, 1, 3) for n in range(1, 101))])
    for row in others[:80]:
        take(line, row)
    (alone,) = put_all(line, [batch(997, 5, 1, 3)])
    take(line, alone)
    again = line_of(Fairness())
    put_all(again, [blocked, *others[80:]])
    again.rewind([alone, *others[78:80]])
    for org_id in (2, 4, 5):
        newcomer = batch(998, org_id, 1, 3)
        assert again.turn(newcomer) == line.turn(newcomer)


def take(line: Line, row: Batch) -> None:
    """The batch starts."""
    line.started(row)
    line.remove(row.batch_id)


def test_virtual_time_never_runs_back() -> None:
    line = line_of(Fairness())
    late, *others = put_all(line, [batch(1, 1, 1, 3), *(batch(n, 2, 1, 3) for n in range(2, 12))])
    for row in [*others[:5], late]:
        take(line, row)
    assert line.turn(batch(99, 9, 1, 3)) == (3, 15 * UNIT), "where the fifth of the second began"


def test_those_that_rose_move_the_time_of_the_class_they_rose_to() -> None:
    line = line_of(Fairness(aging_ms=AGING))
    for row in put_all(line, [batch(n, 1, 1, 5) for n in range(3)]):
        line.wake_due(NOW + AGING)
        assert line.best() == row.batch_id
        take(line, row)
    assert line.turn(batch(99, 9, 1, 2)) == (2, 9 * UNIT)
    assert line.turn(batch(99, 9, 1, 5)) == (5, 3 * UNIT)


def test_who_cancels_a_thousand_batches_does_not_stand_behind_them() -> None:
    line = line_of(Fairness())
    rows = put_all(line, [batch(n, 1, 1, 3) for n in range(1_000)])
    line.started(rows[0])
    for row in rows:
        line.remove(row.batch_id)
    put_all(line, [batch(2_000, 2, 1, 3), batch(2_001, 2, 1, 3), batch(2_002, 2, 1, 3)])
    put_all(line, [batch(3_000, 1, 1, 3)])
    assert line.position("bat_3000") == 3, "behind one of the other's for the one it had, and a tie"


def test_a_batch_without_a_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="no turn"):
        line_of(Fairness()).put(batch(1, 1, 1, 3))


def test_one_that_rose_keeps_its_place_when_a_normal_request_joins_it() -> None:
    line = line_of(Fairness(aging_ms=AGING))
    (old,) = put_all(line, [batch(1, 1, 1, 5)])
    line.wake_due(NOW + AGING)
    put_all(line, [batch(n, 1, 1, 2, NOW + AGING) for n in range(2, 50)])
    joined = with_turn(line, replace(old, priority_class=2))
    line.put(joined)
    assert line.position("bat_001") == 1
    assert with_turn(line, joined) == joined
