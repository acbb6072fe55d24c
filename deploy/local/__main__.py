"""``python -m deploy.local``: the stack from a shell."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from deploy.local import Stack, StackError, kafka_jars, machine, record
from deploy.local.choice import SERVICES, Facts, missing_for_kafka
from deploy.local.processes import Processes
from deploy.local.stack import environment_of, say

_LOOK_S: Final = 0.2

app = typer.Typer(
    help="Kafka, PostgreSQL and Redis for Connector Service, on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Folder = Annotated[Path, typer.Option(help="Holds the stack's data, logs and stack.json.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DEFAULT: Final = Path("build/stack")


@app.command()
def up(
    folder: Folder = _DEFAULT,
    as_json: AsJson = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once all is ready; the servers stay.")] = False,
    service: Annotated[list[str] | None, typer.Option(help="Only this service; may be repeated.")] = None,
) -> None:
    """Start the servers, print their addresses, and stay until interrupted or taken down."""
    # Both signals take the same way out, through the context manager below.
    signal.signal(signal.SIGTERM, _interrupt)
    with Stack.start(folder, service or SERVICES, report=say) as stack:
        _show(stack.env(), as_json)
        if detach:
            stack.detach()
            return
        say("up; Ctrl-C stops it")
        while stack.running():
            time.sleep(_LOOK_S)


@app.command()
def down(folder: Folder = _DEFAULT) -> None:
    """Stop the servers of a folder; their data stays."""
    say("stopped" if record.end(record.read(folder)) else f"nothing runs in {folder}")


@app.command()
def status(folder: Folder = _DEFAULT, as_json: AsJson = False) -> None:
    """Say whether a stack runs in a folder and which broker it has; exit code 3 when none runs."""
    entry = record.read(folder)
    alive = record.running(entry)
    if as_json:
        print(json.dumps({"running": alive, "broker": entry.broker if alive else None}))
    else:
        print(f"running, broker: {entry.broker}" if alive else "not running")
    if not alive:
        raise typer.Exit(3)


@app.command()
def env(folder: Folder = _DEFAULT, as_json: AsJson = False) -> None:
    """Print the addresses as environment settings: ``eval "$(python -m deploy.local env)"``."""
    variables = environment_of(folder)
    if not variables:
        raise StackError(f"nothing runs in {folder}")
    _show(dict(variables), as_json)


@app.command()
def jars() -> None:
    """Fetch Apache Kafka's jars into the cache ahead of the first start, where Java and Maven allow it."""
    facts: Facts = machine.look(("kafka",))
    lack = missing_for_kafka(facts)
    if facts.given or facts.engine_answers or lack:
        say(f"kafka: no jars needed{f', {lack}; noida-db will stand in' if lack else ''}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        processes = Processes(Path(scratch) / "supervisor.log")
        try:
            kafka_jars.resolve(say, processes, Path(scratch) / "maven.log")
        except kafka_jars.JarsMissing as error:
            say(f"kafka: {error}\nkafka: noida-db will stand in for Apache Kafka")
        finally:
            processes.end(1.0)


def _show(variables: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(variables), flush=True)
        return
    for name, value in variables.items():
        print(f"export {name}='{value}'", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs the command line; the exit code is 1 when the stack could not do what was asked."""
    try:
        app()
    except StackError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
