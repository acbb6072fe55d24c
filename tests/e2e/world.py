"""One installation for a test: topics, group and database of its own on a shared stack, a sandbox, workers to kill.

Many fit on one stack. All processes hang on a supervisor (``deploy.local``), so that nothing outlives the test,
whatever ends it; they are ended one by one through it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from deploy.local import databases
from deploy.local.machine import free_port
from deploy.local.processes import Processes, Program, tail
from tests.e2e import connecting, gathering
from tests.e2e.evidence import Account
from tests.e2e.findings import Report

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
_STOP_S = 25.0
_POLL_S = 0.1
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "VIRTUAL_ENV")

Say = Callable[[str], None]


class NotUp(Exception):
    """Something did not start; the text ends with the tail of its log."""


def quiet(_line: str) -> None:
    """Says nothing."""


def loud(line: str) -> None:
    """A progress line on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@dataclass(slots=True)
class Life:
    """One worker: its port stays, its process changes with every start. ``wanted``: it should run, so ``supervise``
    starts it again when it ends by itself."""

    name: str
    port: int
    starts: int = 0
    pid: int = 0
    wanted: bool = False
    paused: bool = False
    logs: list[Path] = field(default_factory=list)

    @property
    def process(self) -> str:
        return f"{self.name}-{self.starts}"


@dataclass(slots=True)
class World:
    """What a test holds. ``env`` is the whole environment of the product's processes."""

    prefix: str
    folder: Path
    env: dict[str, str]
    processes: Processes
    say: Say = quiet
    sandbox_url: str = ""
    sandbox_log: Path = Path()
    accounts: list[Account] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    restarts: int = 0
    supervised: bool = False

    @property
    def bootstrap(self) -> str:
        return self.env["CONNECTOR__KAFKA__BOOTSTRAP_SERVERS"]

    async def run(self, name: str, *arguments: str) -> str:
        """Runs a command of the product to its end; its output. Raises ``NotUp`` when it fails."""
        log = self.folder / f"{name}.log"
        program = Program(name, [sys.executable, "-m", *arguments], log, ROOT, self.env)
        await asyncio.to_thread(_run, self.processes, program)
        return log.read_text(encoding="utf-8")

    async def start_sandbox(self, *options: str) -> None:
        """Starts the provider's simulator; its log file keeps every arrival."""
        log = self.folder / "sandbox.log"
        self.sandbox_log = self.folder / "calls.jsonl"
        argv = [sys.executable, "-m", "app.sandbox", "--log", str(self.sandbox_log), *options]
        self.processes.spawn(Program("sandbox", argv, log, ROOT, self.env))
        ready = await self._first_json(log)
        self.sandbox_url = ready["api_url"]
        self.env |= ready["env"]

    async def _first_json(self, log: Path) -> dict[str, Any]:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.processes.exit_code("sandbox") is None:
            ready = await asyncio.to_thread(_json_line, log)
            if ready is not None:
                return ready
            await asyncio.sleep(_POLL_S)
        raise NotUp(f"the sandbox did not start; {tail(log)}")

    async def tell_sandbox(self, door: str, body: Mapping[str, Any]) -> Any:
        """POST to one of the sandbox's own doors."""
        data = json.dumps(body).encode()
        request = Request(f"{self.sandbox_url}/_sandbox/{door}", data=data, method="POST")  # noqa: S310 - its own address
        return await asyncio.to_thread(_json_of, request)

    async def ask_sandbox(self, door: str, **query: Any) -> Any:
        """GET from one of the sandbox's own doors."""
        return await asyncio.to_thread(lambda: gathering.ask(self.sandbox_url, door, **query))

    async def start(self, name: str, *, ready: bool = True, **settings: str) -> Life:
        """Starts a worker, or the same one again; waits until it can serve unless told not to."""
        life = self.lives.setdefault(name, Life(name, free_port()))
        life.starts += 1
        life.wanted, life.paused = True, False
        log = self.folder / f"{life.process}.log"
        life.logs.append(log)
        url = f"http://127.0.0.1:{life.port}"
        own = {"CONNECTOR__HTTP__PORT": str(life.port), "CONNECTOR__HTTP__ADVERTISED_URL": url, **settings}
        argv = [sys.executable, "-m", "app", "worker"]
        life.pid = self.processes.spawn(Program(life.process, argv, log, ROOT, {**self.env, **own}))
        if ready:
            await self.ready(name)
        return life

    async def ready(self, name: str, *, within_s: float = READY_S) -> float:
        """Waits for 200 from a worker's ``/readyz``; how many seconds that took. Raises ``NotUp``."""
        life, began = self.lives[name], time.monotonic()
        while time.monotonic() - began < within_s:
            if await asyncio.to_thread(_status, f"http://127.0.0.1:{life.port}/readyz") == HTTPStatus.OK:
                return time.monotonic() - began
            if not self.supervised and not self.alive(name):
                break
            await asyncio.sleep(_POLL_S)
        waited = time.monotonic() - began
        raise NotUp(f"worker {name} is not ready after {waited:.0f} s; {tail(life.logs[-1])}")

    def alive(self, name: str) -> bool:
        return self.processes.exit_code(self.lives[name].process) is None

    def kill(self, name: str) -> None:
        """kill -9; it stays down until it is started again."""
        life = self.lives[name]
        life.wanted = life.paused = False
        self.processes.kill(life.process)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.lives[name].paused = True
        self.processes.pause(self.lives[name].process)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.processes.resume(self.lives[name].process)
        self.lives[name].paused = False

    async def stop(self, name: str) -> None:
        """SIGTERM, SIGKILL after a while."""
        life = self.lives[name]
        life.wanted = False
        await asyncio.to_thread(self.processes.stop, life.process, _STOP_S)

    async def supervise(self) -> None:
        """Starts every wanted worker again that has ended by itself, as a supervisor would. Runs until cancelled."""
        self.supervised = True
        while True:
            for life in list(self.lives.values()):
                if life.wanted and not life.paused and not self.alive(life.name):
                    self.restarts += 1
                    code = self.processes.exit_code(life.process)
                    self.say(f"worker {life.name} ended by itself with {code}; {_last_line(life.logs[-1])}")
                    await self.start(life.name, ready=False)
            await asyncio.sleep(0.3)

    async def connect(self, count: int, *, users: int = 4, orgs: int = 4) -> None:
        """Adds DV360 connectors: accounts 1001, 1002, ... of ``orgs`` organisations, on ``users`` people's consents."""
        self.accounts += await connecting.add(self.env, len(self.accounts), count, users, orgs)

    async def check(self, *, refusals: int | None = 0) -> Report:
        """The outside checker over this world, in a process of its own: it computes for long at a time."""
        from tests.e2e import checker

        loop, asked = asyncio.get_running_loop(), (self.bootstrap, self.prefix, self.sandbox_url, refusals)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return await loop.run_in_executor(pool, checker.run, *asked)


def _run(processes: Processes, program: Program) -> None:
    try:
        processes.run(program, READY_S)
    except Exception as error:
        raise NotUp(f"{program.name}: {error}; {tail(program.log)}") from error


def _json_line(log: Path) -> dict[str, Any] | None:
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else ():
        if line.startswith("{") and line.endswith("\n"):
            found: dict[str, Any] = json.loads(line)
            return found
    return None


def _json_of(request: Request) -> Any:
    with urlopen(request, timeout=30) as answer:  # noqa: S310 - the sandbox's own address
        return json.load(answer)


def _status(url: str) -> int:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - a worker's own address
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return 0


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "its log is empty"


@asynccontextmanager
async def world(
    stack_env: Mapping[str, str],
    folder: Path,
    *,
    sandbox: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    connectors: int = 0,
    users: int = 4,
    say: Say = quiet,
) -> AsyncIterator[World]:
    """A fresh world on a running stack. ``sandbox``: its command line; ``settings``: environment over the defaults
    here; ``connectors``: how many accounts are connected at once."""
    name = uuid.uuid4().hex[:10]
    folder = folder / name
    folder.mkdir(parents=True)
    dsn = await asyncio.to_thread(databases.create, stack_env["CONNECTOR__POSTGRES__DSN"], f"e2e_{name}")
    env = _environment(stack_env, dsn, name, folder, settings or {})
    made = World(f"e2e-{name}.", folder, env, Processes(folder / "supervisor.log"), say)
    try:
        await asyncio.gather(
            made.start_sandbox(*sandbox),
            made.run("migrate", "app", "migrate"),
            made.run("topics", "app", "topics", "apply"),
        )
        if connectors:
            await made.connect(connectors, users=users)
        yield made
    finally:
        await asyncio.to_thread(made.processes.end, _STOP_S)
        await asyncio.to_thread(databases.drop, stack_env["CONNECTOR__POSTGRES__DSN"], f"e2e_{name}")
        shutil.rmtree(folder / "results", ignore_errors=True)


def _environment(
    stack_env: Mapping[str, str], dsn: str, name: str, folder: Path, settings: Mapping[str, str]
) -> dict[str, str]:
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    return {
        **kept,
        **stack_env,
        "PYTHONUNBUFFERED": "1",
        "CONNECTOR__POSTGRES__DSN": dsn,
        "CONNECTOR__STREAMS__TOPIC_PREFIX": f"e2e-{name}.",
        "CONNECTOR__STREAMS__GROUP": f"e2e-{name}",
        "CONNECTOR__STORAGE__URL": (folder / "results").as_uri(),
        "CONNECTOR__HTTP__HOST": "127.0.0.1",
        "CONNECTOR__LOG__FORMAT": "json",
        "CONNECTOR__PROVIDERS__DV360__POLL_SCHEDULE_S": "0.7,1,2",
        **settings,
    }
