"""A stack: the three servers together, from wherever ``choose`` takes them, in one folder."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.local import kafka_jars, machine, record, servers
from deploy.local.backends import Backend, Given, InContainer, OnMachine, StackError
from deploy.local.choice import ENVIRONMENT_NAMES, SERVICES, Choice, Service, broker_name, choose
from deploy.local.containers import recipe
from deploy.local.processes import ProcessError, Processes

_STOP_LIMIT_S: Final = 10.0
_STAND_IN_WARNING: Final = "it does for a first look, not for figures or fault tests"

__all__ = ["Endpoints", "Stack", "StackError"]


@dataclass(frozen=True)
class Endpoints:
    """The addresses of a stack: Kafka as ``host:port``, PostgreSQL and Redis as URLs; empty when not asked for."""

    kafka: str = ""
    postgres: str = ""
    redis: str = ""

    def __repr__(self) -> str:
        # The other two may hold a password.
        return f"Endpoints(kafka={self.kafka!r}, ...)"


def say(line: str) -> None:
    """A progress line on standard error, in one write: the services report from threads of their own."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Stack:
    """Running servers. Use ``Stack.start``; ``stop`` it or use it as a context manager.

    Whatever happens to the starting process, its servers end with it, unless it called ``detach``. Data lies in
    ``<folder>/data``, logs in ``<folder>/logs/<name>.log``; a later start in the same folder finds the data again.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.endpoints = Endpoints()
        self.broker_name = ""
        self._report = report
        self._processes = Processes(folder / "logs" / "supervisor.log")
        self._backends: dict[Service, Backend] = {}
        self._ports: dict[str, list[int]] = dict(record.read(folder).ports)
        self._owner = os.getpid()
        self._over = False

    @classmethod
    def start(
        cls,
        folder: Path,
        services: Sequence[str] = SERVICES,
        *,
        report: Callable[[str], None] = say,
    ) -> Stack:
        """Starts the named services side by side and returns when each of them serves.

        Raises:
            StackError: a service is unknown or did not come up, or a stack already runs in this folder.
        """
        names = _known(services)
        folder = folder.resolve()
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        if record.running(record.read(folder)):
            raise StackError(f"a stack already runs in {folder}")
        stack = cls(folder, report)
        atexit.register(stack._stop_if_owner)
        try:
            stack._start_all(names)
        except BaseException:
            stack.stop()
            raise
        return stack

    def env(self) -> dict[str, str]:
        """The addresses under the names that the application reads from its environment."""
        addresses = {name: getattr(self.endpoints, name) for name in SERVICES}
        return {ENVIRONMENT_NAMES[name]: address for name, address in addresses.items() if address}

    def kill(self, name: str) -> None:
        """SIGKILL to one server; returns when it is gone."""
        self._on(name).kill()

    def restart(self, name: str) -> None:
        """Starts a server again on its data and port, stopping it before if it runs; returns when it serves."""
        self._on(name).restart()

    def pause(self, name: str) -> None:
        """Freezes one server (SIGSTOP): its connections stay open and silent."""
        self._on(name).pause()

    def resume(self, name: str) -> None:
        """Lets a frozen server go on."""
        self._on(name).resume()

    def detach(self) -> None:
        """Lets the servers outlive this process; ``python -m deploy.local down`` ends them."""
        self._processes.detach()
        self._over = True

    def running(self) -> bool:
        """False once the servers were stopped from here or from elsewhere."""
        return not self._over and self._processes.alive()

    def stop(self, *, keep_data: bool = True) -> None:
        """Ends the servers: in order within ten seconds, by SIGKILL after that. The logs stay."""
        if not self._over:
            self._over = True
            for backend in self._backends.values():
                backend.stop()
            self._processes.end(_STOP_LIMIT_S)
            self._write_record()
        if not keep_data:
            shutil.rmtree(self.folder / "data", ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start_all(self, names: Sequence[Service]) -> None:
        facts = machine.look(names)
        choices = {name: choose(name, facts) for name in names}
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            try:
                started = {name: pool.submit(self._start_one, name, choices[name]) for name in names}
                addresses = {name: future.result() for name, future in started.items()}
            except BaseException:
                # The pool waits for its threads; without their servers they come to an end at once.
                self._processes.end(_STOP_LIMIT_S)
                raise
        self.endpoints = Endpoints(**addresses)
        self._write_record()

    def _start_one(self, name: Service, choice: Choice) -> str:
        began = time.monotonic()
        try:
            backend = self._backend(name, choice)
            self._backends[name] = backend
            backend.start()
        except (ProcessError, OSError) as error:
            raise StackError(f"{name}: {error}") from error
        except StackError as error:
            if choice.kind != "container":
                raise
            # An engine without the images and without a network is as good as none.
            self._report(f"{error}\n{name}: trying without a container")
            return self._start_one(name, choose(name, machine.look((name,), engine=False)))
        label = f" {self.broker_name}" if name == "kafka" else ""
        self._report(f"{name}:{label} ready after {time.monotonic() - began:.1f} s")
        return backend.address

    def _backend(self, name: Service, choice: Choice) -> Backend:
        place = self._place(name, "noida" if choice.kind == "fallback" else name)
        match choice.kind:
            case "given":
                self._describe(name, choice, f"using the given server, {choice.why}")
                return Given(name, choice.address)
            case "container":
                self._describe(name, choice, f"starting a container, {choice.why}")
                return InContainer(name, recipe(name, place.port), place.log)
            case "fallback":
                self._describe(name, choice, f"noida-db stands in for Apache Kafka ({choice.why}); {_STAND_IN_WARNING}")
                return OnMachine(name, self._processes, lambda: servers.noida(place))
            case "local":
                return self._local(name, choice, place)

    def _local(self, name: Service, choice: Choice, place: servers.Place) -> Backend:
        if name != "kafka":
            self._describe(name, choice, "starting")
            prepare = servers.postgres if name == "postgres" else servers.valkey
            return OnMachine(name, self._processes, lambda: prepare(place, self._processes))
        try:
            jars = kafka_jars.resolve(self._report, self._processes, self.folder / "logs" / "maven.log")
        except kafka_jars.JarsMissing as error:
            self._report(f"kafka: {error}")
            return self._backend(name, Choice("fallback", "its jars could not be resolved"))
        java = machine.java_program() or "java"
        self._describe(name, choice, "starting")
        return OnMachine(name, self._processes, lambda: servers.kafka(place, self._processes, java, jars))

    def _describe(self, name: Service, choice: Choice, doing: str) -> None:
        if name == "kafka":
            self.broker_name = broker_name(choice)
        self._report(f"{name}: {doing}")

    def _place(self, name: Service, data: str) -> servers.Place:
        kept = [*self._ports.get(name, []), None, None]
        port = machine.free_port(kept[0])
        inner_port = machine.free_port(kept[1], but=port)
        self._ports[name] = [port, inner_port]
        return servers.Place(self.folder / "data" / data, self.folder / "logs" / f"{name}.log", port, inner_port)

    def _on(self, name: str) -> Backend:
        for service, backend in self._backends.items():
            if service == name:
                return backend
        raise StackError(f"this stack has no service {name!r}")

    def _write_record(self) -> None:
        pid = 0 if self._over else self._processes.supervisor_pid
        entry = record.Record(pid, record.birth(pid) if pid else 0.0, self.broker_name, self._ports, self.env())
        record.write(self.folder, entry)

    def _stop_if_owner(self) -> None:
        # A forked child inherits the registration, not the servers.
        if os.getpid() == self._owner:
            self.stop()


def _known(services: Sequence[str]) -> list[Service]:
    unknown = sorted(set(services) - set(SERVICES))
    if unknown:
        raise StackError(f"unknown services: {', '.join(unknown)}; there are {', '.join(SERVICES)}")
    return [name for name in SERVICES if name in services]


def environment_of(folder: Path) -> Mapping[str, str]:
    """The addresses of the stack that runs in a folder; empty when none does."""
    entry = record.read(folder)
    return entry.environment if record.running(entry) else {}
