"""What the tests of the command line share: commands run in this process, and a server that plays REST."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.cli_door import Door

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line in an empty folder and without settings of the machine: exit code, output, errors."""
    from app.cli import main

    for name in list(os.environ):
        if name.startswith("CONNECTOR"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **env: str) -> tuple[int, str, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["connector", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def door() -> Iterator[Door]:
    """REST, canned."""
    with Door() as opened:
        yield opened


@pytest.fixture
def ask(run: Run, door: Door, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line against the door, as organisation 7."""
    monkeypatch.setattr("app.cli.following._QUICK_S", 0.01)

    def call(*arguments: str, **env: str) -> tuple[int, str, str]:
        return run(*arguments, **({"CONNECTOR_URL": door.url, "CONNECTOR_TOKEN": TOKEN} | env))

    return call


TOKEN = "e30.eyJvcmdfaWQiOiA3LCAic2NvcGUiOiAiaHVudGVyMiJ9.hunter2"
"""A token's form with ``org_id`` 7; whoever shows any of it shows hunter2."""
