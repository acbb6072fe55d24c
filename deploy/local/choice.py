"""Where each server comes from: a plain decision over plain facts about this machine (no I/O)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Service = Literal["kafka", "postgres", "redis"]
Kind = Literal["given", "container", "local", "fallback"]

SERVICES: Final[tuple[Service, ...]] = ("kafka", "postgres", "redis")
#: The environment names of the three addresses; the application reads the same ones.
ENVIRONMENT_NAMES: Final[Mapping[Service, str]] = {
    "kafka": "CONNECTOR__KAFKA__BOOTSTRAP_SERVERS",
    "postgres": "CONNECTOR__POSTGRES__DSN",
    "redis": "CONNECTOR__REDIS__URL",
}
KAFKA_VERSION: Final = "4.3.1"
NOIDA_VERSION: Final = "0.2.3"
#: Apache Kafka 4 brokers are compiled for Java 17.
OLDEST_JAVA: Final = 17


@dataclass(frozen=True)
class Facts:
    """What was found on this machine. ``given`` maps a service to the address in the environment."""

    given: Mapping[Service, str] = field(default_factory=dict)
    engine_answers: bool = False
    java_major: int | None = None
    maven: bool = False
    jars_cached: bool = False


@dataclass(frozen=True)
class Choice:
    """One service's source; ``why`` is a sentence part for people, empty when there is nothing to explain."""

    kind: Kind
    why: str = ""
    address: str = ""


def choose(service: Service, facts: Facts) -> Choice:
    """Address given in the environment, else a container, else a local process; for Kafka at last the stand-in."""
    address = facts.given.get(service, "").strip()
    if address:
        return Choice("given", f"{ENVIRONMENT_NAMES[service]} is set", address)
    if facts.engine_answers:
        return Choice("container", "a Docker engine answers")
    if service != "kafka":
        return Choice("local")
    lack = missing_for_kafka(facts)
    return Choice("fallback", lack) if lack else Choice("local")


def missing_for_kafka(facts: Facts) -> str:
    """What keeps Apache Kafka from running here, as a sentence part; empty when nothing does."""
    if facts.java_major is None:
        return f"no Java found, Apache Kafka needs {OLDEST_JAVA} or newer"
    if facts.java_major < OLDEST_JAVA:
        return f"Java {facts.java_major} found, Apache Kafka needs {OLDEST_JAVA} or newer"
    if not facts.maven and not facts.jars_cached:
        return "no Maven found to resolve Apache Kafka's jars"
    return ""


def broker_name(choice: Choice) -> str:
    """What answers as Kafka, in words fit for a test report."""
    match choice.kind:
        case "given":
            return f"given: {choice.address}"
        case "container":
            return "Apache Kafka (testcontainers)"
        case "local":
            return f"Apache Kafka {KAFKA_VERSION} (local)"
        case "fallback":
            return f"noida-db {NOIDA_VERSION} (not Apache Kafka: {choice.why})"


def java_major(banner: str) -> int | None:
    """Major version from what ``java -version`` prints: ``"17.0.15"`` -> 17, the old ``"1.8.0_392"`` -> 8."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', banner)
    if found is None:
        return None
    major = int(found[1])
    return int(found[2]) if major == 1 and found[2] else major
