"""What every worker follows without a group: connectors and request views (compacted topics, from their start) and the
planner's answers to permit asks (from now on).

Each worker keeps every live request's view and the newest closed ones, so that any worker answers any question; what it
no longer holds is in PostgreSQL (ADR 0006).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.domain.lifecycle import TERMINAL
from app.domain.messages import Answer, Milestone, RequestView
from app.domain.model import PARTITIONS, ConnectorFacts
from app.ports import PageKey, Wanted
from app.streams import internal, kafka
from app.streams.kafka import Broker
from app.streams.request_index import RequestIndex
from app.streams.topics import Names

CLOSED_KEPT = 20_000
DECODED_KEPT = 2_000

log = structlog.get_logger(__name__)


class Follower:
    """One consumer over three topics; ``caught_up`` once connectors and views are read to where they ended at start."""

    def __init__(
        self,
        broker: Broker,
        names: Names,
        on_answer: Callable[[Answer], None],
        on_milestone: Callable[[Milestone], None] = lambda _: None,
    ) -> None:
        self._broker, self._names = broker, names
        self._on_answer, self._on_milestone = on_answer, on_milestone
        self.connectors: dict[str, ConnectorFacts] = {}
        self.caught_up = asyncio.Event()
        self._of: dict[int, set[str]] = {}
        self._index = RequestIndex()
        self._live: dict[str, bytes] = {}
        self._closed: OrderedDict[str, bytes] = OrderedDict()
        self._decoded: OrderedDict[str, tuple[bytes, RequestView]] = OrderedDict()
        self._waiters: dict[str, list[tuple[bool, asyncio.Future[RequestView]]]] = {}
        self._behind: dict[TopicPartition, int] = {}

    def view(self, request_id: str) -> RequestView | None:
        """The committed view, if this worker holds it."""
        raw = self._live.get(request_id) or self._closed.get(request_id)
        return None if raw is None else self._read(request_id, raw)

    def _read(self, request_id: str, raw: bytes) -> RequestView:
        """The record as a view; who asks once mostly asks again."""
        known = self._decoded.get(request_id)
        if known is not None and known[0] is raw:
            return known[1]
        view = internal.load_view(raw)
        self._decoded[request_id] = (raw, view)
        if len(self._decoded) > DECODED_KEPT:
            self._decoded.popitem(last=False)
        return view

    def holds(self, request_id: str) -> bool:
        """Whether a request's view is held here."""
        return request_id in self._live or request_id in self._closed

    @property
    def live(self) -> int:
        """Live requests known here."""
        return len(self._live)

    def newest(self, wanted: Wanted, before: PageKey | None, limit: int) -> list[RequestView]:
        """The newest such views before a place in (accepted, id)."""
        names = islice(self._index.newest(wanted, before), limit)
        return [view for name in names if (view := self.view(name)) is not None]

    def connectors_of(self, org_id: int) -> Sequence[ConnectorFacts]:
        """The organisation's connectors, deleted ones as well, in no order."""
        return [self.connectors[name] for name in self._of.get(org_id, ())]

    async def next_view(self, request_id: str, timeout_s: float) -> RequestView | None:
        """The first view of a request, waiting for it; None after the time."""
        return self.view(request_id) or await self._awaited(request_id, timeout_s, ended=False)

    async def ended_view(self, request_id: str, timeout_s: float) -> RequestView | None:
        """The view of a request that has ended, waiting for it; None after the time."""
        if request_id in self._closed:
            return self.view(request_id)
        return await self._awaited(request_id, timeout_s, ended=True)

    async def _awaited(self, request_id: str, timeout_s: float, *, ended: bool) -> RequestView | None:
        future: asyncio.Future[RequestView] = asyncio.get_running_loop().create_future()
        waiter = (ended, future)
        self._waiters.setdefault(request_id, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return None
        finally:
            waiting = self._waiters.get(request_id, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiters.pop(request_id, None)

    async def run(self) -> None:
        """Follows until cancelled; starts over after a broken connection."""
        while True:
            consumer = kafka.reader(self._broker, fetch_max_wait_ms=kafka.FETCH_WAIT_MS)
            try:
                await consumer.start()
                await self._begin(consumer)
                while True:
                    for tp, records in (await consumer.getmany(timeout_ms=5_000, max_records=2_000)).items():
                        for record in records:
                            self._take(tp.topic, record)
                    await self._check(consumer)
            except (KafkaError, OSError) as exc:
                log.warning("follower_restarts", error=type(exc).__name__)
                await asyncio.sleep(1.0)
            finally:
                await kafka.close(consumer)

    async def _begin(self, consumer: Any) -> None:
        names = self._names
        tps = {
            t: [TopicPartition(t, p) for p in range(PARTITIONS)]
            for t in (names.connectors, names.requests, names.permits)
        }
        every = [tp for group in tps.values() for tp in group]
        consumer.assign(every)
        first = await consumer.beginning_offsets(every)
        last = await consumer.end_offsets(every)
        for tp in every:
            consumer.seek(tp, last[tp] if tp.topic == names.permits else first[tp])
        told = [*tps[names.connectors], *tps[names.requests]]
        self._behind = {tp: last[tp] for tp in told if last[tp] > first[tp]}
        await self._check(consumer)

    async def _check(self, consumer: Any) -> None:
        """Positions pass transaction markers, which are never delivered: so they, not records, tell that a log was
        read."""
        for tp, end in list(self._behind.items()):
            if await consumer.position(tp) >= end:
                del self._behind[tp]
        if not self._behind:
            self.caught_up.set()

    def _take(self, topic: str, record: Any) -> None:
        try:
            if topic == self._names.permits:
                told = internal.load(record.value)
                if isinstance(told, Answer):
                    self._on_answer(told)
                elif isinstance(told, Milestone):
                    self._on_milestone(told)
            elif topic == self._names.connectors:
                self._connector(record)
            else:
                self._view(record)
        except (internal.Unreadable, ValueError, TypeError, KeyError) as exc:
            log.error("unreadable_internal_record", topic=topic, offset=record.offset, error=type(exc).__name__)

    def _connector(self, record: Any) -> None:
        name = record.key.decode()
        facts = None if record.value is None else internal.load_connector(record.value)
        former = self.connectors.pop(name, None)
        if former is not None:
            self._of[former.org_id].discard(name)
        if facts is not None:
            self.connectors[name] = facts
            self._of.setdefault(facts.org_id, set()).add(name)

    def _view(self, record: Any) -> None:
        name = record.key.decode()
        # Every worker sees every view, so it is not built before somebody asks for it.
        heading = None if record.value is None else internal.heading_of(record.value)
        self._live.pop(name, None)
        self._closed.pop(name, None)
        if heading is None:
            self._index.drop(name)
            return
        self._index.put(name, *heading)
        ended = heading[2] in TERMINAL
        if ended:
            self._closed[name] = record.value
            while len(self._closed) > CLOSED_KEPT:
                self._index.drop(self._closed.popitem(last=False)[0])
        else:
            self._live[name] = record.value
        if name in self._waiters:
            self._wake(name, record.value, ended=ended)

    def _wake(self, name: str, raw: bytes, *, ended: bool) -> None:
        """Tells those who wait for any view of a request or, now that it has ended, for that."""
        view = internal.load_view(raw)
        for for_the_end, future in self._waiters[name]:
            if (ended or not for_the_end) and not future.done():
                future.set_result(view)
