"""The command line ``connector``. Importing it loads nothing heavy: commands import what they need when they run."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from app.cli import (
    connector_list,
    connectors,
    dlq,
    errors,
    events,
    fetch,
    queue,
    requests,
    run,
    settings,
    simulate,
    token,
    topics,
    write,
)
from app.cli.environment import DEFAULT_STACK, use_stack, use_url
from app.cli.failures import FAILED, exit_with
from app.cli.help import GroupedHelp, asked_help

EPILOG = (
    "CONNECTOR_TOKEN is the bearer token for REST; without it the local stack's own issuer makes one. Settings come "
    "from CONNECTOR__... variables, over the file that CONNECTOR__CONFIG names; CONNECTOR_DEBUG=1 shows tracebacks.\n\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not ready, 4 not found, 78 bad settings, 130 after Ctrl-C."
)

app = typer.Typer(
    name="connector",
    help="Fetches advertising data through the providers' own quotas.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=GroupedHelp,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run.register(app)
simulate.register(app)
token.register(app)
fetch.register(app)
write.register(app)
requests.register(app)
queue.register(app)
connector_list.register(connectors.app)
events.register(app)
app.add_typer(connectors.app, name="connectors", rich_help_panel="Accounts")
errors.register(app)
app.add_typer(dlq.app, name="dlq", rich_help_panel="Look at the topics")
app.add_typer(topics.app, name="topics", rich_help_panel="Operate")
app.add_typer(settings.app, name="config", rich_help_panel="Operate")


@app.callback()
def options(
    stack: Annotated[
        Path,
        typer.Option(
            envvar="CONNECTOR_STACK",
            help="Folder of the local stack whose addresses are used where the environment names none.",
        ),
    ] = DEFAULT_STACK,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="CONNECTOR_URL", help="Address of REST; otherwise what the settings or the local stack say."
        ),
    ] = None,
) -> None:
    """Settings come from the environment (CONNECTOR__...) over the file named by CONNECTOR__CONFIG."""
    # A command tells a failure once, in its own words; the worker sets up its logs itself.
    logging.getLogger().addHandler(logging.NullHandler())
    use_stack(stack)
    use_url(url)


def main() -> None:
    """Entry point of the script ``connector``."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a label in another script than the terminal's is no failure
    try:
        text = asked_help(typer.main.get_command(app), sys.argv[1:])
        if text is None:
            app(prog_name="connector")
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            sys.exit(0)
    except BrokenPipeError:
        # Whoever read has had enough. What is left to write goes nowhere, or the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001 - the last line of defence turns every error into one sentence and a code
        exit_with(error)
