"""How commands print: JSON for programs, a table or plain lines for people, colour only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows as a JSON list, or as a table; ``empty`` is said when there are none."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        sys.stdout.write(empty + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(row.get(column))) for column in columns))
    # Piped output is for grep: one line per row, however long.
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: JSON, or ``name  value`` lines without the empty ones."""
    if as_json:
        print_json(facts)
        return
    wide = max(len(name) for name in facts)
    for name, value in facts.items():
        if value not in (None, [], {}, ""):
            sys.stdout.write(f"{name.ljust(wide)}  {_text(value)}\n")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)
