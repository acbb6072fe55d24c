"""Taking over a planner whose rows are older than what was done, on a real broker; and one whose rows are not."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.config import Settings
from app.domain import planner, restoring
from app.domain.messages import Tick
from app.streams import internal, topics
from app.streams.kafka import Broker, Publisher, Record
from app.streams.ownership import POSITION_KEY, Ownership
from app.streams.topics import Names
from app.testing.planning import quota, rules
from deploy.local import Stack

RULES = rules((quota("per_minute", 9, 60_000),))


class Planning:
    """Topics, a group and an inbox of ten records of their own."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.broker, self.names, self.group = Broker(servers), Names(prefix), f"{prefix}group"
        self.publisher = Publisher(self.broker)

    async def begin(self, written: int) -> None:
        await self.publisher.start()
        inbox = [Record(self.names.planner, internal.dump(Tick()), None, 0) for _ in range(10)]
        row = internal.dump_row({"offset": written, "now": 1})
        await self.publisher.send([*inbox, Record(self.names.state, row, POSITION_KEY.encode(), 0)])

    async def commit(self, offset: int, metadata: str) -> None:
        consumer = AIOKafkaConsumer(**self.broker.client(), group_id=self.group, enable_auto_commit=False)
        tp = TopicPartition(self.names.planner, 0)
        await consumer.start()
        try:
            consumer.assign([tp])
            await consumer.commit({tp: OffsetAndMetadata(offset, metadata)})
        finally:
            await consumer.stop()

    def owner(self) -> Ownership:
        return Ownership(
            broker=self.broker, group=self.group, names=self.names, rules=RULES, publisher=self.publisher, now=lambda: 0
        )


@pytest.fixture
async def planning(stack: Stack) -> AsyncIterator[Planning]:
    prefix = f"o{uuid.uuid4().hex[:8]}."
    own = {
        "CONNECTOR__KAFKA__BOOTSTRAP_SERVERS": stack.endpoints.kafka,
        "CONNECTOR__STREAMS__TOPIC_PREFIX": prefix,
    }
    await topics.apply(Settings.load(own))
    made = Planning(stack.endpoints.kafka, prefix)
    yield made
    await made.publisher.stop()


@pytest.mark.parametrize("metadata", ["rows=9", "", None])
async def test_rows_that_know_all_that_was_done_are_trusted(planning: Planning, metadata: str | None) -> None:
    """Also where the group has committed nothing, or without the mark; and by the owner after the next."""
    await planning.begin(written=9)
    if metadata is not None:
        await planning.commit(10, metadata)
    for _ in range(2):
        owning = planning.owner()
        await owning.take_over({0}, 1)
        assert (owning.doubted, owning.owners[0].state.doubted, owning.owners[0].position) == (0, None, 9)
        await owning.give_up({0})


async def test_rows_older_than_what_the_group_knows_close_every_bucket_from_the_brokers_now(planning: Planning) -> None:
    await planning.begin(written=4)
    await planning.commit(10, "rows=9")
    owning = planning.owner()
    before = time.time() * 1000
    await owning.take_over({0}, 1)
    state = owning.owners[0].state
    planner.step(state, [(Tick(), 2)])
    spent_ms = 130_000 + 60_000 + 1
    assert before - 1_000 <= restoring.distrusted_until(state) - spent_ms <= time.time() * 1000 + 1_000
    assert owning.owners[0].position == 4, "what they lack is read again"
    await owning.give_up({0})


async def test_an_inbox_that_ends_before_its_rows_is_read_from_its_end(planning: Planning) -> None:
    await planning.begin(written=400)
    owning = planning.owner()
    await owning.take_over({0}, 1)
    assert (owning.doubted, owning.owners[0].position) == (1, 9)
    await owning.give_up({0})
