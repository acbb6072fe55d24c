"""Reading a public topic from a point in time, without a group: what was written since, and if wanted what comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.domain.model import PARTITIONS
from app.streams.kafka import Broker, close, reader
from app.streams.topics import TopicMismatch

_QUIET_S = 5.0
"""The end of a partition may be something that is never handed out; so long without a record is the end as well."""
_LARGEST_BYTES = 17 * 2**20
"""Above the largest record of a topic: a smaller fetch would end within a record."""


async def read_since(
    broker: Broker,
    topic: str,
    from_ms: int,
    take: Callable[[Any], None],
    *,
    caught_up: Callable[[], None] = lambda: None,
    follow: bool = False,
) -> None:
    """Hands every committed record with a timestamp of ``from_ms`` or later to ``take``, partition by partition;
    ``caught_up`` is called at the ends that there were when it began. With ``follow`` it goes on until it is cancelled.

    Raises ``TopicMismatch`` for a topic that is missing.
    """
    consumer = reader(broker, max_partition_fetch_bytes=_LARGEST_BYTES, fetch_max_wait_ms=250)
    try:
        await consumer.start()
        if topic not in await consumer.topics():
            raise TopicMismatch(f"{topic} is missing")
        ends = await _from(consumer, [TopicPartition(topic, p) for p in range(PARTITIONS)], from_ms)
        await _to(consumer, ends, take)
        caught_up()
        while follow:
            await _some(consumer, take)
    finally:
        await close(consumer)


async def _from(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition], from_ms: int) -> dict[TopicPartition, int]:
    """Assigns the partitions at that point in time; their ends."""
    consumer.assign(list(tps))
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(tps))
    found = await consumer.offsets_for_times(dict.fromkeys(tps, max(0, from_ms)))
    for tp in tps:
        consumer.seek(tp, ends[tp] if found[tp] is None else found[tp].offset)
    return ends


async def _to(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], take: Callable[[Any], None]) -> None:
    heard = time.monotonic()
    while time.monotonic() - heard < _QUIET_S:
        if all([await _at_end(consumer, tp, end) for tp, end in ends.items()]):
            return
        if await _some(consumer, take):
            heard = time.monotonic()


async def _at_end(consumer: AIOKafkaConsumer, tp: TopicPartition, end: int) -> bool:
    """Behind an open transaction nothing is handed out: that is an end too."""
    position: int = await consumer.position(tp)
    stable = consumer.last_stable_offset(tp)
    return position >= end or (stable is not None and 0 <= stable <= position)


async def _some(consumer: AIOKafkaConsumer, take: Callable[[Any], None]) -> int:
    count = 0
    for records in (await consumer.getmany(timeout_ms=300, max_records=5_000)).values():
        for record in records:
            take(record)
        count += len(records)
    return count
