"""``connector topics``: the topics of the service, created and checked explicitly."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from app.cli.environment import load_settings
from app.cli.output import AsJson, print_rows
from app.cli.waiting import wait

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Create and check the Kafka topics.")


@app.command()
def apply(as_json: AsJson = False) -> None:
    """Create the topics that are missing; never repartitions one that is there.

    Example: connector topics apply
    """
    from app.streams import topics

    _show(wait(topics.apply(load_settings())), as_json=as_json)


@app.command()
def check(as_json: AsJson = False) -> None:
    """Compare the topics with what the service needs; exit code 3 when one is missing or has another shape.

    Example: connector topics check --json
    """
    from app.streams import topics

    _show(wait(topics.check(load_settings())), as_json=as_json)


def _show(found: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    rows = [{"topic": topic, "state": state} for topic, state in found]
    print_rows(rows, ("topic", "state"), as_json=as_json, empty="no topics")
