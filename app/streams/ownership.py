"""Taking over an inbox partition, and what its owner holds (R1).

Fence (start the transactional producer ``planner-{p}``: the old owner can commit nothing more), end the log of rows
with one plain sentinel record, read the rows back up to the sentinel, act. Done at every assignment, also of partitions
believed kept: a paused worker cannot know whether somebody else was owner in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition

from app.domain import restoring
from app.domain.messages import Tick
from app.domain.model import INBOX_PARTITION, UNTYPED_PARTITION
from app.domain.rules import Rules
from app.domain.state import State, restore
from app.streams import internal, kafka, older
from app.streams.kafka import Broker, Publisher, Record
from app.streams.older import Witness
from app.streams.topics import Names

PLANNED = frozenset({*INBOX_PARTITION.values(), UNTYPED_PARTITION})
"""Inbox partitions that have a planner; the others of the eight are spare."""
SENTINEL = b"\0"
POSITION_KEY = "o/inbox"

SETTLE_S = 4.0
"""How long a rebalance waits for a step under way, per partition; half of the shortest session timeout in use."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Owner:
    """One owned inbox partition. ``position`` is the offset of the last inbox record whose changes are durable or that
    changed nothing; ``lock`` keeps hand-over and step apart; not ``ready`` means: touch nothing."""

    partition: int
    state: State
    producer: AIOKafkaProducer | None = None
    position: int = -1
    written: int = -1
    ready: bool = False
    generation: int = -1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stepped_at: float = 0.0
    tick_sent: bool = False


class Ownership:
    """The inbox partitions this worker owns."""

    def __init__(
        self, *, broker: Broker, group: str, names: Names, rules: Rules, publisher: Publisher, now: Callable[[], int]
    ) -> None:
        self._broker, self._group, self._names = broker, group, names
        self._rules, self._publisher, self._now = rules, publisher, now
        self.owners: dict[int, Owner] = {}
        self.recovery_s = 0.0
        self.recovered_records = 0
        self.doubted = 0
        """Partitions that were taken over with rows older than what was done."""

    async def take_over(self, partitions: set[int], generation: int) -> None:
        """Makes this worker the owner of exactly these partitions; returns when their states are rebuilt."""
        mine = sorted(partitions & PLANNED)
        started = time.monotonic()
        await self.give_up(set(self.owners) - set(mine))
        await self._publisher.start()
        await asyncio.gather(*(self._fence(p) for p in mine))
        rows = await self._read_back(mine)
        first = await kafka.first_offsets(self._broker, [TopicPartition(self._names.planner, p) for p in mine])
        witnesses = await self._witnesses(mine)
        for p in mine:
            tp = TopicPartition(self._names.planner, p)
            self._build(self.owners[p], rows[p], generation, first[tp], witnesses[p])
        self.recovery_s = time.monotonic() - started
        log.info(
            "planner_took_over", partitions=mine, seconds=round(self.recovery_s, 2), records=self.recovered_records
        )

    async def give_up(self, partitions: set[int]) -> None:
        """Stops acting for partitions; a step under way ends first."""
        for p in partitions:
            owner = self.owners.get(p)
            if owner is None:
                continue
            async with owner.lock:
                owner.ready = False
                producer, owner.producer = owner.producer, None
                if producer is not None:
                    await kafka.close(producer)
            del self.owners[p]

    def suspend(self) -> None:
        """A rebalance has begun: nothing acts until the next take-over."""
        for owner in self.owners.values():
            owner.ready = False

    async def settle(self) -> None:
        """Like ``suspend``, and lets steps under way end: the next owner would fence them in the middle."""
        self.suspend()
        for owner in list(self.owners.values()):
            try:
                async with asyncio.timeout(SETTLE_S), owner.lock:
                    pass
            except TimeoutError:
                log.warning("a_step_outlasts_the_rebalance", partition=owner.partition)

    def positions(self) -> dict[tuple[str, int], int]:
        """(inbox topic, partition) -> offset to read from, where the rows know it."""
        return {(self._names.planner, p): o.position + 1 for p, o in self.owners.items() if o.position >= 0}

    async def _fence(self, p: int) -> None:
        owner = self.owners.get(p)
        if owner is None:
            owner = self.owners[p] = Owner(p, State(self._rules))
        async with owner.lock:
            owner.ready = False
            if owner.producer is not None:
                await kafka.close(owner.producer)
            owner.producer = await kafka.transactional(self._broker, f"{self._group}-planner-{p}")

    async def _read_back(self, partitions: list[int]) -> dict[int, dict[str, bytes]]:
        rows: dict[int, dict[str, bytes]] = {p: {} for p in partitions}
        if not partitions:
            return rows
        sent = await self._publisher.send(Record(self._names.state, b"s", SENTINEL, p) for p in partitions)
        ends = {TopicPartition(self._names.state, meta.partition): meta.offset for meta in sent}

        def keep(partition: int, record: Any) -> None:
            if record.key == SENTINEL:
                return
            if record.value is None:
                rows[partition].pop(record.key.decode(), None)
            else:
                rows[partition][record.key.decode()] = record.value

        self.recovered_records = await kafka.read_until(self._broker, ends, keep)
        return rows

    def written(self, topic: str, partition: int) -> int | None:
        """Up to which inbox record the rows of an owned partition are durable; None where that is not known."""
        owner = self.owners.get(partition) if topic == self._names.planner else None
        return owner.written if owner is not None and owner.written >= 0 else None

    async def _witnesses(self, partitions: list[int]) -> dict[int, Witness]:
        """What the broker knows, asked after the fence."""
        if not partitions:
            return {}
        tick = internal.dump(Tick())
        sent = await self._publisher.send(Record(self._names.planner, tick, None, p) for p in partitions)
        tps = [TopicPartition(self._names.planner, p) for p in partitions]
        known = await kafka.committed(self._broker, self._group, tps)
        return {
            meta.partition: Witness(*known[TopicPartition(meta.topic, meta.partition)], meta.offset, meta.timestamp)
            for meta in sent
        }

    def _build(self, owner: Owner, raw: dict[str, bytes], generation: int, first: int, witness: Witness) -> None:
        position = (
            internal.load_row("o/inbox", raw.pop(POSITION_KEY)) if POSITION_KEY in raw else {"offset": -1, "now": 0}
        )
        rows = {key: internal.load_row(key, value) for key, value in raw.items()}
        waiting = owner.state.asks
        owner.state = restore(self._rules, rows, int(position["now"]))
        # Asks are no rows. Those of a partition that stayed here may lie before the position and would not come again.
        owner.state.asks.update(waiting)
        owner.position = owner.written = int(position["offset"])
        self._doubt(owner, witness)
        if owner.position >= 0:
            # Retention may have deleted records that were handled long ago without changing anything.
            owner.position = max(owner.position, first - 1)
        owner.generation, owner.tick_sent, owner.stepped_at = generation, False, time.monotonic()
        owner.ready = True

    def _doubt(self, owner: Owner, witness: Witness) -> None:
        """Nobody knows which calls are missing in rows that are older than what was done: no quota is trusted."""
        why = older.why(owner.position, witness)
        if why is None:
            return
        log.warning("planner_rows_are_old", partition=owner.partition, why=why, rows=owner.position, broker=witness)
        self.doubted += 1
        restoring.doubt(owner.state, witness.at, [t for t, p in INBOX_PARTITION.items() if p == owner.partition])
        owner.position = min(owner.position, witness.appended - 1)
