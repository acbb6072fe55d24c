"""``connector up``: what it looks at before it starts anything, and when it ends by itself."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

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
