"""``connector events`` and ``connector dlq list`` on a real broker: from a point in time, committed, in no group."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from app.config import Settings
from app.domain import events
from app.domain.events import Asked
from app.domain.messages import Event
from app.streams import topics
from app.streams.codecs import EventCodec, dlq_headers
from app.streams.kafka import Broker, Publisher, Record, transactional
from app.streams.topics import Names
from app.testing import rest_world
from deploy.local import Stack

ROOT = Path(__file__).parents[2]
Env = dict[str, str]


@pytest.fixture
async def env(stack: Stack) -> Env:
    """Topics of their own, and the environment of the commands."""
    prefix = f"c{uuid.uuid4().hex[:8]}."
    own = {
        "CONNECTOR__KAFKA__BOOTSTRAP_SERVERS": stack.endpoints.kafka,
        "CONNECTOR__STREAMS__TOPIC_PREFIX": prefix,
        "PATH": os.environ["PATH"],
    }
    await topics.apply(Settings.load(own))
    return own


def broker(env: Env) -> Broker:
    return Broker(env["CONNECTOR__KAFKA__BOOTSTRAP_SERVERS"])


def names(env: Env) -> Names:
    return Names(env["CONNECTOR__STREAMS__TOPIC_PREFIX"])


async def connector(env: Env, *arguments: str) -> tuple[int, str, str]:
    """Runs a command to its end."""
    argv = [sys.executable, "-m", "app", *arguments]
    done = await asyncio.to_thread(subprocess.run, argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def cancelled(number: int) -> Event:
    asked = Asked(rest_world.facts(org_id=number % 2 + 1), f"req_{number:032x}", {})
    return events.fetch_cancelled(now=1_767_225_600_000 + number, asked=asked, reason=f"number {number}")


async def publish(env: Env, numbers: Sequence[int], *, commit: bool) -> None:
    """One transaction, as the planner writes."""
    producer = await transactional(broker(env), f"t-{uuid.uuid4().hex}")
    try:
        await producer.begin_transaction()
        for number in numbers:
            key, value, headers = EventCodec("json" if number % 3 else "avro").encode(cancelled(number))
            await producer.send_and_wait(names(env).events, value, key=key, headers=headers, partition=number % 8)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


def numbers_in(out: str) -> list[int]:
    return [int(json.loads(line)["data"]["reason"].partition(" ")[2]) for line in out.splitlines()]


async def test_committed_events_are_read_from_a_point_in_time(env: Env) -> None:
    groups = await _groups(env)
    await publish(env, range(6), commit=True)
    await publish(env, [90], commit=False)
    await asyncio.sleep(0.05)
    between = time.time()
    await publish(env, range(6, 12), commit=True)
    began = time.monotonic()
    code, out, err = await connector(env, "events", "--json")
    assert (code, numbers_in(out), err) == (0, list(range(12)), "")
    assert time.monotonic() - began < 5, "an aborted end is not waited for"
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between)) + f".{int(between % 1 * 1000):03d}Z"
    assert numbers_in((await connector(env, "events", "--since", text, "--json"))[1]) == list(range(6, 12))
    assert numbers_in((await connector(env, "events", "--org", "1", "--json"))[1]) == list(range(0, 12, 2))
    code, out, err = await connector(env, "events", "--limit", "3", "--json")
    assert numbers_in(out) == [9, 10, 11]
    assert err.startswith("9 older ones")
    request = f"req_{7:032x}"
    line = (await connector(env, "events", "--request", request))[1]
    assert line.count("\n") == 1
    assert line.endswith(f"fetch_cancelled  org 2  {request}  {rest_world.CONNECTOR}  number 7\n")
    assert await _groups(env) == groups


async def _groups(env: Env) -> list[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=env["CONNECTOR__KAFKA__BOOTSTRAP_SERVERS"])
    await admin.start()
    try:
        return sorted(name for name, *_ in await admin.list_consumer_groups())
    finally:
        await admin.close()


async def test_an_open_transaction_is_no_reason_to_wait(env: Env) -> None:
    await publish(env, [1], commit=True)
    producer = await transactional(broker(env), f"t-{uuid.uuid4().hex}", timeout_ms=60_000)
    try:
        await producer.begin_transaction()
        key, value, headers = EventCodec().encode(cancelled(2))
        await producer.send_and_wait(names(env).events, value, key=key, headers=headers, partition=1)
        began = time.monotonic()
        code, out, _ = await connector(env, "events", "--json")
        assert (code, numbers_in(out)) == (0, [1])
        assert time.monotonic() - began < 4
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_following_goes_on_until_ctrl_c(env: Env) -> None:
    await publish(env, [1], commit=True)
    argv = [sys.executable, "-m", "app", "events", "--follow", "--json"]
    running = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    async with asyncio.timeout(60):
        assert numbers_in((await running.stdout.readline()).decode()) == [1]
        await publish(env, [2], commit=True)
        assert numbers_in((await running.stdout.readline()).decode()) == [2]
        running.send_signal(signal.SIGINT)
        _, err = await running.communicate()
    assert (running.returncode, err) == (130, b"")


async def test_dead_letters_are_listed_whatever_they_hold(env: Env) -> None:
    publisher = Publisher(broker(env))
    await publisher.start()
    values = [b'{"org_id": 1,', b"\xff\xfe\0", None, b"", b"x" * 5_000_000]
    why = [_reasons(number) for number in range(5)]
    await publisher.send(
        [Record(names(env).dlq, v, b"\xff", i, h) for i, (v, h) in enumerate(zip(values, why, strict=True))]
    )
    await publisher.send([Record(names(env).dlq, b"bare", None, 7)])
    await publisher.stop()
    code, out, err = await connector(env, "dlq", "list", "--json")
    told = {letter["partition"]: letter for letter in map(json.loads, out.splitlines())}
    assert (code, err, sorted(told)) == (0, "", [0, 1, 2, 3, 4, 7])
    assert [told[p]["value"] for p in range(4)] == ['{"org_id": 1,', "fffe00", None, ""]
    assert told[4]["value"] == "x" * 200
    assert (told[1]["source_offset"], told[7]["error_code"]) == (1, None)
    _, out, _ = await connector(env, "dlq", "list", "--code", "code_1")
    assert out.splitlines()[1:] == ["    why", "    0xfffe00  (3 bytes)"]
    code, out, err = await connector(env, "dlq", "list", "--code", "none")
    assert (code, out) == (0, "")
    assert err.startswith("no record put aside with code none since ")


def _reasons(number: int) -> list[tuple[str, bytes]]:
    return dlq_headers(
        error_code=f"code_{number}", error_detail="why", topic="t", partition=1, offset=number, failed_at=number
    )


async def test_a_missing_topic_and_a_broker_that_is_away_are_3(env: Env) -> None:
    code, _, err = await connector(env | {"CONNECTOR__STREAMS__TOPIC_PREFIX": "absent."}, "events")
    assert (code, err) == (3, "error: absent.events is missing\nnext:  connector topics apply\n")
    code, _, err = await connector(env | {"CONNECTOR__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "dlq", "list")
    assert (code, err) == (3, "error: the broker does not answer\nnext:  connector up\n")
