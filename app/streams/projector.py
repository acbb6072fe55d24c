"""Writes ``connector.requests`` to PostgreSQL, in order per id, in a group of its own: PostgreSQL away delays history and
nothing else. Offsets pass only what is written; a repeated or older row changes nothing there."""

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

log = structlog.get_logger(__name__)


class Projector:
    """One member of the projecting group."""

    def __init__(self, broker: Broker, topic: str, group: str, history: RequestHistory) -> None:
        self._broker, self._topic, self._group, self._history = broker, topic, group, history
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
        batch = await consumer.getmany(timeout_ms=2_000, max_records=2_000)
        newest: dict[str, RequestView] = {}
        for records in batch.values():
            for record in records:
                view = self._read(record)
                if view is not None:
                    newest[view.request_id] = view
        if newest:
            await self._write(list(newest.values()))
        if batch:
            await consumer.commit()

    @staticmethod
    def _read(record: Any) -> RequestView | None:
        if record.value is None:
            return None
        try:
            return internal.load_view(record.value)
        except (ValueError, TypeError) as exc:
            log.error("unreadable_view", offset=record.offset, error=type(exc).__name__)
            return None

    async def _write(self, views: list[RequestView]) -> None:
        delay = 0.5
        while True:
            try:
                await self._history.project(views)
                self.healthy = True
                return
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                self.healthy = False
                log.warning("projector_waits", error=type(exc).__name__, rows=len(views))
                await asyncio.sleep(delay)
                delay = min(10.0, delay * 2)
