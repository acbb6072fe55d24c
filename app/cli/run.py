"""Commands that run something: the worker, the sandbox, the migrations, or all of it on one machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.environment import environment, load_settings, stack_folder
from app.cli.failures import CommandFailed
from app.cli.output import AsJson, print_json
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.cli.local import LocalRun
    from app.config import Settings

_RUN, _TRY = "Run", "Try it"
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(rich_help_panel=_RUN)(worker)
    app.command(rich_help_panel=_RUN)(migrate)
    app.command(rich_help_panel=_TRY)(up)
    app.command(rich_help_panel=_TRY)(demo)
    app.command(rich_help_panel=_TRY, context_settings=_PASS_ON, add_help_option=False)(sandbox)


def worker() -> None:
    """Run one worker: agents, and REST on CONNECTOR__HTTP__PORT.

    Example: CONNECTOR__HTTP__PORT=8003 connector worker
    """
    settings = load_settings()
    from app.main import run

    try:
        run(settings)
    except Exception:
        # The log is where operators look for a worker's end; the terminal gets its one sentence as always.
        logging.getLogger(__name__).exception("worker failed")
        raise


def migrate(as_json: AsJson = False) -> None:
    """Bring the PostgreSQL schema up to date.

    Safe to run from several places at once.

    Example: connector migrate
    """
    applied = _migrate(load_settings())
    if as_json:
        print_json({"applied": applied})
    else:
        sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")


def sandbox(context: typer.Context) -> None:
    """Simulate the providers on this machine.

    Its own options: connector sandbox --help

    Example: connector sandbox --report-seconds 3
    """
    from app.sandbox.__main__ import main

    sys.argv = ["connector sandbox", *context.args]
    # Not typer.run: its help would load rich, which takes as long as all the rest.
    program = typer.Typer(add_completion=False, rich_markup_mode=None)
    program.command()(main)
    program()


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of REST; 0 picks a free one.")] = 8003,
    with_sandbox: Annotated[bool, typer.Option("--sandbox/--no-sandbox", help="Simulate the providers.")] = True,
) -> None:
    """Start servers, sandbox and one worker here.

    Ctrl-C stops all of it; the data stays.

    Example: connector up, then in another terminal connector token --org 1
    """
    from app.cli.local import LocalRun, StackStopped

    try:
        # What goes well is in the log; on the terminal it would push the addresses away.
        level = {"CONNECTOR__LOG__LEVEL": os.environ.get("CONNECTOR__LOG__LEVEL", "WARNING")}
        run = LocalRun(stack_folder(), _say, port, level)
        with _interruptible() as run.checkpoint, run as local:
            code = _up(local, with_sandbox=with_sandbox)
    except KeyboardInterrupt:
        _say("stopped; the data stays in " + str(stack_folder()))
        return
    except StackStopped:
        _say("the servers were stopped from elsewhere; worker and sandbox are stopped with them")
        return
    raise CommandFailed(f"the worker ended with {code}", advice=f"less {stack_folder()}/logs/worker.log")


def demo(
    log: Annotated[
        Path | None, typer.Option(help="Leave the simulator's arrival log here: one JSON line per call.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole way once, and end by itself.

    Three organisations, two providers, overlaps, a premium request, a pause; then a table of what was saved, and what a
    client that neither merges nor waits met.

    Example: connector demo
    """
    from app.demo.run import run

    raise typer.Exit(run(as_json=as_json, log=log))


def _up(local: LocalRun, *, with_sandbox: bool) -> int:
    from app.config import Settings
    from app.streams import topics

    local.checkpoint()
    if with_sandbox:
        _step("sandbox", local.start_sandbox)
    settings = Settings.load(environment() | local.env)
    _step("database schema", lambda: _migrate(settings))
    _step("topics", lambda: wait(topics.apply(settings)))
    local.publish_env()
    log = local.start_worker()
    _step("worker", local.await_worker)
    _say(f"broker: {local.stack.broker_name}")
    _say(f"Kafka:  {settings.kafka.bootstrap_servers}   (connector.commands in, connector.events out)")
    _say(f"files:  {local.folder / 'results'}")
    _say(f"REST:   http://127.0.0.1:{settings.http.port}   (Ctrl-C stops everything)")
    return local.follow(log)


def _step(what: str, do: Callable[[], object]) -> None:
    began = time.monotonic()
    do()
    _say(f"{what}: ready in {time.monotonic() - began:.1f} s")


def _migrate(settings: Settings) -> list[str]:
    from app.storage.postgres.migrations import migrate as apply

    return list(wait(apply(settings.postgres.dsn.get_secret_value())))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class _Interruption:
    """SIGINT and SIGTERM end ``up`` once. The exception alone is not enough: Python drops one that is raised while a
    finaliser runs, so long work also looks here from time to time."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            raise KeyboardInterrupt

    def checkpoint(self) -> None:
        """Raises ``KeyboardInterrupt`` when a signal came before."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    interruption = _Interruption()
    before = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption.checkpoint
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
