"""When the planner's rows are older than what was done, and when not."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from app.domain.state import State
from app.streams import internal, older, planner_shell
from app.streams.older import Witness
from app.streams.ownership import POSITION_KEY, Owner, Ownership
from app.streams.topics import Names
from app.testing.planning import NOW, quota, rules


@pytest.mark.parametrize(
    ("position", "committed", "metadata", "appended", "old"),
    [
        (-1, -1, "", 0, False),
        (100, 101, "rows=100", 120, False),
        (100, 550, "rows=100", 560, False),
        (100, 90, "rows=80", 120, False),
        (100, 102, "rows=101", 120, True),
        (-1, 40, "rows=3", 50, True),
        (100, 600, "", 700, False),
        (100, 601, "", 700, True),
        (-1, 500, "", 700, True),
        (-1, 499, "", 700, False),
        (100, 601, "something else", 700, True),
        (100, 101, "rows=100", 100, True),
        (100, 101, "rows=100", 101, False),
        (100, -1, "", 4, True),
    ],
)
def test_what_shows_it(position: int, committed: int, metadata: str, appended: int, old: bool) -> None:
    assert (older.why(position, Witness(committed, metadata, appended, NOW)) is not None) is old


@given(st.lists(st.tuples(st.integers(1, 700), st.booleans()), max_size=30), st.integers(0, 30), st.booleans())
def test_no_hand_over_looks_like_it(steps: list[tuple[int, bool]], commit_after: int, marking: bool) -> None:
    """A planner that steps, writes rows when something changed or much has passed, and commits at any moment what it
    has acknowledged; its heir reads the rows later."""
    position = written = -1
    committed, metadata = -1, ""
    for number, (count, changes) in enumerate(steps):
        for part in [500] * (count // 500) + [count % 500]:
            position += part
            if changes or position - written >= planner_shell.REMEMBER_EVERY:
                written = position
        if number <= commit_after and position >= 0:
            committed, metadata = position + 1, f"rows={written}" if marking and written >= 0 else ""
    assert older.why(written, Witness(committed, metadata, position + 1, NOW)) is None


def test_the_mark_stands_beside_the_inboxs_offsets_alone() -> None:
    inbox, other, unknown = (TopicPartition(t, p) for t, p in (("inbox", 0), ("commands", 0), ("inbox", 7)))
    offsets = dict.fromkeys((inbox, other, unknown), OffsetAndMetadata(9, ""))
    marked = older.marked(offsets, lambda topic, p: 5 if (topic, p) == ("inbox", 0) else None)
    assert marked == offsets | {inbox: OffsetAndMetadata(9, "rows=5")}


def owning(written: int) -> Ownership:
    made: Any = Ownership.__new__(Ownership)
    made._names, made._rules, made.doubted = Names(), rules((quota(),)), 0
    made.owners = {0: Owner(0, State(made._rules), written=written)}
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(("topic", "partition", "known"), [("connector.planner", 0, 7), ("connector.planner", 1, None)])
def test_how_far_rows_are_durable_is_known_of_owned_inboxes(topic: str, partition: int, known: int | None) -> None:
    assert owning(7).written(topic, partition) == known
    assert owning(7).written("connector.commands", partition) is None
    assert owning(-1).written(topic, partition) is None


@pytest.mark.parametrize(
    ("witness", "doubted", "position"),
    [
        (Witness(51, "rows=50", 60, NOW + 5), None, 50),
        (Witness(61, "rows=60", 70, NOW + 5), (NOW + 5, ("DV360",)), 50),
        (Witness(51, "rows=50", 40, NOW + 5), (NOW + 5, ("DV360",)), 39),
    ],
)
def test_an_owner_of_old_rows_trusts_no_quota(witness: Witness, doubted: Any, position: int) -> None:
    made = owning(-1)
    row = internal.dump_row({"offset": 50, "now": NOW - 9}) or b""
    made._build(made.owners[0], {POSITION_KEY: row}, 1, 0, witness)
    owner = made.owners[0]
    assert (owner.state.doubted, owner.position, owner.ready) == (doubted, position, True)
    assert made.doubted == (doubted is not None)
