"""The planner's shell: inbox records in, one transaction out. It decides nothing.

All that a step changes (rows, offers, permits, views, events) and the inbox position it is durable for is one Kafka
transaction of ``planner-{p}``. Any failure ends the process inside the loop: memory must never run ahead of what is
durable.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from app.domain import planner
from app.domain.ledger import Entry
from app.domain.messages import Accept, Answer, Members, Milestone, Tick
from app.domain.state import Changes
from app.ports import BrokerUnavailable, EventSink
from app.streams import codecs, faust_touches, internal
from app.streams.crash import CrashPoint, die
from app.streams.kafka import Publisher, Record
from app.streams.ownership import POSITION_KEY, Owner, Ownership
from app.streams.planner_metrics import PlannerMetrics
from app.streams.topics import Names
from app.telemetry.metrics import Metrics

STEP_LIMIT_S = 20.0
REMEMBER_EVERY = 500
"""A position without changes is made durable after this many records, so that a replay stays short."""

log = structlog.get_logger(__name__)
ReadBack = Callable[
    [tuple[str, int, int]], Awaitable[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]] | None]
]


class PlannerShell:
    """Runs ``domain.planner.step`` over the owned inbox partitions."""

    def __init__(
        self, *, app: Any, names: Names, ownership: Ownership, publisher: Publisher, events: EventSink,
        crash: CrashPoint, read_back: ReadBack, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._app, self._names, self._ownership = app, names, ownership
        self._publisher, self._events, self._crash, self._read_back = publisher, events, crash, read_back
        self._metrics = PlannerMetrics(metrics, ownership.owners)

    async def run(self, stream: Any) -> None:
        """The agent's body."""
        async for events in faust_touches.take(stream):
            by_partition: dict[int, list[Any]] = {}
            for event in events:
                by_partition.setdefault(event.message.partition, []).append(event.message)
            steps = asyncio.gather(*(self._step(p, messages) for p, messages in by_partition.items()))
            try:
                await asyncio.shield(steps)
            except asyncio.CancelledError:
                # This worker leaves: a step that began is carried through, for its heir waits for what it decides.
                await self._carry_through(steps)
                raise
            except BaseException:  # noqa: BLE001 - whatever it was, memory may now be ahead of what is durable
                traceback.print_exc()
                die("a planner step failed")

    @staticmethod
    async def _carry_through(steps: asyncio.Future[Any]) -> None:
        await asyncio.wait({steps}, timeout=STEP_LIMIT_S)
        if not steps.done() or steps.cancelled() or steps.exception() is not None:
            die("a planner step failed while the worker was leaving")

    async def _step(self, p: int, records: Sequence[Any]) -> None:
        owner = self._ownership.owners.get(p)
        if owner is None:
            return
        async with owner.lock:
            fresh = [r for r in records if r.offset > owner.position]
            current = faust_touches.generation(self._app)
            if not fresh or not owner.ready or owner.generation != current:
                return
            self._refuse_gap(owner, fresh)
            self._crash("consumed")
            messages = [(m, round(r.timestamp * 1000)) for r in fresh if (m := self._load(r)) is not None]
            begun = self._metrics.begin(owner.state, messages)
            changes = planner.step(owner.state, messages)
            owner.stepped_at = time.monotonic()  # before the commit: whoever asks meanwhile adds what has passed since
            if any(isinstance(m, Accept) for m, _ in messages):
                self._crash("merged")
            last = int(fresh[-1].offset)
            if changes or last - owner.written >= REMEMBER_EVERY:
                await self._commit(owner, changes, last)
                owner.written = last
            owner.position, owner.tick_sent = last, False
            self._metrics.stepped(p, owner.state, begun, len(fresh), changes)

    def _refuse_gap(self, owner: Owner, records: Sequence[Any]) -> None:
        """The inbox is written without transactions, so its offsets have no holes: a hole is a lost record. The process
        ends and its heir reads again from the durable position."""
        expected = owner.position + 1 if owner.position >= 0 else int(records[0].offset)
        for record in records:
            if record.offset != expected:
                die(f"inbox {owner.partition}: record {expected} was not delivered, got {record.offset}")
            expected = record.offset + 1

    def _load(self, record: Any) -> Any:
        try:
            return internal.load(record.value)
        except internal.Unreadable:
            log.error("unreadable_inbox_record", partition=record.partition, offset=record.offset)
            self._metrics.unreadable()
            return None

    async def _commit(self, owner: Owner, changes: Changes, position: int) -> None:
        records = await self._records(owner, changes, position)
        producer: Any = owner.producer or die(f"inbox {owner.partition} is not ours")
        started = time.monotonic()
        async with asyncio.timeout(STEP_LIMIT_S), producer.transaction():
            waiting = []
            for r in records:
                headers = list(r.headers) or None
                waiting.append(await producer.send(r.topic, r.value, r.key, r.partition, headers=headers))
            await asyncio.gather(*waiting)
            self._crash("transaction_sent")
        self._crash("committed")
        if changes.answers:
            self._crash("permit_granted")
        if changes.offers:
            self._crash("lease_given")
        self._metrics.committed(owner.partition, time.monotonic() - started)

    async def _records(self, owner: Owner, changes: Changes, position: int) -> list[Record]:
        names, p = self._names, owner.partition
        rows: dict[str, Any] = {**changes.rows, POSITION_KEY: {"offset": position, "now": owner.state.now}}
        found = [Record(names.state, internal.dump_row(row), key.encode(), p) for key, row in rows.items()]
        found += [Record(names.fetches, internal.dump(o), o.batch_id.encode()) for o in changes.offers]
        told: list[Answer | Milestone] = [*changes.answers, *changes.milestones]
        found += [Record(names.permits, internal.dump(one), one.worker.encode(), p) for one in told]
        found += [Record(names.requests, internal.dump_row(v), k.encode()) for k, v in changes.views.items()]
        for one in changes.ledger:
            key = one.connector_id if isinstance(one, Entry) else one.bucket
            found.append(Record(names.usage, internal.dump(one), key.encode()))
        for event in changes.events:
            name, value, headers = self._events.encode(event)
            found.append(Record(names.events, value, name, None, headers))
        for source, code, detail in changes.dead:
            found.append(await self._dead(source, code, detail, owner.state.now))
        return found

    async def _dead(self, source: tuple[str, int, int], code: str, detail: str, now: int) -> Record:
        """A record that was accepted by intake and refused here goes to the dead-letter topic with its own bytes."""
        original = await self._read_back(source)
        key, value, headers = codecs.dead_letter(*(original if original is not None else (None, None, [])))
        topic, partition, offset = source
        told = codecs.dlq_headers(
            error_code=code, error_detail=detail, topic=topic, partition=partition, offset=offset, failed_at=now,
            original=headers,
        )  # fmt: skip
        self._metrics.dead(code)
        return Record(self._names.dlq, value, key, None, told)

    async def announce_members(self) -> None:
        """Tells each owned planner which workers are in the group now (R5)."""
        message = internal.dump(Members(faust_touches.members(self._app)))
        owned = list(self._ownership.owners)
        if owned:
            await self._publisher.send(Record(self._names.planner, message, None, p) for p in owned)

    async def tick(self) -> None:
        """Wakes owned planners when their time has come; one tick under way per partition. Runs until cancelled."""
        tick = internal.dump(Tick())
        while True:
            due = [o for o in self._ownership.owners.values() if o.ready and not o.tick_sent and self._overdue(o) <= 0]
            for owner in due:
                owner.tick_sent = True
            if due:
                try:
                    await self._publisher.send(Record(self._names.planner, tick, None, o.partition) for o in due)
                except BrokerUnavailable:
                    for owner in due:
                        owner.tick_sent = False
            waits = [self._overdue(o) for o in self._ownership.owners.values() if o.ready and not o.tick_sent]
            await asyncio.sleep(min(0.25, max(0.01, min(waits, default=0.25))))

    @staticmethod
    def _overdue(owner: Owner) -> float:
        """Seconds until the planner wants to be woken; quota time is taken to run on since the last step."""
        at = planner.next_due(owner.state)
        if at is None:
            return 3600.0
        return (at - owner.state.now) / 1000 - (time.monotonic() - owner.stepped_at)
