"""Following ``connector.events`` from its end on, as a consumer downstream does, and what they add up to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from app.config import Settings
from app.domain.events import TERMINAL_TYPES
from app.domain.model import PARTITIONS
from app.streams import kafka
from app.streams.topics import Names
from app.streams.wire import decode_event

Event = Mapping[str, Any]


@dataclass(slots=True)
class Seen:
    """What came back so far. ``began``: monotonic seconds, the zero of all times here."""

    began: float
    on_event: Callable[[Event, float], None] = lambda _event, _at: None
    ended: dict[str, Event] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    versions: list[Event] = field(default_factory=list)
    limits: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Event) -> None:
        """Sorts one event in and tells ``on_event``."""
        at = time.monotonic() - self.began
        if event["type"] in TERMINAL_TYPES:
            self.ended[event["request_id"]] = event
            self.ended_s[event["request_id"]] = at
        elif event["type"] == "dataset_updated":
            self.versions.append(event)
        elif event["type"] == "rate_limit_hit":
            self.limits.append(event)
        self.on_event(event, at)
        self.changed.set()

    async def until(self, true: Callable[[], bool], within_s: float) -> bool:
        """Waits for something to be true of what was seen; whether it became so."""
        deadline = time.monotonic() + within_s
        while not true():
            self.changed.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self.changed.wait(), min(left, 0.5))
            except TimeoutError:
                continue
        return True


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Seen]:
    """Follows from the topic's beginning (it is new) until the context ends."""
    names = Names(settings.streams.topic_prefix)
    consumer = kafka.reader(kafka.broker_of(settings), fetch_max_wait_ms=200)
    await consumer.start()
    await kafka.from_start(consumer, [TopicPartition(names.events, p) for p in range(PARTITIONS)])
    seen = Seen(time.monotonic())
    reading = asyncio.create_task(_read(consumer, seen))
    try:
        yield seen
    finally:
        failed = reading.exception() if reading.done() and not reading.cancelled() else None
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await kafka.close(consumer)
        if failed is not None:
            raise failed


async def _read(consumer: Any, seen: Seen) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                seen.take(decode_event(record.value))
