"""What the touches on Faust's private parts lean on is still there, in exactly the versions they were made for.

That they do what they promise is shown by ``tests/e2e/test_spine.py``: a start over a backlog, kills and freezes.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.streams import faust_touches


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("mode-streaming", "0.7.1"), ("aiokafka", "0.14.0")]
)
def test_the_versions_are_those_the_touches_were_made_for(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize("name", ["_build_highwaters", "on_recovery_completed"])
def test_recovery_still_has_the_methods_that_are_replaced(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(Recovery, name))


def test_the_consumer_still_has_what_is_replaced() -> None:
    consumer: Any = driver.Consumer
    assert inspect.iscoroutinefunction(consumer.perform_seek)
    assert callable(consumer.verify_event_path)
    assert inspect.iscoroutinefunction(consumer._commit)
    assert "seek_to_committed" in consumer.perform_seek.__code__.co_names
    thread: Any = driver.AIOKafkaConsumerThread
    assert inspect.iscoroutinefunction(thread.seek_to_committed)
    assert inspect.iscoroutinefunction(thread.call_thread)
    assert "_commit" in consumer._commit_offsets.__code__.co_names
    assert "AIOKafkaConsumer" in dir(driver.aiokafka)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("committed", "told"), [(True, ["offset_committed"]), (False, [])])
async def test_the_crash_point_is_told_of_offsets_that_the_broker_took(
    monkeypatch: pytest.MonkeyPatch, committed: bool, told: list[str]
) -> None:
    seen: list[str] = []

    async def commit(self: Any, offsets: dict[Any, int]) -> bool:
        del self, offsets
        assert seen == []
        return committed

    monkeypatch.setattr(driver.Consumer, "_commit", commit)
    faust_touches._tell_commits(seen.append)
    consumer: Any = driver.Consumer
    assert await consumer._commit(None, {}) is committed
    assert seen == told


async def test_a_partition_without_a_committed_offset_is_read_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[Any] = []
    new, kept, zero, rows = TP("commands", 0), TP("commands", 1), TP("commands", 2), TP("rows", 0)

    class Client:
        async def seek_to_beginning(self, *tps: Any) -> None:
            begun.extend(tps)

    class Thread:
        app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={"rows"}))

        def _ensure_consumer(self) -> Client:
            return Client()

        async def call_thread(self, call: Any, *args: Any) -> Any:
            return await call(*args)

    async def committed(self: Any) -> dict[TP, int | None]:
        del self
        return {new: None, kept: 7, zero: 0, rows: None}

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "seek_to_committed", committed)
    faust_touches._seek_to_beginnings()
    consumer: Any = driver.AIOKafkaConsumerThread
    assert (await consumer.seek_to_committed(Thread()))[kept] == 7
    assert begun == [new, zero]


async def test_the_groups_commits_say_how_far_the_rows_are_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    committed: list[Any] = []

    class Consumer:
        def __init__(self, **options: Any) -> None:
            self.options = options

        async def commit(self, offsets: Any = None) -> None:
            committed.append(offsets)

    monkeypatch.setattr(driver.aiokafka, "AIOKafkaConsumer", Consumer)  # type: ignore[attr-defined]
    faust_touches._read_committed(lambda topic, partition: 5 if (topic, partition) == ("inbox", 0) else None)
    consumer = driver.aiokafka.AIOKafkaConsumer(partition_assignment_strategy=())  # type: ignore[attr-defined]
    assert consumer.options["isolation_level"] == "read_committed"
    await consumer.commit({TopicPartition("inbox", 0): OffsetAndMetadata(9, "")})
    await consumer.commit()
    assert committed == [{TopicPartition("inbox", 0): OffsetAndMetadata(9, "rows=5")}, None]
    assert "commit" in driver.AIOKafkaConsumerThread._commit.__code__.co_names


class _Stream:
    """As much of Faust's stream as ``take`` uses."""

    def __init__(self, messages: list[Any]) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        for message in messages:
            self.queue.put_nowait(SimpleNamespace(message=message))
        self.channel = self
        self.should_stop = False
        self.acked: list[int] = []
        self.app = SimpleNamespace(
            consumer_generation_id=2,
            flow_control=SimpleNamespace(is_active=lambda: True),
            topics=SimpleNamespace(acking_topics={"t"}),
            consumer=SimpleNamespace(unacked=set()),
        )

    async def maybe_start(self) -> None: ...

    async def __anext__(self) -> Any:
        if self.queue.empty():
            raise StopAsyncIteration
        return self.queue.get_nowait()

    async def ack(self, event: Any) -> None:
        self.acked.append(event.message.offset)


class _Message(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # typeshed says None; Faust keeps messages in a set


def _message(offset: int, generation: int = 2) -> _Message:
    return _Message(offset=offset, generation_id=generation, topic="t", tracked=False)


async def test_take_acknowledges_a_batch_only_when_the_next_is_asked_for() -> None:
    stream = _Stream([_message(0), _message(1)])
    batches = faust_touches.take(stream)
    assert [e.message.offset for e in await anext(batches)] == [0, 1]
    assert stream.acked == []
    with pytest.raises(StopAsyncIteration):
        await anext(batches)
    assert stream.acked == [0, 1]


async def test_take_acknowledges_nothing_of_a_batch_whose_work_failed() -> None:
    stream = _Stream([_message(0)])

    async def work() -> None:
        async for _ in faust_touches.take(stream):
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError, match="the work failed"):
        await work()
    assert stream.acked == []


async def test_take_leaves_out_records_of_an_older_assignment() -> None:
    stream = _Stream([_message(0, generation=1), _message(1)])
    found = [[e.message.offset for e in batch] async for batch in faust_touches.take(stream)]
    assert found == [[1]]
    assert stream.acked == [1]
