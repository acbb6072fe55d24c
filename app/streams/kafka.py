"""Plain Kafka clients of the service, each call with a deadline. (aiokafka's own sends wait for a broker for ever.)"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from app.ports import BrokerUnavailable

Headers = Sequence[tuple[str, bytes]]
_CLOSE_S = 5.0
MAX_REQUEST_BYTES = 17 * 2**20
"""Above the largest topic's ``max.message.bytes`` (the dead letters'), so that it is the topic that limits a record."""
FETCH_WAIT_MS = 250
"""Longest a broker may hold a fetch back. aiokafka has one fetch under way per broker: partitions with records that
were not taken within 0.1 s are left out of it, and what arrives there meanwhile waits until that fetch returns."""


class RecordTooLarge(Exception):
    """A record that its topic does not take: sending it again would end the same way, whatever the broker does."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to prove who we are; ``security`` goes to every client as it is."""

    servers: str
    security: dict[str, Any] = field(default_factory=dict, repr=False)

    def client(self) -> dict[str, Any]:
        """Keyword arguments common to all clients."""
        return {"bootstrap_servers": self.servers, **self.security}


def broker_of(settings: Any) -> Broker:
    """From the settings: plain, TLS, or TLS with SASL."""
    kafka = settings.kafka
    if kafka.security_protocol == "PLAINTEXT":
        return Broker(kafka.bootstrap_servers)
    security: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if "SSL" in kafka.security_protocol:
        security["ssl_context"] = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    if kafka.security_protocol.startswith("SASL"):
        security["sasl_mechanism"] = kafka.sasl_mechanism
        security["sasl_plain_username"] = kafka.sasl_username
        security["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return Broker(kafka.bootstrap_servers, security)


@dataclass(frozen=True, slots=True)
class Record:
    """One record to send. ``partition`` None: by the key's hash."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()


class Publisher:
    """The process's plain producer: idempotent, acknowledged by all in-sync replicas."""

    def __init__(self, broker: Broker, *, linger_ms: int = 2, timeout_s: float = 30.0) -> None:
        self._broker, self._linger_ms, self._timeout_s = broker, linger_ms, timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._broker.client(),
                enable_idempotence=True,
                acks="all",
                linger_ms=self._linger_ms,
                request_timeout_ms=int(self._timeout_s * 1000),
                max_request_size=MAX_REQUEST_BYTES,
            )
            await self._producer.start()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close(producer)

    async def answers(self, timeout_s: float) -> bool:
        """Whether the broker answers a metadata request in time."""
        if self._producer is None:
            return False
        try:
            async with asyncio.timeout(timeout_s):
                return bool(await self._producer.client.force_metadata_update())
        except (TimeoutError, KafkaError, OSError):
            return False

    async def send(self, records: Iterable[Record], *, timeout_s: float | None = None) -> list[Any]:
        """Sends and waits until the broker has all of them. Raises ``BrokerUnavailable``, ``RecordTooLarge``."""
        if self._producer is None:
            raise BrokerUnavailable("the producer is not started")
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                waiting = [await self._put(self._producer, r) for r in records]
                return list(await asyncio.gather(*waiting))
        except MessageSizeTooLargeError as exc:
            raise RecordTooLarge(str(exc)) from exc
        except (TimeoutError, KafkaError) as exc:
            raise BrokerUnavailable(f"no acknowledgement: {type(exc).__name__}") from exc

    @staticmethod
    async def _put(producer: AIOKafkaProducer, record: Record) -> Any:
        return await producer.send(
            record.topic, record.value, key=record.key, partition=record.partition, headers=list(record.headers) or None
        )


class Commands:
    """``ports.CommandPublisher`` over the plain producer."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self._publisher, self._topic = publisher, topic

    async def publish(self, connector_id: str, value: bytes, headers: Headers = ()) -> None:
        await self._publisher.send([Record(self._topic, value, connector_id.encode(), None, headers)], timeout_s=1.8)


async def transactional(broker: Broker, name: str, *, timeout_ms: int = 10_000) -> AIOKafkaProducer:
    """Starts the producer of this transactional id, which fences whoever had it before and aborts what it left open."""
    producer = AIOKafkaProducer(
        **broker.client(),
        transactional_id=name,
        transaction_timeout_ms=timeout_ms,
        linger_ms=2,
        max_batch_size=256 * 1024,
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=30_000,
    )
    try:
        async with asyncio.timeout(60):
            await producer.start()
    except BaseException:
        await close(producer)
        raise
    return producer


async def close(client: Any) -> None:
    """Stops a client, but not longer than a few seconds: with the broker away ``stop`` may hang."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await client.stop()
    except (TimeoutError, KafkaError):
        pass


def reader(broker: Broker, **options: Any) -> AIOKafkaConsumer:
    """A read-committed consumer without a group, not started."""
    defaults: dict[str, Any] = {
        **broker.client(),
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": 4 * 2**20,
        "fetch_max_wait_ms": 1_000,
    }
    return AIOKafkaConsumer(**{**defaults, **options})


async def from_start(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> None:
    """Assigns and seeks to explicit first offsets: aiokafka's background reset would overtake ``seek_to_beginning``."""
    consumer.assign(list(tps))
    first = await consumer.beginning_offsets(list(tps))
    for tp in tps:
        consumer.seek(tp, first[tp])


async def read_until(broker: Broker, ends: dict[TopicPartition, int], on_record: Any) -> int:
    """Reads each partition from its start up to and including the record at its end offset; how many records it was."""
    consumer = reader(broker)
    await consumer.start()
    count, missing = 0, set(ends)
    try:
        await from_start(consumer, list(ends))
        while missing:
            for tp, records in (await consumer.getmany(timeout_ms=1_000, max_records=5_000)).items():
                for record in records:
                    on_record(tp.partition, record)
                count += len(records)
                if records and records[-1].offset >= ends[tp]:
                    missing.discard(tp)
    finally:
        await close(consumer)
    return count


async def first_offsets(broker: Broker, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The oldest offset that is still there, per partition."""
    if not tps:
        return {}
    consumer = reader(broker)
    await consumer.start()
    try:
        return dict(await consumer.beginning_offsets(list(tps)))
    finally:
        await close(consumer)


async def committed(broker: Broker, group: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """What a group has committed: (offset, metadata) by partition; (-1, "") where it has committed nothing."""
    if not tps:
        return {}
    admin = AIOKafkaAdminClient(**broker.client(), request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(30):
            await admin.start()
            found = await admin.list_consumer_group_offsets(group, partitions=list(tps))
    finally:
        await admin.close()
    return {tp: (found[tp].offset, found[tp].metadata or "") if tp in found else (-1, "") for tp in tps}


async def fetch_one(broker: Broker, topic: str, partition: int, offset: int) -> Any | None:
    """Reads a single record by its place; None if it is gone."""
    consumer = reader(broker, fetch_max_wait_ms=500)
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        consumer.seek(tp, offset)
        found = await consumer.getmany(tp, timeout_ms=5_000, max_records=1)
        records = found.get(tp, [])
        return records[0] if records and records[0].offset == offset else None
    finally:
        await close(consumer)
