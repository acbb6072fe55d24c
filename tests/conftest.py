"""The servers that tests share: one stack for the whole run, started by the first test that asks for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local import Stack, databases

_STACK = pytest.StashKey[Stack]()
_LINES = pytest.StashKey[list[str]]()
_TOLD = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, PostgreSQL and Redis for this run. The logs stay in the run's temporary folder, the data does not."""
    lines: list[str] = []
    request.config.stash[_LINES] = lines
    started = Stack.start(tmp_path_factory.mktemp("stack"), report=lines.append)
    request.config.stash[_STACK] = started
    yield started
    started.stop(keep_data=False)


@pytest.fixture
def database(stack: Stack) -> Iterator[str]:
    """The DSN of an empty PostgreSQL database that only this test uses."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    yield databases.create(stack.endpoints.postgres, name)
    databases.drop(stack.endpoints.postgres, name)


def _servers(config: pytest.Config) -> list[str]:
    """Which broker the tests of this process ran on, and how its start went when it did not come up."""
    started = config.stash.get(_STACK, None)
    if started is not None:
        return [f"broker: {started.broker_name}", f"logs: {started.folder / 'logs'}"]
    return config.stash.get(_LINES, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several tells the one that speaks."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = _servers(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keeps what a process of several has told; one that died has not."""
    told = getattr(node, "workeroutput", {}).get("servers", [])
    node.config.stash.setdefault(_TOLD, []).extend(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says which broker the tests ran on."""
    none = ["broker: none, no test asked for one"]
    for line in config.stash.get(_TOLD, []) or _servers(config) or none:
        terminalreporter.write_line(line)
