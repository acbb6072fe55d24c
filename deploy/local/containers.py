"""The three servers as containers, where a Docker engine answers. Ports are fixed so that a restart keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from deploy.local.choice import KAFKA_VERSION, Service
from deploy.local.servers import BROKER_SETTINGS, DATABASE

KAFKA_IMAGE: Final = f"apache/kafka:{KAFKA_VERSION}"
POSTGRES_IMAGE: Final = "postgres:18"
REDIS_IMAGE: Final = "valkey/valkey:9"
#: For throw-away containers on the loopback address; docker-compose.yml has its own.
_PASSWORD: Final = "connector"  # noqa: S105


@dataclass(frozen=True)
class Recipe:
    """What to run: ``inner_port`` of the image is bound to ``port`` of 127.0.0.1; ``address`` is for clients."""

    image: str
    inner_port: int
    port: int
    address: str
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


class Wrapped(Protocol):
    """What is used of docker-py's container object."""

    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    def restart(self, timeout: int) -> None: ...
    def logs(self) -> bytes: ...


def recipe(service: Service, port: int) -> Recipe:
    """The container of one service; a plain value."""
    match service:
        case "kafka":
            return Recipe(KAFKA_IMAGE, 9092, port, f"127.0.0.1:{port}", kafka_environment(port))
        case "postgres":
            dsn = f"postgresql://{DATABASE}:{_PASSWORD}@127.0.0.1:{port}/{DATABASE}"
            variables = {"POSTGRES_USER": DATABASE, "POSTGRES_PASSWORD": _PASSWORD, "POSTGRES_DB": DATABASE}
            return Recipe(POSTGRES_IMAGE, 5432, port, dsn, variables, "postgres -c max_connections=200")
        case "redis":
            return Recipe(REDIS_IMAGE, 6379, port, f"redis://127.0.0.1:{port}/0", {}, "valkey-server --appendonly yes")


def kafka_environment(port: int) -> dict[str, str]:
    """The image's settings: ``KAFKA_`` and the setting's name in capitals, dots as underscores."""
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        **BROKER_SETTINGS,
    }
    return {image_variable(name): str(value) for name, value in settings.items()}


def image_variable(setting: str) -> str:
    """``group.min.session.timeout.ms`` -> ``KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS``."""
    return "KAFKA_" + setting.upper().replace(".", "_")


class Container:
    """One running container, removed by ``stop``; testcontainers removes it too when this process dies."""

    def __init__(self, plan: Recipe, log: Path) -> None:
        from testcontainers.core.container import DockerContainer

        self._log = log
        self._container = DockerContainer(plan.image)
        # docker-py takes (address, port), which with_bind_ports does not pass on: without it the whole network gets in.
        self._container.ports[str(plan.inner_port)] = ("127.0.0.1", plan.port)  # type: ignore[assignment]
        for name, value in plan.environment.items():
            self._container.with_env(name, value)
        if plan.command:
            self._container.with_command(plan.command)
        self._container.start()

    def kill(self) -> None:
        self._wrapped().kill()

    def restart(self) -> None:
        self._wrapped().restart(timeout=10)

    def pause(self) -> None:
        self._wrapped().pause()

    def resume(self) -> None:
        self._wrapped().unpause()

    def stop(self) -> None:
        self._log.write_bytes(self._wrapped().logs())
        self._container.stop()

    def _wrapped(self) -> Wrapped:
        wrapped: Wrapped = self._container.get_wrapped_container()
        return wrapped
