"""Whether the planner's rows are older than what was done (spec section 14, R10).

Beside every inbox offset that the group commits stands how far the rows were durable at that moment. Rows never go
back by themselves, so rows that end before that mark are a copy from earlier, or the end of their log is lost. The
committed offset alone says less: it runs ahead of the rows over records that changed nothing, and is the only witness
where a version that set no mark has committed last. And an inbox that ends before the position of the rows has lost its
own end. None of this happens in a hand-over: who is fenced can neither write rows nor commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.structs import OffsetAndMetadata, TopicPartition

UNMARKED_AHEAD = 500
"""Records without changes by which a committed offset may run ahead of the rows (``planner_shell.REMEMBER_EVERY``)."""

_MARK = re.compile(r"rows=(-1|[0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Witness:
    """What the broker knows of an inbox partition: the group's committed offset (-1: none) with its metadata, and
    offset and LogAppendTime (ms) of a record appended after the fence."""

    committed: int
    metadata: str
    appended: int
    at: int


def marked(
    offsets: dict[TopicPartition, OffsetAndMetadata], written: Callable[[str, int], int | None]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Offsets to commit, with the mark of those whose partition has rows: ``written(topic, partition)``."""
    found = {}
    for tp, offset in offsets.items():
        durable = written(tp.topic, tp.partition)
        found[tp] = offset if durable is None else OffsetAndMetadata(offset.offset, f"rows={durable}")
    return found


def why(position: int, witness: Witness) -> str | None:
    """How it shows that rows which are durable up to ``position`` (-1: there are none) are older than what was done;
    None if nothing says so."""
    if witness.appended <= position:
        return "the inbox ends before them"
    mark = _MARK.fullmatch(witness.metadata)
    if mark is not None:
        return "the group knows of newer ones" if position < int(mark.group(1)) else None
    return "the group is far ahead of them" if witness.committed > position + UNMARKED_AHEAD else None
