"""Writes ``connector.requests`` and ``connector.usage`` to PostgreSQL, in order per key, in a group of its own:
PostgreSQL away delays history and usage and nothing else. Offsets pass only what is written; a repeated or older row
changes nothing there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from app.ports import RequestHistory, UsageLog
from app.streams import internal, kafka
from app.streams.kafka import Broker
from app.telemetry.metrics import Metrics

PAUSE_S = 0.5
"""Between two writes, so that rows gather: history may lag by this much more."""

_UNREADABLE = (ValueError, TypeError, internal.Unreadable)
_ROW_FAULTS = (OverflowError, ValueError, TypeError)
_DATA_EXCEPTION = "22"
"""SQLSTATE class of values that a column does not take."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """What is projected of one topic. ``newest``: of records with one key only the last is written, under load many
    moves of a request are one row; else every one is. ``label`` names it in metrics."""

    label: str
    read: Callable[[bytes], Any]
    write: Callable[[Sequence[Any]], Awaitable[None]]
    newest: bool


def views(history: RequestHistory) -> Source:
    """Requests as they are now."""
    return Source("requests", internal.load_view, history.project, newest=True)


def usage(log: UsageLog) -> Source:
    """The ledger's entries and closed windows."""
    return Source("usage", internal.load_ledger, log.project, newest=False)


class Projector:
    """One member of the projecting group. ``sources`` by topic; one that PostgreSQL keeps waiting holds up the others,
    which would wait for it as well."""

    def __init__(self, broker: Broker, group: str, sources: Mapping[str, Source], metrics: Metrics) -> None:
        self._broker, self._group, self._sources, self._metrics = broker, group, sources, metrics
        self.healthy = True

    async def run(self) -> None:
        """Projects until cancelled; begins again after a lost connection to the broker."""
        while True:
            consumer = kafka.reader(self._broker, group_id=self._group, fetch_max_wait_ms=2_000)
            consumer.subscribe(list(self._sources))
            try:
                await consumer.start()
                while True:
                    await self._once(consumer)
            except (KafkaError, OSError) as exc:
                log.warning("projector_restarts", error=type(exc).__name__)
                await asyncio.sleep(1.0)
            finally:
                await kafka.close(consumer)

    async def _once(self, consumer: AIOKafkaConsumer) -> None:
        """Writes what is there, then lets the offsets pass it."""
        batch = await consumer.getmany(timeout_ms=2_000, max_records=5_000)
        held = sum(map(len, batch.values()))
        await self._measure(consumer, held)
        for topic, source in self._sources.items():
            records = [r for tp, some in batch.items() if tp.topic == topic for r in some if r.value is not None]
            if source.newest:
                records = list({r.key: r for r in records}.values())
            rows = [row for record in records if (row := self._read(source, record)) is not None]
            if rows:
                await self._write(source, rows, consumer, held)
        if batch:
            await consumer.commit()
            await self._measure(consumer, 0)
            await asyncio.sleep(PAUSE_S)

    async def _measure(self, consumer: AIOKafkaConsumer, held: int, *, ask: bool = False) -> None:
        """Sets the lag: ``held`` records in hand and all from there to the ends of the logs, as they were at the last
        fetch or, with ``ask``, as they are now."""
        mine = list(consumer.assignment())
        ends = await consumer.end_offsets(mine) if ask else {tp: consumer.highwater(tp) for tp in mine}
        # A partition without an end was not fetched yet; asking for its position would wait until it is.
        known = [(tp, end) for tp, end in ends.items() if end is not None and tp in consumer.assignment()]
        behind = [max(0, end - await consumer.position(tp)) for tp, end in known]
        self._metrics.projection_lag.set(held + sum(behind))

    def _read(self, source: Source, record: Any) -> Any:
        try:
            return source.read(record.value)
        except _UNREADABLE as exc:
            log.error("unreadable_row", source=source.label, offset=record.offset, error=type(exc).__name__)
            self._metrics.unreadable_records_total.labels(source.label).inc()
            return None

    async def _write(self, source: Source, rows: list[Any], consumer: AIOKafkaConsumer, held: int) -> None:
        delay = 0.5
        while True:
            try:
                await source.write(rows)
                self.healthy = True
                return
            except asyncio.CancelledError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever keeps PostgreSQL away, the rows wait for it
                if _lies_in_a_row(exc):
                    await self._write_apart(source, rows, consumer, held, exc)
                    return
                self.healthy = False
                log.warning("projector_waits", error=type(exc).__name__, rows=len(rows))
                # Nothing is read meanwhile, so the ends known from reading stand still.
                await self._measure(consumer, held, ask=True)
                await asyncio.sleep(delay)
                delay = min(10.0, delay * 2)

    async def _write_apart(
        self, source: Source, rows: list[Any], consumer: AIOKafkaConsumer, held: int, exc: Exception
    ) -> None:
        """Writes all but the rows that cannot be written: trying those again would hold up the others for ever."""
        if len(rows) == 1:
            name = getattr(rows[0], "request_id", None) or getattr(rows[0], "ask_id", None)
            log.error("row_left_out", source=source.label, row=name, error=type(exc).__name__)
            self._metrics.unreadable_records_total.labels(source.label).inc()
            return
        middle = len(rows) // 2
        await self._write(source, rows[:middle], consumer, held)
        await self._write(source, rows[middle:], consumer, held)


def _lies_in_a_row(exc: Exception) -> bool:
    """Whether a value is at fault and not the connection; a store may have wrapped what its driver said."""
    told = (exc, exc.__cause__)
    return any(isinstance(e, _ROW_FAULTS) or str(getattr(e, "sqlstate", ""))[:2] == _DATA_EXCEPTION for e in told)
