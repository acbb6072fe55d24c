"""The local stack on real servers: what it starts, what survives a kill, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local import Stack, StackError
from deploy.local.processes import Processes, Program

_GONE_LIMIT_S = 15.0


async def test_a_killed_broker_comes_back_with_its_records_on_its_port(stack: Stack) -> None:
    address = stack.endpoints.kafka
    topic = f"kept-{os.getpid()}-{time.monotonic_ns()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    await _produce(address, topic, b"before")
    if not stack.broker_name.startswith("Apache Kafka 4"):
        pytest.skip(f"no broker of our own to kill, it is {stack.broker_name}")
    stack.kill("kafka")
    stack.restart("kafka")
    assert stack.endpoints.kafka == address
    await _produce(address, topic, b"after")
    assert await _values(address, topic, 2) == [b"before", b"after"]


async def test_every_database_of_a_test_is_empty_and_its_own(database: str) -> None:
    connection = await asyncpg.connect(database)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    assert await connection.fetchval(tables) == 0
    assert await connection.fetchval("SELECT current_database()") in database
    await connection.close()


async def test_a_killed_database_server_comes_back_with_its_rows(stack: Stack, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE kept (id int)")
    await connection.execute("INSERT INTO kept VALUES (7)")
    stack.kill("postgres")
    stack.restart("postgres")
    connection.terminate()
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT id FROM kept") == 7
    await connection.close()


async def test_a_frozen_server_is_silent_until_it_goes_on(stack: Stack) -> None:
    client = redis.Redis.from_url(stack.endpoints.redis, socket_timeout=0.3)
    client.set("kept", "1")
    stack.pause("redis")
    with pytest.raises(redis.TimeoutError):
        client.get("kept")
    stack.resume("redis")
    assert client.get("kept") == b"1"
    client.close()


async def test_a_frozen_database_server_freezes_its_open_sessions_too(stack: Stack, database: str) -> None:
    connection = await asyncpg.connect(database)
    stack.pause("postgres")
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.3)
    stack.resume("postgres")
    connection.terminate()
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


def test_one_folder_holds_one_running_stack(tmp_path: Path) -> None:
    lines: list[str] = []
    with Stack.start(tmp_path, ("redis",), report=lines.append) as first:
        with pytest.raises(StackError, match="already runs"):
            Stack.start(tmp_path, ("redis",), report=lines.append)
        assert first.env() == {"CONNECTOR__REDIS__URL": first.endpoints.redis}
        with pytest.raises(StackError, match="no service"):
            first.kill("kafka")


def test_data_and_port_outlive_an_orderly_stop(tmp_path: Path) -> None:
    first = Stack.start(tmp_path, ("redis",), report=lambda _line: None)
    with first, redis.Redis.from_url(first.endpoints.redis) as client:
        client.set("kept", "1")
    second = Stack.start(tmp_path, ("redis",), report=lambda _line: None)
    assert second.endpoints == first.endpoints
    with second, redis.Redis.from_url(second.endpoints.redis) as client:
        assert client.get("kept") == b"1"


_STARTER = """
import sys, threading, time
from pathlib import Path
from deploy.local import Stack
def start():
    global stack
    stack = Stack.start(Path(sys.argv[1]), ("redis", "postgres"), report=lambda line: None)
# From a thread that ends: its servers must not end with it.
starter = threading.Thread(target=start); starter.start(); starter.join()
print(stack._processes.supervisor_pid, flush=True)
if sys.argv[2] == "exception":
    raise ValueError("on purpose")
if sys.argv[2] == "end":
    sys.exit(0)
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["end", "exception", "SIGTERM", "SIGINT", "SIGKILL"])
def test_nothing_outlives_the_starter(tmp_path: Path, way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path), way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as starter:
        assert starter.stdout is not None
        supervisor = psutil.Process(int(starter.stdout.readline()))
        family = [supervisor, *supervisor.children(recursive=True)] if way.startswith("SIG") else [supervisor]
        if way.startswith("SIG"):
            assert {"postgres", "valkey-server"} <= {process.name() for process in family}
            starter.send_signal(signal.Signals[way])
    _gone, alive = psutil.wait_procs(family, timeout=_GONE_LIMIT_S)
    assert alive == []


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells a child that its parent died")
    stack = Stack.start(tmp_path, ("redis",), report=lambda _line: None)
    supervisor = psutil.Process(stack._processes.supervisor_pid)
    family = supervisor.children(recursive=True)
    assert family
    supervisor.kill()
    _gone, alive = psutil.wait_procs(family, timeout=_GONE_LIMIT_S)
    assert alive == []
    stack.stop()


def test_the_command_line_starts_detached_tells_and_takes_down(tmp_path: Path) -> None:
    folder = str(tmp_path)
    _command("up", "--folder", folder, "--service", "redis", "--detach", "--json")
    try:
        assert json.loads(_command("status", "--folder", folder, "--json"))["running"] is True
        url = json.loads(_command("env", "--folder", folder, "--json"))["CONNECTOR__REDIS__URL"]
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    finally:
        _command("down", "--folder", folder)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        _command("status", "--folder", folder)
    assert failed.value.returncode == 3


def test_without_java_the_stand_in_serves_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONNECTOR__KAFKA__BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr("deploy.local.machine.engine_answers", lambda _environment: False)
    lines: list[str] = []
    with Stack.start(tmp_path / "stack", ("kafka",), report=lines.append) as stack:
        assert stack.broker_name.startswith("noida-db 0.2.3 (not Apache Kafka: no Java found")
    assert any("stands in for Apache Kafka" in line for line in lines)


def test_an_interrupted_caller_does_not_spoil_the_next_answer(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "supervisor.log")
    argv = [sys.executable, "-c", "raise SystemExit(3)"]
    processes.spawn(Program("short", argv, tmp_path / "short.log", tmp_path))
    assert processes._supervisor.stdin is not None
    # The question of a caller whom Ctrl-C took away before the answer.
    processes._supervisor.stdin.write(b'{"op": "poll", "name": "unknown", "id": 0}\n')
    deadline = time.monotonic() + _GONE_LIMIT_S
    while (code := processes.exit_code("short")) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert code == 3
    processes.end(1.0)


def _command(*arguments: str) -> str:
    argv = [sys.executable, "-m", "deploy.local", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


async def _produce(address: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, value)
    await producer.stop()


async def _values(address: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    values: list[bytes] = []
    while len(values) < count:
        values += [record.value for batch in (await consumer.getmany(timeout_ms=500)).values() for record in batch]
    await consumer.stop()
    return values
