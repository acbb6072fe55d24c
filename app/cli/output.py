"""How commands print: JSON for programs, a table or plain lines for people, colour only on a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

_INDENT = "    "

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for programs that read while it goes on."""
    sys.stdout.write(json.dumps(value, default=str, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def print_line(line: str) -> None:
    """One line on standard output, at once: whoever reads along a pipe waits for it."""
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    sys.stdout.write("".join(printable(line) + "\n" for line in lines))


def say(line: str) -> None:
    """One line on standard error: what is beside the point of the output."""
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """The text without what could steer a terminal: others' labels, messages and records are shown here."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def on_terminal() -> bool:
    """Whether a person watches standard output, on a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows as a JSON list, or as a table; ``empty`` is said when there are none."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        sys.stdout.write(empty + "\n")
        return
    table(rows, columns)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows under headings."""
    head, *lines = layout(rows, columns, shutil.get_terminal_size().columns if on_terminal() else None)
    if on_terminal() and head:
        from rich.console import Console

        Console(highlight=False).print(head, style="bold", markup=False)
    elif head:
        print_line(head)
    print_lines(lines)


def layout(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int | None) -> list[str]:
    """A line of headings and a line for each row. Where that is wider than ``width``, no headings (an empty line) but
    for each row its first column, to be copied whole, and the others with their names below."""
    cells = [[c.replace("_", " ") for c in columns], *([_cell(row, c) for c in columns] for row in rows)]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, wide)).rstrip() for line in cells]
    # Piped output is for grep: one line per row, however long.
    if width is None or max(map(len, lines)) <= width:
        return lines
    return ["", *(line for row in cells[1:] for line in _block(cells[0], row, width))]


def _block(names: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    told = "  ".join(f"{name} {value}" for name, value in zip(names[1:], row[1:], strict=True) if value != "-")
    return [row[0], *textwrap.wrap(told, max(20, width), initial_indent=_INDENT, subsequent_indent=_INDENT)]


def _cell(row: Mapping[str, Any], column: str) -> str:
    return printable(_text(row.get(column)))


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: JSON, or ``name  value`` lines without the empty ones."""
    if as_json:
        print_json(facts)
        return
    told = {name: _text(value) for name, value in facts.items() if value not in (None, [], {}, "")}
    wide = max(map(len, told), default=0)
    print_lines(f"{name.ljust(wide)}  {value}" for name, value in told.items())


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)
