"""The queue against a sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.priority_queue import PriorityQueue

moves = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 5), st.integers(0, 3), st.sampled_from(["in", "in", "out"])),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(moves)
def test_batches_stand_by_class_then_age_then_id(steps: list[tuple[str, int, int, str]]) -> None:
    queue, model = PriorityQueue(), {}
    for name, priority, at, what in steps:
        if what == "in":
            queue.enqueue(name, priority, at)
            model[name] = (priority, at, name)
        else:
            queue.remove(name)
            model.pop(name, None)
        order = [key[2] for key in sorted(model.values())]
        assert list(queue) == order
        assert [queue.position(n) for n in order] == list(range(1, len(order) + 1))
        assert len(queue) == len(model)
        assert (name in queue) is (name in model)
        assert (queue.position(name) is None) is (name not in model)


def test_the_queue_may_change_while_one_walks_it() -> None:
    queue = PriorityQueue()
    for number in range(4):
        queue.enqueue(f"bat_{number}", 3, number)
    seen = []
    for name in queue:
        seen.append(name)
        queue.remove(name)
    assert seen == ["bat_0", "bat_1", "bat_2", "bat_3"]
    assert len(queue) == 0
