"""Writes ``connector.requests`` to PostgreSQL, in order per id, in a group of its own: PostgreSQL away delays history
and nothing else. Offsets pass only what is written; a repeated or older row changes nothing there."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from app.domain.messages import RequestView
from app.ports import RequestHistory
from app.streams import internal, kafka
from app.streams.kafka import Broker
from app.telemetry.metrics import Metrics

PAUSE_S = 0.5
"""Between two writes, so that rows gather: history may lag by this much more."""

_ROW_FAULTS = (OverflowError, ValueError, TypeError)
_DATA_EXCEPTION = "22"
"""SQLSTATE class of values that a column does not take."""

log = structlog.get_logger(__name__)


class Projector:
    """One member of the projecting group."""

    def __init__(self, broker: Broker, topic: str, group: str, history: RequestHistory, metrics: Metrics) -> None:
        self._broker, self._topic, self._group, self._history = broker, topic, group, history
        self._metrics = metrics
        self.healthy = True

    async def run(self) -> None:
        """Projects until cancelled; begins again after a lost connection to the broker."""
        while True:
            consumer = kafka.reader(self._broker, group_id=self._group, fetch_max_wait_ms=2_000)
            consumer.subscribe([self._topic])
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
        """Of what is there only the newest row of each request is written: under load many moves are one row."""
        batch = await consumer.getmany(timeout_ms=2_000, max_records=5_000)
        held = sum(map(len, batch.values()))
        await self._measure(consumer, held)
        newest = {r.key: r for records in batch.values() for r in records if r.value is not None}
        views = [view for record in newest.values() if (view := self._read(record)) is not None]
        if views:
            await self._write(views, consumer, held)
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

    def _read(self, record: Any) -> RequestView | None:
        try:
            return internal.load_view(record.value)
        except (ValueError, TypeError) as exc:
            log.error("unreadable_view", offset=record.offset, error=type(exc).__name__)
            self._metrics.unreadable_records_total.labels("requests").inc()
            return None

    async def _write(self, views: list[RequestView], consumer: AIOKafkaConsumer, held: int) -> None:
        delay = 0.5
        while True:
            try:
                await self._history.project(views)
                self.healthy = True
                return
            except asyncio.CancelledError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever keeps PostgreSQL away, the rows wait for it
                if _lies_in_a_row(exc):
                    await self._write_apart(views, consumer, held, exc)
                    return
                self.healthy = False
                log.warning("projector_waits", error=type(exc).__name__, rows=len(views))
                # Nothing is read meanwhile, so the ends known from reading stand still.
                await self._measure(consumer, held, ask=True)
                await asyncio.sleep(delay)
                delay = min(10.0, delay * 2)

    async def _write_apart(
        self, views: list[RequestView], consumer: AIOKafkaConsumer, held: int, exc: Exception
    ) -> None:
        """Writes all but the rows that cannot be written: trying those again would hold up the others for ever."""
        if len(views) == 1:
            log.error("row_left_out", request_id=views[0].request_id, error=type(exc).__name__)
            self._metrics.unreadable_records_total.labels("requests").inc()
            return
        middle = len(views) // 2
        await self._write(views[:middle], consumer, held)
        await self._write(views[middle:], consumer, held)


def _lies_in_a_row(exc: Exception) -> bool:
    """Whether a value is at fault and not the connection; a store may have wrapped what its driver said."""
    told = (exc, exc.__cause__)
    return any(isinstance(e, _ROW_FAULTS) or str(getattr(e, "sqlstate", ""))[:2] == _DATA_EXCEPTION for e in told)
