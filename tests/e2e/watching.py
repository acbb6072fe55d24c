"""Watches the event topic to know when a run is done. What it counts decides nothing: the checker reads again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.domain.model import PARTITIONS
from app.streams.topics import Names
from tests.e2e.check_requests import TERMINAL


class Stalled(Exception):
    """Nothing more ended for too long; the text says how far it got."""


@dataclass(slots=True)
class Ends:
    """Request ids with a terminal event so far, by the headers of the records."""

    seen: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    moved_at: float = field(default_factory=time.monotonic)

    async def all_of(self, wanted: Iterable[str], *, stall_s: float, said: Callable[[int], None] | None = None) -> None:
        """Returns when every wanted id has ended. Raises ``Stalled`` when nothing new ended for ``stall_s`` seconds."""
        missing = set(wanted)
        total, told = len(missing), time.monotonic()
        self.moved_at = time.monotonic()
        while missing := missing - self.seen:
            if time.monotonic() - self.moved_at > stall_s:
                raise Stalled(f"{total - len(missing)} of {total} ended, then nothing for {stall_s:g} s")
            if said is not None and time.monotonic() - told > 2:
                told = time.monotonic()
                said(total - len(missing))
            self.changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self.changed.wait()
            except TimeoutError:
                continue


@asynccontextmanager
async def watching(bootstrap: str, prefix: str) -> AsyncIterator[Ends]:
    """Follows the event topic from its start until the block ends."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 * 2**20,
        fetch_max_wait_ms=200,
    )
    await consumer.start()
    ends = Ends()
    tps = [TopicPartition(Names(prefix).events, p) for p in range(PARTITIONS)]
    consumer.assign(tps)
    for tp in tps:
        consumer.seek(tp, 0)
    task = asyncio.create_task(_follow(consumer, ends))
    try:
        yield ends
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


async def _follow(consumer: Any, ends: Ends) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=500, max_records=5_000)).values():
            _note(records, ends)


def _note(records: Iterable[Any], ends: Ends) -> None:
    before = len(ends.seen)
    for record in records:
        said = dict(record.headers)
        if said.get("ce_type", b"").decode().removeprefix("connector.") in TERMINAL and "ce_subject" in said:
            ends.seen.add(said["ce_subject"].decode())
    if len(ends.seen) != before:
        ends.moved_at = time.monotonic()
        ends.changed.set()
