"""``connector up``: what it looks at before it starts anything, and when it ends by itself."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli import local
from app.cli.failures import CommandFailed
from app.cli.local import LocalRun, StackStopped
from deploy.local import Stack


def test_a_taken_port_is_told_before_a_server_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "start", lambda *_args, **_kwargs: pytest.fail("something was started"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandFailed, match=f"port {port} is taken"), LocalRun(tmp_path, print, port):
            pytest.fail("it ran")


def test_it_ends_with_servers_that_were_stopped_from_elsewhere(tmp_path: Path) -> None:
    local: Any = LocalRun(tmp_path, print)
    local.stack = SimpleNamespace(running=lambda: False)
    local._processes = SimpleNamespace(exit_code=lambda _name: None)
    log = tmp_path / "worker.log"
    log.touch()
    with pytest.raises(StackStopped):
        local.follow(log)


def test_a_port_that_was_taken_meanwhile_is_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between choosing a free port and listening on it another program may come first."""
    run = LocalRun(tmp_path, lambda _line: None)
    run.env["CONNECTOR__HTTP__PORT"] = "1"
    log = tmp_path / "worker.log"
    tried: list[str] = []

    def start() -> Path:
        tried.append(run.env["CONNECTOR__HTTP__PORT"])
        log.write_text("OSError: [Errno 98] address already in use\n" if tried[-1] == "1" else "ready\n")
        return log

    def wait() -> None:
        if tried[-1] == "1":
            raise CommandFailed("the worker did not start")

    monkeypatch.setattr(run, "start_worker", start)
    monkeypatch.setattr(run, "await_worker", wait)
    monkeypatch.setattr(local, "_free_port", lambda: 2)
    run.start_worker_on_a_free_port()
    assert (tried, run.env["CONNECTOR__HTTP__ADVERTISED_URL"]) == (["1", "2"], "http://127.0.0.1:2")
