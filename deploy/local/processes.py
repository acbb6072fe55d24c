"""The starter's side of the supervisor: one call per request."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_POLL_S: Final = 0.02


class ProcessError(Exception):
    """A server's program could not be started, or ended when it should not have."""


@dataclass(frozen=True)
class Program:
    """One program to run: its output goes to ``log``; ``user`` is (uid, gid), None for the present one."""

    name: str
    argv: Sequence[str]
    log: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    stop_signal: int = 15


class Processes:
    """A supervisor and the programs it runs. Safe to use from several threads. ``log`` is the supervisor's own."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as output:
            # -I: no folder of the caller's decides what the supervisor imports. No stream of the caller's is kept open.
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", str(_SUPERVISOR)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def supervisor_pid(self) -> int:
        return self._supervisor.pid

    def alive(self) -> bool:
        """False once the supervisor, and with it every program, is gone."""
        return self._supervisor.poll() is None

    def spawn(self, program: Program) -> int:
        """Starts a program; returns its process id.

        Raises:
            ProcessError: it could not be started.
        """
        uid, gid = program.user or (None, None)
        reply = self._ask(
            op="spawn",
            name=program.name,
            argv=list(program.argv),
            env=dict(program.environment),
            cwd=str(program.cwd),
            log=str(program.log),
            uid=uid,
            gid=gid,
            stop_signal=program.stop_signal,
        )
        return int(reply["pid"])

    def run(self, program: Program, limit_s: float) -> None:
        """Runs a program to its end.

        Raises:
            ProcessError: it failed, or was not done within ``limit_s`` seconds.
        """
        self.spawn(program)
        deadline = time.monotonic() + limit_s
        while (code := self.exit_code(program.name)) is None:
            if time.monotonic() > deadline:
                self.kill(program.name)
                raise ProcessError(f"{program.name} was not done after {limit_s:g} s; {tail(program.log)}")
            time.sleep(_POLL_S)
        if code != 0:
            raise ProcessError(f"{program.name} failed with {code}; {tail(program.log)}")

    def exit_code(self, name: str) -> int | None:
        """None while the program runs; negative when a signal ended it."""
        code: int | None = self._ask(op="poll", name=name)["code"]
        return code

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the program is gone."""
        self._ask(op="kill", name=name)

    def stop(self, name: str, limit_s: float) -> None:
        """Orderly stop, SIGKILL after ``limit_s`` seconds."""
        self._ask(op="stop", name=name, limit_s=limit_s)

    def pause(self, name: str) -> None:
        """SIGSTOP to the program and all it started."""
        self._ask(op="pause", name=name)

    def resume(self, name: str) -> None:
        """SIGCONT to what ``pause`` stopped."""
        self._ask(op="resume", name=name)

    def detach(self) -> None:
        """Lets the programs outlive this process; SIGTERM to ``supervisor_pid`` then ends them."""
        self._ask(op="detach")

    def end(self, limit_s: float) -> None:
        """Stops all programs in order, SIGKILL after ``limit_s`` seconds, and the supervisor with them."""
        if self._supervisor.poll() is None:
            try:
                self._ask(op="end", limit_s=limit_s)
            except ProcessError:
                self._supervisor.terminate()
        self._supervisor.wait()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, **request: object) -> dict[str, Any]:
        stdin, stdout = self._supervisor.stdin, self._supervisor.stdout
        assert stdin is not None
        assert stdout is not None
        with self._lock:
            self._requests += 1
            try:
                stdin.write(json.dumps({**request, "id": self._requests}).encode() + b"\n")
                stdin.flush()
                reply = self._reply_to(self._requests, stdout)
            except (OSError, ValueError) as error:
                raise ProcessError("the supervisor is gone") from error
        if "error" in reply:
            raise ProcessError(str(reply["error"]))
        return reply

    @staticmethod
    def _reply_to(number: int, stdout: IO[bytes]) -> dict[str, Any]:
        """Skips replies to earlier requests, whose callers were interrupted while they waited."""
        for line in stdout:
            reply: dict[str, Any] = json.loads(line)
            if reply["id"] == number:
                return reply
        raise OSError("end of the supervisor's output")


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, in a form that fits an error text."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return f"no log at {log}"
    return f"the end of {log}:\n" + "\n".join(text.splitlines()[-lines:])
