"""The process that owns the servers: starts them, signals them, and ends them when its own starter is gone.

It runs as a program of its own and is single-threaded on purpose: Linux delivers the parent-death signal when the
*thread* that forked ends, and a starter may well start its stack from a thread that does. One request per line comes
in on standard input, one reply per line goes out, both JSON. The end of standard input, or another parent than at
the start, means that the starter is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_TICK_S: Final = 0.2
_END_LIMIT_S: Final = 10.0
_ORPHAN_LIMIT_S: Final = 3.0
# From linux/prctl.h, linux/securebits.h and linux/capability.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECUREBITS: Final = 28
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
_CAP_DAC_OVERRIDE: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_LINUX: Final = sys.platform.startswith("linux")
_libc: Final = ctypes.CDLL(None, use_errno=True) if _LINUX else None


class Children:
    """The running servers by name."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stop_signals: dict[str, int] = {}
        self._paused: dict[str, list[int]] = {}

    def spawn(self, request: dict[str, Any]) -> dict[str, Any]:
        """Starts a program with its output appended to a log file; replies its process id."""
        name = str(request["name"])
        with Path(request["log"]).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                request["argv"],
                cwd=request["cwd"],
                env=request["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Unsafe only beside other threads, and here are none.
                preexec_fn=_prepare(os.getpid(), request.get("uid"), request.get("gid")),  # noqa: PLW1509
            )
        self._stop_signals[name] = int(request.get("stop_signal", signal.SIGTERM))
        return {"pid": self._processes[name].pid}

    def poll(self, request: dict[str, Any]) -> dict[str, Any]:
        """Replies the exit code of one program, null while it runs."""
        return {"code": self._processes[request["name"]].poll()}

    def kill(self, request: dict[str, Any]) -> dict[str, Any]:
        """SIGKILL, then waits for the end."""
        name = request["name"]
        self._processes[name].kill()
        code = self._processes[name].wait()
        # A stopped program does not run again before it dies; what it had started must, to see that it is gone.
        self.resume(request)
        return {"code": code}

    def pause(self, request: dict[str, Any]) -> dict[str, Any]:
        """SIGSTOP to a program and all it started."""
        import psutil

        root = psutil.Process(self._processes[request["name"]].pid)
        # The parent first, so that it starts nobody while its children are being counted.
        root.suspend()
        family = [root.pid, *(child.pid for child in root.children(recursive=True))]
        self._paused[request["name"]] = family
        _signal_all(family, signal.SIGSTOP)
        return {}

    def resume(self, request: dict[str, Any]) -> dict[str, Any]:
        """SIGCONT to whatever ``pause`` stopped; nothing when nothing is."""
        _signal_all(self._paused.pop(request["name"], []), signal.SIGCONT)
        return {}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Orderly stop of one program within ``limit_s``, else SIGKILL."""
        self._stop([request["name"]], float(request["limit_s"]))
        return {}

    def end(self, limit_s: float) -> None:
        """Orderly stop of all programs at once within ``limit_s``, else SIGKILL."""
        self._stop(list(self._processes), limit_s)

    def _stop(self, names: list[str], limit_s: float) -> None:
        running = [name for name in names if self._processes[name].poll() is None]
        for name in running:
            self.resume({"name": name})
            self._processes[name].send_signal(self._stop_signals[name])
        deadline = time.monotonic() + limit_s
        for name in running:
            try:
                self._processes[name].wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._processes[name].kill()
                self._processes[name].wait()


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _prepare(parent: int, uid: int | None, gid: int | None) -> Callable[[], None]:
    """What a child does between fork and exec: give up root if told so, and die with this supervisor."""

    def prepare() -> None:
        if uid is not None and gid is not None:
            _become(uid, gid)
        if _libc is not None:
            # After the change of user, which clears it.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _become(uid: int, gid: int) -> None:
    """Another user, who keeps of root's powers only the one to pass folder permissions.

    PostgreSQL refuses to run as root. As ``nobody`` it must still reach its own programs and its data, and both may
    lie below a folder that only root may enter (a home, a pytest folder). access(2) looks at the effective
    capabilities only with SECBIT_NO_SETUID_FIXUP, and PostgreSQL asks access(2) for its programs. Where the kernel
    grants none of this, PostgreSQL runs if the folders let it, and says in its log if they do not.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if _libc is not None:
        mask = 1 << _CAP_DAC_OVERRIDE
        data = (_CapData * 2)(_CapData(mask, mask, mask), _CapData(0, 0, 0))
        if _libc.capset(ctypes.byref(_CapHeader(_CAPABILITY_VERSION_3, 0)), data) == 0:
            # Only ambient capabilities outlive the exec of an ordinary program by an ordinary user.
            _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


class Supervisor:
    """The loop: requests in, replies out, until told to end or left alone."""

    def __init__(self) -> None:
        self.children = Children()
        self.detached = False
        self.ending: float | None = None
        self._parent = os.getppid()
        self._buffer = b""

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._end_soon(_END_LIMIT_S))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        while self.ending is None:
            readable, _, _ = select.select([] if self.detached else [0], [], [], _TICK_S)
            if readable:
                self._read()
            if not self.detached and os.getppid() != self._parent:
                self._end_soon(_ORPHAN_LIMIT_S)
        self.children.end(self.ending)

    def _end_soon(self, limit_s: float) -> None:
        self.ending = limit_s

    def _read(self) -> None:
        chunk = os.read(0, 65536)
        if not chunk:
            self._end_soon(_ORPHAN_LIMIT_S)
            return
        self._buffer += chunk
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            request = json.loads(line)
            self._reply({**self._answer(request), "id": request["id"]})

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            match request["op"]:
                case "detach":
                    self.detached = True
                    return {}
                case "end":
                    self.children.end(float(request["limit_s"]))
                    self._end_soon(0.0)
                    return {}
                case "spawn" | "poll" | "kill" | "pause" | "resume" | "stop" as operation:
                    result: dict[str, Any] = getattr(self.children, operation)(request)
                    return result
                case unknown:
                    return {"error": f"unknown request {unknown}"}
        except Exception as error:  # noqa: BLE001 - the starter gets the reason, the other servers go on
            return {"error": f"{type(error).__name__}: {error}"}

    @staticmethod
    def _reply(reply: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    # Not to keep the starter's folder busy.
    os.chdir(Path("/"))
    Supervisor().run()
