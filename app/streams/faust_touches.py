"""Every touch on Faust's private parts, in one place (ADR 0002). Pinned: faust-streaming 0.15.3, mode-streaming 0.7.1,
aiokafka 0.14.0; ``tests/contract/test_faust_touches.py`` fails when one of them stops being what it was.

1. Faust's consumer reads ``read_committed``, so that no step sees what an aborted transaction wrote; its fetches are
   short, and with each inbox offset it commits how far the planner's rows are durable.
2. At every assignment, also of partitions believed kept: take over (fence, sentinel, read rows back), before anything
   acts.
3. and 4. The streams' queues are emptied *before* the consumer seeks, and resuming the flow does not empty them again;
   the stock order drops what was read between the two.
5. Once the broker has taken committed offsets, the crash point ``offset_committed`` is told; unarmed it does nothing.
6. A partition for which the group has committed nothing is read from its beginning: the stock seek leaves it where what
   was read and dropped meanwhile has moved it, so that those records were lost.
Then inbox partitions are set to the position that the planner's rows are durable for, and ``take`` hands out records in
batches that are acknowledged only after their work is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import faust
from faust.events import Event
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as _driver
from faust.types import TP

from app.streams import older
from app.streams.crash import CrashPoint
from app.streams.kafka import FETCH_WAIT_MS

driver: Any = _driver
"""Untyped on purpose: this module replaces what it names."""
Stock: Any = Recovery
TakeOver = Callable[[set[int]], Awaitable[None]]
Positions = Callable[[], Mapping[TP, int]]
Written = Callable[[str, int], int | None]


def install(app: faust.App, *, take_over: TakeOver, positions: Positions, written: Written, crash: CrashPoint) -> None:
    """Puts all touches on; once per process, before the app starts. ``crash`` is told ``offset_committed``."""
    _read_committed(written)
    _take_over_first(take_over)
    _clear_then_seek(app, positions)
    _no_livelock_log()
    _tell_commits(crash)


def _read_committed(written: Written) -> None:
    make = driver.aiokafka.AIOKafkaConsumer

    def consumer(*args: Any, **kwargs: Any) -> Any:
        if "partition_assignment_strategy" in kwargs:
            kwargs["isolation_level"] = "read_committed"
            kwargs["fetch_max_wait_ms"] = FETCH_WAIT_MS
        made = make(*args, **kwargs)
        commit = made.commit

        async def marked(offsets: Any = None) -> None:
            await commit(None if offsets is None else older.marked(offsets, written))

        made.commit = marked
        return made

    driver.aiokafka.AIOKafkaConsumer = consumer


def _no_livelock_log() -> None:
    """Faust logs an error a second for partitions whose records it never hands out, as those of our rows; it does
    nothing else about it. Whether a worker moves is for ``/livez`` to say."""

    def silent(self: Any, now: float, tp: TP) -> None:
        del self, now, tp

    driver.Consumer.verify_event_path = silent


def _tell_commits(crash: CrashPoint) -> None:
    commit = driver.Consumer._commit

    async def told(self: Any, offsets: Mapping[TP, int]) -> bool:
        committed = bool(await commit(self, offsets))
        if committed:
            crash("offset_committed")
        return committed

    driver.Consumer._commit = told


def _take_over_first(take_over: TakeOver) -> None:
    """Our own loader reads the rows back, so Faust is told that there is nothing to recover."""
    build = Stock._build_highwaters

    async def highwaters(self: Any, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        if title != "active":
            await build(self, consumer, tps, destination, title)
            return
        await take_over({tp.partition for tp in tps})
        destination.clear()
        destination.update(dict.fromkeys(tps, -1))

    Stock._build_highwaters = highwaters


def _clear_then_seek(app: faust.App, positions: Positions) -> None:
    flow: Any = app.flow_control
    completed = Stock.on_recovery_completed

    def resume() -> None:
        flow._suspend.clear()
        flow._resume.set()

    async def clear_then_seek(self: Any, *args: Any, **kwargs: Any) -> None:
        flow.clear()
        # Once while the partitions are still paused: nothing can be read from a wrong place, not even for a moment.
        await self.app.consumer.perform_seek()
        await completed(self, *args, **kwargs)

    flow.resume = resume
    Stock.on_recovery_completed = clear_then_seek
    _seek_to_beginnings()
    _seek_to_positions(positions)


def _seek_to_beginnings() -> None:
    """aiokafka moves nothing where no offset is committed. Changelogs stay where they are: nobody reads them."""
    committed = driver.AIOKafkaConsumerThread.seek_to_committed

    async def sought(self: Any) -> Mapping[TP, int | None]:
        found: Mapping[TP, int | None] = await committed(self)
        unread = [tp for tp, offset in found.items() if not offset and tp.topic not in self.app.tables.changelog_topics]
        if unread:
            await self.call_thread(self._ensure_consumer().seek_to_beginning, *unread)
        return found

    driver.AIOKafkaConsumerThread.seek_to_committed = sought


def _seek_to_positions(positions: Positions) -> None:
    """After the stock seek to committed offsets: the inbox goes to what the rows say, whatever the group committed."""
    perform = driver.Consumer.perform_seek

    async def perform_seek(self: Any) -> None:
        await perform(self)
        for tp, offset in positions().items():
            if tp in self.assignment():
                await self.seek(tp, offset)
                self._committed_offset[tp] = offset

    driver.Consumer.perform_seek = perform_seek


async def take(stream: Any, *, most: int = 500, within_s: float = 0.005) -> AsyncIterator[list[Event]]:
    """Blocks for the first record without a timeout, then collects what is there for at most ``within_s``; stops early
    when nothing came for a fifth of it. Records are acknowledged when the next batch is asked for, so not at all if the
    body raised. Records of an older assignment are left out: they come again."""
    app, channel, loop = stream.app, stream.channel, asyncio.get_running_loop()
    await stream.maybe_start()
    while not stream.should_stop:
        try:
            events = [await channel.__anext__()]
        except StopAsyncIteration:
            return
        ends = loop.time() + within_s
        while len(events) < most:
            if channel.queue.empty():
                await asyncio.sleep(within_s / 5)
                if channel.queue.empty() or loop.time() > ends:
                    break
            else:
                events.append(channel.queue.get_nowait())
        current = app.consumer_generation_id
        mine = [e for e in events if e.message.generation_id == current and app.flow_control.is_active()]
        for event in mine:
            _track(app, event)
        if mine:
            yield mine
        for event in mine:
            await stream.ack(event)


def _track(app: faust.App, event: Event) -> None:
    """What Faust's own iterator does when it hands out a record, so that acknowledging it counts."""
    message = event.message
    if message.topic in app.topics.acking_topics and not message.tracked:
        message.tracked = True
        app.consumer.unacked.add(message)


def members(app: faust.App) -> tuple[str, ...]:
    """Workers that hold a partition in the current assignment, by the name each announced (its canonical URL)."""
    assignor: Any = app.assignor
    return tuple(sorted({*assignor._tps_url.values(), *assignor._external_tps_url.values()}))


def owner(app: faust.App, changelog: str, partition: int) -> str | None:
    """The worker that holds a changelog's partition in the current assignment, by its announced name."""
    assignor: Any = app.assignor
    found: str | None = assignor._tps_url.get(TP(changelog, partition))
    return found


def generation(app: faust.App) -> int:
    """The assignment's number; records of an older one are handled by somebody else, or again."""
    return int(app.consumer_generation_id)


def assigned(app: faust.App, topic: str) -> set[int]:
    """Partitions of a topic that this worker holds now."""
    return {tp.partition for tp in app.assignor.assigned_actives() if tp.topic == topic}
