"""F8: from a command's place on the topic to the provider's door, against the broker's bare round trip."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.streams.topics import Names
from app.streams.wire import decode_command
from tests.bench.measured import Measured, quantile, spread
from tests.e2e import gathering, traffic
from tests.e2e.evidence import Told
from tests.e2e.scenarios import RAISED, Place
from tests.e2e.watching import watching
from tests.e2e.world import World, world

TARGET = 15.0
COMMANDS = 240
WARM_UP = 6
SPACING_S = 1.2
"""A fetch makes at most three calls; so far apart, nothing ever waits for quota."""

Fetch = tuple[str, str]
"""The title of its query, and its days as the sandbox's log writes them."""


class Echo:
    """A plain producer and a plain consumer on a topic of one partition."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        self.times_ms: list[float] = []

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(self._topic, 1, 1)])
        finally:
            await admin.close()
        await self._producer.start()
        await self._consumer.start()
        place = TopicPartition(self._topic, 0)
        self._consumer.assign([place])
        self._consumer.seek(place, 0)

    async def once(self, value: bytes) -> None:
        """One record there and back."""
        began = time.perf_counter()
        await self._producer.send(self._topic, value)
        await self._consumer.getone()
        self.times_ms.append((time.perf_counter() - began) * 1000)

    async def stop(self) -> None:
        await self._producer.stop()
        await self._consumer.stop()


async def measure(place: Place, *, commands: int = COMMANDS) -> Measured:
    """Commands of priority 2, each on days of its own; between any two of them one bare round trip."""
    settings = {**RAISED, "CONNECTOR__PROVIDERS__DV360__POLL_SCHEDULE_S": "0.6,1"}
    options = ("--quota", "reports_day=50000", "--report-seconds", "0.3")
    async with world(place.stack_env, place.folder, sandbox=options, settings=settings, connectors=4) as made:
        await made.start("w1")
        echo = Echo(made.bootstrap, f"{made.prefix}echo")
        await echo.start()
        try:
            await _run(made, echo, commands + WARM_UP, place)
        finally:
            await echo.stop()
        evidence = await gathering.gather(made.bootstrap, made.prefix, made.sandbox_url)
    appended = {str(decode_command(one.value)["request_id"]): one.at for one in evidence.commands}
    fetches = {e.request_id: _fetch_of(e) for e in evidence.events if e.kind == "data_fetched"}
    times = _times(appended, fetches, evidence.calls)[WARM_UP:]
    return judge(times, echo.times_ms[WARM_UP:], asked=commands)


async def _run(made: World, echo: Echo, count: int, place: Place) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=made.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    ids = set()
    try:
        async with watching(made.bootstrap, made.prefix) as ends:
            for number in range(count):
                body = traffic.own_days(made.accounts[number % 4], number, priority="normal")
                ids.add(body["request_id"])
                key, value = traffic.encoded(body, avro=True)
                await producer.send_and_wait(Names(made.prefix).commands, value, key=key)
                await asyncio.sleep(SPACING_S / 2)
                await echo.once(value or b"")
                await asyncio.sleep(SPACING_S / 2)
                if number % 25 == 24:
                    place.say(f"{number + 1} of {count} commands")
            await ends.all_of(ids, stall_s=30)
    finally:
        await producer.stop()


def _fetch_of(told: Told) -> Fetch:
    days = told.data["date_range"]
    return f"{told.connector_id} {told.data['report_type']}", f"{days['start']}/{days['end']}"


def _times(
    appended: Mapping[str, int], fetches: Mapping[str | None, Fetch], calls: Sequence[Mapping[str, Any]]
) -> list[float]:
    """Milliseconds from LogAppendTime to the arrival of the fetch's first call, which makes its query or runs one, in
    the order of the commands. No two of them have the same days of an account."""
    first: dict[Fetch, float] = {}
    for call in calls:
        if call["route"] in ("reports.create", "reports.run") and call["title"] and call["days"]:
            first.setdefault((str(call["title"]), str(call["days"])), call["arrived_at"] * 1000)
    known = {name: first.get(fetches[name]) for name in appended if name in fetches}
    found = [(at, first_at - at) for name, at in appended.items() if (first_at := known.get(name)) is not None]
    return [took for _, took in sorted(found)]


def judge(times_ms: Sequence[float], bare_ms: Sequence[float], *, asked: int) -> Measured:
    """The quotient of the two p99s; a command without a call of its own makes the figure void."""
    quotient = quantile(times_ms, 0.99) / quantile(bare_ms, 0.99)
    ok = quotient <= TARGET and len(times_ms) == asked
    detail = {"asked": asked, "command_to_call_ms": spread(times_ms), "bare_round_trip_ms": spread(bare_ms)}
    return Measured("F8", round(quotient, 2), f"<= {TARGET:g} x the broker's bare round trip, p99", ok, detail)
