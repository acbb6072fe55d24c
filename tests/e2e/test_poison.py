"""Records that are legal on the command topic and of no use: each is put aside whole, the next command is served."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.config import Settings
from app.domain.model import PARTITIONS
from app.streams import topics
from app.streams.codecs import decode_event
from app.streams.kafka import broker_of
from app.streams.topics import Names
from app.streams.wire import encode_json
from deploy.local import Stack
from tests.e2e import scenarios, traffic
from tests.e2e.world import World, world

pytestmark = pytest.mark.timeout(280)

COMPRESSED = 1_500_000, 3_000_000
NEAR_LIMIT = b'{"x":"' + b"a" * (1_048_400 - 8) + b'"}'
LONG_TRACE = [("traceparent", b"\x01" * 200_000)]


async def test_no_record_stops_the_service(stack: Stack, tmp_path: Path) -> None:
    async with world(stack.env(), tmp_path, sandbox=scenarios.SANDBOX, settings={}, connectors=1) as made:
        assert "dlq" in await made.run("check", "app", "topics", "check")
        await made.start("w")
        junk = [(json.dumps({"x": "a" * size}).encode(), "gzip") for size in COMPRESSED] + [(NEAR_LIMIT, None)]
        sent: dict[tuple[int, int], bytes] = {}
        for value, compression in junk:
            sent[await _send(made, value, compression)] = value
        traced, last = _command(made, 50), _command(made, 40)
        await _send(made, traced, None, LONG_TRACE)
        await _send(made, last)

        wanted = {json.loads(command)["request_id"] for command in (traced, last)}
        dead, events = await _until_served(made, wanted)

        assert made.alive("w")
        assert {_place(r): r.value for r in dead} == sent
        assert {dict(r.headers)["error_code"] for r in dead} == {b"too_large", b"unknown_field"}
        assert not [r for r in events if "traceparent" in dict(r.headers)]


async def test_a_topic_that_takes_too_little_is_told(stack: Stack) -> None:
    settings = Settings.load({**stack.env(), "CONNECTOR__STREAMS__TOPIC_PREFIX": f"small-{uuid.uuid4().hex[:8]}."})
    dlq = Names(settings.streams.topic_prefix).dlq
    admin = AIOKafkaAdminClient(**broker_of(settings).client())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(dlq, PARTITIONS, 1)])
        with pytest.raises(topics.TopicMismatch, match=f"{dlq} takes 1048588 bytes a record"):
            await topics.apply(settings)
    finally:
        await admin.close()


def _command(made: World, days_ago: int) -> bytes:
    day = traffic.today() - timedelta(days=days_ago)
    return encode_json("FetchCommand", traffic.fetch(made.accounts[0], day, day))


async def _send(made: World, value: bytes, compression: str | None = None, headers: Any = ()) -> tuple[int, int]:
    producer = AIOKafkaProducer(
        bootstrap_servers=made.bootstrap, compression_type=compression, max_request_size=8_000_000
    )
    await producer.start()
    try:
        key = made.accounts[0].connector_id.encode()
        told = await producer.send_and_wait(Names(made.prefix).commands, value, key=key, headers=list(headers))
        return told.partition, told.offset
    finally:
        await producer.stop()


def _place(record: Any) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["source_partition"]), int(headers["source_offset"])


async def _until_served(made: World, wanted: set[str]) -> tuple[list[Any], list[Any]]:
    """Dead letters and events, read until every wanted request has its ``data_fetched``; ends early with the worker."""
    names, served = Names(made.prefix), set[str]()
    dead: list[Any] = []
    events: list[Any] = []
    consumer = AIOKafkaConsumer(
        names.dlq, names.events, bootstrap_servers=made.bootstrap, isolation_level="read_committed",
        auto_offset_reset="earliest", max_partition_fetch_bytes=16 * 2**20,
    )  # fmt: skip
    await consumer.start()
    try:
        async with asyncio.timeout(90):
            while not wanted <= served and made.alive("w"):
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    (dead if tp.topic == names.dlq else events).extend(records)
                    told = [decode_event(r.value) for r in records if tp.topic == names.events]
                    served |= {e["request_id"] for e in told if e["type"] == "data_fetched"}
    finally:
        await consumer.stop()
    assert wanted <= served, (wanted - served, made.lives["w"].logs[-1].read_text()[-2_000:])
    return dead, events
