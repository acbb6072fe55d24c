"""Commands that run something: the worker, the sandbox, the migrations, or all of it on one machine."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

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

    run(settings)


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
    typer.run(main)


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of REST; 0 picks a free one.")] = 8003,
    with_sandbox: Annotated[bool, typer.Option("--sandbox/--no-sandbox", help="Simulate the providers.")] = True,
) -> None:
    """Start servers, sandbox and one worker here.

    Ctrl-C stops all of it; the data stays.

    Example: connector up, then in another terminal connector token --org 1
    """
    from app.cli.local import LocalRun

    try:
        with _termination_as_interrupt(), LocalRun(stack_folder(), _say, port) as local:
            code = _up(local, with_sandbox=with_sandbox)
    except KeyboardInterrupt:
        _say("stopped; the data stays in " + str(stack_folder()))
        return
    raise CommandFailed(f"the worker ended with {code}", advice=f"less {stack_folder()}/logs/worker.log")


def demo(as_json: AsJson = False) -> None:
    """Show the whole way once, and end by itself.

    Connects two accounts, publishes 20 commands with overlaps, shows the events, the files, and the calls saved.

    Example: connector demo
    """
    from app.demo import run

    raise typer.Exit(run(as_json=as_json))


def _up(local: LocalRun, *, with_sandbox: bool) -> int:
    from app.config import Settings
    from app.streams import topics

    if with_sandbox:
        _step("sandbox", local.start_sandbox)
    settings = Settings.load(environment() | local.env)
    _step("database schema", lambda: _migrate(settings))
    _step("topics", lambda: wait(topics.apply(settings)))
    local.publish_env()
    log = local.start_worker()
    _say(f"broker: {local.stack.broker_name}")
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


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends ``up`` the way Ctrl-C does, so that whatever it started is stopped."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
