"""Everything on one machine: servers, sandbox and worker, for ``connector up``.

What is started here ends here: the supervisor of ``deploy.local`` takes all programs down with this process, however
it ends.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

from api.rest.auth import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER
from app.cli.environment import ENV_FILE, write_env
from app.cli.failures import NOT_READY, CommandFailed
from app.cli.issuer import DevelopmentIssuer
from deploy.local import Stack
from deploy.local.processes import Processes, Program, tail

READY_S = 20.0
WORKER_READY_S = 30.0
STOP_S = 30.0
_POLL_S = 0.1


class StackStopped(Exception):
    """Somebody else stopped the servers: worker and sandbox end with them."""


@dataclass
class LocalRun:
    """A running local installation in ``folder``. Use as a context manager; ``env`` is what its processes are given."""

    folder: Path
    report: Callable[[str], None]
    http_port: int = 8003
    overrides: Mapping[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    checkpoint: Callable[[], None] = lambda: None
    """Called now and then while something is waited for; what it raises ends the run."""

    def __enter__(self) -> Self:
        self.folder = self.folder.resolve()
        _refuse_taken(self.http_port)
        self.stack = Stack.start(self.folder, report=self.report)
        self._processes = Processes(self.folder / "logs" / "up.log")
        try:
            self.env = self._environment()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        (self.folder / ENV_FILE).unlink(missing_ok=True)
        # Without servers a worker has nothing to hand back, and nobody to hand it to.
        self._processes.end(STOP_S if self.stack.running() else 1.0)
        self.stack.stop()

    def _environment(self) -> dict[str, str]:
        issuer = DevelopmentIssuer(self.folder / "auth")
        issuer.prepare()
        port = self.http_port or _free_port()
        return {
            **self.stack.env(),
            "CONNECTOR__STORAGE__URL": f"file:{self.folder / 'results'}",
            "CONNECTOR__HTTP__PORT": str(port),
            "CONNECTOR__HTTP__HOST": "127.0.0.1",
            "CONNECTOR__HTTP__ADVERTISED_URL": f"http://127.0.0.1:{port}",
            "CONNECTOR__AUTH__JWKS_FILE": str(issuer.jwks_file),
            "CONNECTOR__AUTH__ISSUER": DEVELOPMENT_ISSUER,
            "CONNECTOR__AUTH__AUDIENCE": DEVELOPMENT_AUDIENCE,
        }

    def start_sandbox(self, *arguments: str) -> dict[str, Any]:
        """Starts the simulator and adds its addresses to ``env``; its ready line. Raises ``CommandFailed``."""
        log = self.folder / "logs" / "sandbox.log"
        log.unlink(missing_ok=True)
        calls = self.folder / "logs" / "sandbox-calls.jsonl"
        self._spawn("sandbox", "app.sandbox", "--log", str(calls), *arguments)
        ready = self._first_json(log, "sandbox")
        self.env |= ready["env"]
        return ready

    def publish_env(self) -> None:
        """Leaves the addresses for other commands."""
        write_env(self.folder / ENV_FILE, self.env)

    def start_worker(self) -> Path:
        """Starts a worker; where it logs to."""
        log = self.folder / "logs" / "worker.log"
        log.unlink(missing_ok=True)
        self._spawn("worker", "app", "worker")
        return log

    def start_worker_on_a_free_port(self) -> None:
        """Starts a worker and waits until it can serve; on another port when somebody took the first one meanwhile."""
        for last in (False, False, True):
            log = self.start_worker()
            try:
                self.await_worker()
            except CommandFailed:
                if last or "address already in use" not in tail(log).lower():
                    raise
            else:
                return
            port = _free_port()
            own = {"CONNECTOR__HTTP__PORT": str(port), "CONNECTOR__HTTP__ADVERTISED_URL": f"http://127.0.0.1:{port}"}
            self.env |= own

    def await_worker(self) -> None:
        """Until the worker can serve. Raises ``CommandFailed`` when it ends, or takes longer than half a minute."""
        url = f"http://127.0.0.1:{self.env['CONNECTOR__HTTP__PORT']}/readyz"
        deadline = time.monotonic() + WORKER_READY_S
        while time.monotonic() < deadline and self.worker_code() is None:
            self.checkpoint()
            try:
                with urlopen(url, timeout=2):
                    return
            except OSError:
                time.sleep(_POLL_S)
        raise CommandFailed(f"the worker did not start; {tail(self.folder / 'logs' / 'worker.log')}", code=NOT_READY)

    def worker_code(self) -> int | None:
        """The worker's exit code, None while it runs."""
        return self._processes.exit_code("worker")

    def follow(self, log: Path) -> int:
        """Copies the worker's log to standard output until the worker ends; its exit code. Raises ``StackStopped``."""
        with log.open("rb") as lines:
            while True:
                self.checkpoint()
                if not self.stack.running():
                    raise StackStopped
                code = self.worker_code()
                piece = lines.read()
                if piece:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.flush()
                elif code is not None:
                    return code
                else:
                    time.sleep(_POLL_S)

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        environment = {**os.environ, **self.env, **self.overrides, "TMPDIR": str(scratch)}
        log = self.folder / "logs" / f"{name}.log"
        argv = [sys.executable, "-m", module, *arguments]
        self._processes.spawn(Program(name, argv, log, Path.cwd(), environment))

    def _first_json(self, log: Path, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._processes.exit_code(name) is None:
            self.checkpoint()
            for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else ():
                if line.startswith("{") and line.endswith("\n"):
                    ready: dict[str, Any] = json.loads(line)
                    return ready
            time.sleep(_POLL_S)
        raise CommandFailed(f"the {name} did not start; {tail(log)}", code=NOT_READY)


def _refuse_taken(port: int) -> None:
    """Before anything is started: a worker that cannot listen would be the last to say so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            advice = "make down ends this folder's own; or take another port: connector up --port 0"
            raise CommandFailed(f"port {port} is taken by another program", advice=advice, code=NOT_READY) from None


def _free_port() -> int:
    """A port that nobody listens on at this moment; for people who run several installations at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
