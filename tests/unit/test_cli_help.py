"""Help of every command: quick, with an example, and the same as docs/reference/cli.md."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli import app
from app.cli.help import asked_help
from app.cli.reference import markdown
from tests.unit.conftest import Run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "cli.md"
HEAVY = {
    "rich",
    "faust",
    "aiohttp",
    "aiokafka",
    "asyncpg",
    "pydantic",
    "pyarrow",
    "fastavro",
    "asyncio",
    "joserfc",
}
LIMIT_S = 0.3


def paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, (*path, name))


ALL = list(paths(typer.main.get_command(app)))
GROUPS = [path for path in ALL if any(other[: len(path)] == path and other != path for other in ALL)]
OWN_HELP = ("sandbox",)
"""Hands its arguments on to a program of its own."""
COMMANDS = [path for path in ALL if path not in (*GROUPS, OWN_HELP)]


def test_there_are_all_commands_of_the_house() -> None:
    assert {"fetch", "status", "watch", "explain", "cancel", "queue", "events"} <= {path[0] for path in COMMANDS}
    assert {("connectors", "list"), ("connectors", "add"), ("dlq", "list")} <= set(COMMANDS)


@pytest.mark.parametrize("path", [path for path in ALL if path != OWN_HELP], ids=" ".join)
def test_help_is_quick_and_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    script = f"import sys; from app.cli import main; sys.argv = ['connector', *{path!r}, '--help']\ntry: main()\n"
    script += "except SystemExit: print('|'.join(sys.modules), file=sys.stderr)"
    loaded, took_s = _run(script)
    assert "typer" in loaded
    assert HEAVY & loaded == set()
    # Twice more only where the first was too slow: a machine in a hurry gets its median.
    times = [took_s] if took_s < LIMIT_S else [took_s, _run(script)[1], _run(script)[1]]
    assert statistics.median(times) < LIMIT_S, times


def test_the_sandbox_s_own_help_waits_for_no_server_and_no_drawing() -> None:
    script = "import sys; from app.cli import main; sys.argv = ['connector', 'sandbox', '--help']\ntry: main()\n"
    script += "except SystemExit: print('|'.join(sys.modules), file=sys.stderr)"
    loaded, _ = _run(script)
    assert "app.sandbox.settings" in loaded
    assert {"aiohttp", "rich"} & loaded == set()


@pytest.mark.parametrize("path", [path for path in ALL if path != OWN_HELP], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_without_parsing_is_what_the_parser_would_say(
    path: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root: Any = typer.main.get_command(app)
    with pytest.raises(SystemExit):
        root.main([*path, option], prog_name="connector")
    assert asked_help(root, [*path, option]) == capsys.readouterr().out.removesuffix("\n")


@pytest.mark.parametrize(
    "arguments", [[], ["fetch"], ["nonsense", "--help"], ["sandbox", "--help"], ["fetch", "--days", "1", "--help"]]
)
def test_everything_else_is_parsed(arguments: list[str]) -> None:
    assert asked_help(typer.main.get_command(app), arguments) is None


def _run(script: str) -> tuple[set[str], float]:
    """The modules it loaded, and its seconds of CPU: other tests may have the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return set(done.stderr.strip().split("|")), took_s


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run: Run, path: tuple[str, ...]) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert "Example:" in out
    assert f"connector {' '.join(path)}" in " ".join(out.split("Example:")[1].split()[:40])


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_every_group_lists_its_commands(run: Run, path: tuple[str, ...]) -> None:
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert {other[len(path)] for other in ALL if len(other) == len(path) + 1 and other[:-1] == path} <= set(out.split())


def test_reads_have_json() -> None:
    root: Any = typer.main.get_command(app)
    for path in COMMANDS:
        command = root
        for name in path:
            command = command.commands[name]
        if path not in (("up",), ("worker",)):
            assert "--json" in {option for parameter in command.params for option in parameter.opts}, path


def test_the_list_of_commands_is_grouped_and_names_the_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for heading in ("Run:", "Try it:", "Fetch and follow:", "Look at the topics:", "Accounts:", "Operate:"):
        assert heading in out
    assert "Exit codes: 0 ok" in out
    assert "CONNECTOR_TOKEN" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("name", ["CONNECTOR_URL", "CONNECTOR_STACK"])
def test_options_name_their_variables(run: Run, name: str) -> None:
    assert f"env var: {name}" in " ".join(run("--help")[1].split())
    assert "env var: CONNECTOR_ORG" in " ".join(run("queue", "--help")[1].split())


def test_the_page_is_what_the_commands_say() -> None:
    """``.venv/bin/python -c 'from app.cli.reference import markdown; print(markdown(), end="")'`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == markdown()


def _ended(argv: list[str]) -> tuple[int, str]:
    """How a command ends whose reader goes away at once: exit code, standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app", *argv],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["fetch", "--help"], ["config", "show"]])
def test_a_reader_that_has_had_enough_is_no_server_that_is_away(argv: list[str]) -> None:
    assert _ended(argv) == (1, "")


def test_a_full_disk_is_named() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", "fetch", "--help"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be written (No space left on device)" in done.stderr
