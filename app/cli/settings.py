"""``connector config``: what the service would run with."""

from __future__ import annotations

import typer

from app.cli.environment import load_settings
from app.cli.output import AsJson, print_rows

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the settings.")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Print every setting with its value (secrets masked) and where it comes from.

    Example: CONNECTOR__QUEUE__MAX_CONCURRENT=4 connector config show
    """
    from app.config import describe

    rows = [{"name": name, "value": value, "source": source} for name, value, source in describe(load_settings())]
    print_rows(rows, ("name", "value", "source"), as_json=as_json, empty="no settings")
