"""A reader's two terminals: one in which ``make up`` runs, and one for everything else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, Queue
from typing import IO

END = "__ended__"
BASH = shutil.which("bash") or "/bin/bash"
UP_S = 120.0
DOWN_S = 60.0


class Failed(AssertionError):
    """A command that a page tells people to type does not work."""


class Terminal:
    """One bash session: variables set by a command are there for the next."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            [BASH, "--noprofile", "--norc"], cwd=folder, env=dict(environment), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._lines: Queue[str | None] = Queue()
        self._reading = threading.Thread(target=_pump, args=(self._bash.stdout, self._lines), daemon=True)
        self._reading.start()

    def run(self, text: str, within_s: float) -> str:
        """Runs one command to its end; what it printed. Raises ``Failed`` unless it ends with 0 in time."""
        stdin = self._bash.stdin
        assert stdin is not None
        # On a line of its own, also after what ends without one.
        stdin.write(f"{text}\nprintf '\\n%s %s\\n' {END} $?\n")
        stdin.flush()
        printed: list[str] = []
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
            except Empty:
                raise Failed(f"not done after {within_s:.0f} s: {text}\n{''.join(printed)[-3_000:]}") from None
            if line is None:
                raise Failed(f"the terminal ended in: {text}\n{''.join(printed)[-3_000:]}")
            if line.startswith(END):
                code = int(line.split()[1])
                if code:
                    raise Failed(f"ended with {code}: {text}\n{''.join(printed)[-3_000:]}")
                return "".join(printed)
            printed.append(line)

    def close(self) -> None:
        """Ends the session and what still runs in it."""
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        self._reading.join(5)
        for stream in (self._bash.stdin, self._bash.stdout):
            assert stream is not None
            stream.close()


class Running:
    """A command that stays: started, awaited until it says that it is there, ended by Ctrl-C."""

    def __init__(self, text: str, folder: Path, environment: Mapping[str, str], *, says: str) -> None:
        self._process = subprocess.Popen(
            [BASH, "-c", f"exec {text}"], cwd=folder, env=dict(environment), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._lines: Queue[str | None] = Queue()
        self._printed: list[str] = []
        self._reading = threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True)
        self._reading.start()
        self._await(says, text)

    def _await(self, says: str, text: str) -> None:
        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.5)
            except Empty:
                continue
            if line is None:
                break
            self._printed.append(line)
            if line.startswith(says):
                return
        self.stop()
        raise Failed(f"{text} did not say {says!r}:\n{''.join(self._printed)[-3_000:]}")

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            return self._process.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise Failed("it did not end within a minute after Ctrl-C") from None
        finally:
            self._reading.join(5)
            if self._process.stdout is not None:
                self._process.stdout.close()


def _pump(stream: IO[str] | None, lines: Queue[str | None]) -> None:
    for line in stream or ():
        lines.put(line)
    lines.put(None)


def environment(stack: Path) -> dict[str, str]:
    """What a reader's shell has, with the local stack in a folder of its own."""
    ours = ("CONNECTOR", "MAKE", "MFLAGS", "ARGS")  # also what make hands on of its own command line
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "CONNECTOR_STACK": str(stack), "PYTHON": sys.executable}


def say(line: str) -> None:
    """Progress on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


Say = Callable[[str], None]
