"""The command line ``connector``. Importing it loads nothing heavy: commands import what they need when they run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from app.cli import connectors, requests, run, settings, token, topics
from app.cli.environment import DEFAULT_STACK, use_stack
from app.cli.failures import exit_with
from app.cli.help import GroupedHelp

EPILOG = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not ready, 4 not found, 78 bad settings."

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
app.add_typer(connectors.app, name="connectors", rich_help_panel="Look and change")
app.add_typer(topics.app, name="topics", rich_help_panel="Operate")
app.add_typer(settings.app, name="config", rich_help_panel="Operate")
run.register(app)
requests.register(app)
token.register(app)


@app.callback()
def options(
    stack: Annotated[
        Path,
        typer.Option(
            envvar="CONNECTOR_STACK",
            help="Folder of the local stack whose addresses are used where the environment names none.",
        ),
    ] = DEFAULT_STACK,
) -> None:
    """Settings come from the environment (CONNECTOR__...) over the file named by CONNECTOR__CONFIG."""
    # A command tells a failure once, in its own words; the worker sets up its logs itself.
    logging.getLogger().addHandler(logging.NullHandler())
    use_stack(stack)


def main() -> None:
    """Entry point of the script ``connector``."""
    try:
        app(prog_name="connector")
    except Exception as error:  # noqa: BLE001 - the last line of defence turns every error into one sentence and a code
        exit_with(error)
