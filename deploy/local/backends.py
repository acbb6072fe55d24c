"""One service of a stack, wherever it runs: given from outside, in a container, or as a process of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from deploy.local import probes
from deploy.local.choice import Service
from deploy.local.containers import Container, Recipe
from deploy.local.processes import Processes, tail
from deploy.local.servers import Server

_READY_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.05
_RESPAWN_S: Final = 0.3


class StackError(Exception):
    """The stack cannot do what was asked; the text says why and, for a server that failed, how its log ends."""


#: How each service is asked whether it serves.
PROBES: Final[Mapping[Service, Callable[[str], None]]] = {
    "kafka": probes.kafka,
    "postgres": probes.postgres,
    "redis": probes.redis_server,
}


class Backend(Protocol):
    """``address`` is known once ``start`` has returned, and stays. All raise StackError."""

    address: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...


class Given:
    """A server somebody else runs: used, never touched."""

    def __init__(self, service: Service, address: str) -> None:
        self._service = service
        self.address = address

    def start(self) -> None:
        wait_ready(self._service, PROBES[self._service], self.address)

    def stop(self) -> None:
        """Leaves it alone."""

    def kill(self) -> None:
        raise self._refusal()

    def restart(self) -> None:
        raise self._refusal()

    def pause(self) -> None:
        raise self._refusal()

    def resume(self) -> None:
        raise self._refusal()

    def _refusal(self) -> StackError:
        return StackError(f"{self._service} is given from outside; this stack does not control it")


class InContainer:
    """A container of ours."""

    def __init__(self, service: Service, plan: Recipe, log: Path) -> None:
        self._service = service
        self._plan = plan
        self._log = log
        self._container: Container | None = None
        self.address = plan.address

    def start(self) -> None:
        try:
            self._container = Container(self._plan, self._log)
        except Exception as error:
            raise StackError(f"{self._service}: the container {self._plan.image} did not start: {error}") from error
        self._wait()

    def restart(self) -> None:
        self._running().restart()
        self._wait()

    def kill(self) -> None:
        self._running().kill()

    def pause(self) -> None:
        self._running().pause()

    def resume(self) -> None:
        self._running().resume()

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def _running(self) -> Container:
        if self._container is None:
            raise StackError(f"{self._service} was not started")
        return self._container

    def _wait(self) -> None:
        wait_ready(self._service, PROBES[self._service], self.address)


class OnMachine:
    """A process of ours. ``prepare`` does what the first start needs and says how to run the server."""

    def __init__(self, service: Service, processes: Processes, prepare: Callable[[], Server]) -> None:
        self._service = service
        self._processes = processes
        self._prepare = prepare
        self._server: Server | None = None
        self.address = ""

    def start(self) -> None:
        self._server = self._prepare()
        self.address = self._server.address
        self._processes.spawn(self._server.program)
        self._wait(self._fail_if_ended)

    def restart(self) -> None:
        self._processes.stop(self._running().program.name, _STOP_LIMIT_S)
        self._processes.spawn(self._running().program)
        self._wait(self._spawn_again_if_ended)

    def kill(self) -> None:
        self._processes.kill(self._running().program.name)

    def pause(self) -> None:
        self._processes.pause(self._running().program.name)

    def resume(self) -> None:
        self._processes.resume(self._running().program.name)

    def stop(self) -> None:
        """The supervisor ends all processes together."""

    def _running(self) -> Server:
        if self._server is None:
            raise StackError(f"{self._service} was not started")
        return self._server

    def _wait(self, look: Callable[[], None]) -> None:
        # Only our own server may be given a database: an address from outside names one that exists.
        probe = probes.postgres_with_database if self._service == "postgres" else PROBES[self._service]
        wait_ready(self._service, probe, self.address, look, self._running().program.log)

    def _fail_if_ended(self) -> None:
        program = self._running().program
        code = self._processes.exit_code(program.name)
        if code is not None:
            raise StackError(f"{self._service} ended with {code} while starting; {tail(program.log)}")

    def _spawn_again_if_ended(self) -> None:
        # After a kill -9 PostgreSQL's heir refuses to start until the last of the old back ends has noticed.
        program = self._running().program
        if self._processes.exit_code(program.name) is not None:
            time.sleep(_RESPAWN_S)
            self._processes.spawn(program)


def wait_ready(
    service: Service,
    probe: Callable[[str], None],
    address: str,
    look: Callable[[], None] = lambda: None,
    log: Path | None = None,
    limit_s: float = _READY_LIMIT_S,
) -> None:
    """Probes until the server serves; ``look`` is called after each failed probe and may give up.

    Raises:
        StackError: it does not serve after ``limit_s`` seconds.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return probe(address)
        except probes.NotReady as error:
            look()
            if time.monotonic() > deadline:
                end = f"; {tail(log)}" if log else ""
                raise StackError(f"{service} does not serve after {limit_s:g} s: {error}{end}") from error
            time.sleep(_POLL_S)
