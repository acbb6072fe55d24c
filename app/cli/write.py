"""``connector write``: sends rows to a spreadsheet, and waits for them to be there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.caller import Org
from app.cli.failures import FAILED, USAGE, CommandFailed
from app.cli.fetch import Priority, answered, connector_id_of, tell
from app.cli.help import ASKS_REST
from app.cli.output import AsJson
from app.cli.waiting import wait

if TYPE_CHECKING:
    from app.domain.commands import Cell

Mode = Literal["append", "update"]
Format = Literal["csv", "jsonl"]
MOST_BYTES = 4 * 2**20
"""More is not even read: the service takes a quarter of it."""
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Fetch and follow", epilog=ASKS_REST)(write)


def write(
    connector: Annotated[str, typer.Argument(help="Connector id of a spreadsheet.")],
    target: Annotated[str, typer.Option(help="Where the rows go, such as 'Leads!A1'.")],
    rows: Annotated[str, typer.Option(metavar="<file|->", help="File of rows; - reads standard input.")],
    mode: Annotated[Mode, typer.Option(help="Below what is there, or over it.")] = "append",
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="What the rows are; without it by the file's name, csv where that says nothing."),
    ] = None,
    priority: Annotated[Priority, typer.Option(help="How urgent it is among other spreadsheets' writes.")] = "normal",
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again is the same request.")] = None,
    wait_: Annotated[bool, typer.Option("--wait", help="Follow it to its end; 1 when it fails.")] = False,
    org: Org = None,
    as_json: AsJson = False,
) -> None:
    """Write rows to a spreadsheet.

    CSV gives texts and nothing else: a cell that looks like a number, a date or a formula stays the text that it is.
    JSON lines, one array of cells each, give texts, numbers, true and false; null leaves a cell as it is. Writes to one
    spreadsheet are done in the order in which they were accepted.

    Example: connector write conn_01999999999979998999999999999999 --target 'Leads!A1' --rows leads.csv --wait
    """
    connector_id = connector_id_of(connector)
    body = {"target": target, "mode": mode, "rows": _rows(rows, format_), "priority": priority}
    answer = wait(_write(connector_id, body, org, idempotency_key, follow=wait_, as_json=as_json))
    tell(answer, follow=wait_, as_json=as_json)


async def _write(
    connector_id: str, body: dict[str, Any], org: int | None, key: str | None, *, follow: bool, as_json: bool
) -> dict[str, Any]:
    from app.cli.service import service

    async with service(org) as asked:
        answer = await asked.post(f"/{connector_id}/write", body, key=key)
        return await answered(asked, answer, follow=follow, as_json=as_json)


def _rows(source: str, format_: Format | None) -> list[list[Cell]]:
    json_lines = format_ == "jsonl" or (format_ is None and source.lower().endswith(_JSON_SUFFIXES))
    try:
        text = _read(source).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandFailed(f"{_named(source)} is not UTF-8", code=USAGE) from None
    found = _of_json_lines(text) if json_lines else _of_csv(text)
    if not found:
        raise CommandFailed(f"there are no rows in {_named(source)}", code=USAGE)
    return found


def _read(source: str) -> bytes:
    try:
        if source == "-":
            read = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                read = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{_named(source)} cannot be read: {error.strerror}", code=FAILED) from None
    if len(read) > MOST_BYTES:
        raise CommandFailed(f"{_named(source)} is too large for one write: send several", code=USAGE)
    return read


def _named(source: str) -> str:
    return "standard input" if source == "-" else source


def _of_csv(text: str) -> list[list[Cell]]:
    """Texts, as RFC 4180 has them. An empty line is no row."""
    import csv
    import io

    csv.field_size_limit(MOST_BYTES)
    try:
        return [list(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise CommandFailed(f"this is no CSV: {error}", code=USAGE) from None


def _of_json_lines(text: str) -> list[list[Cell]]:
    """An array of cells a line, read as strictly as the service reads them."""
    import json

    import orjson

    found: list[list[Cell]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            # orjson is the strict one about text and numbers, json alone keeps large whole numbers whole.
            orjson.loads(line)
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise CommandFailed(f"line {number} is not JSON", code=USAGE) from None
        if not isinstance(row, list):
            raise CommandFailed(f'line {number} is no array of cells, such as ["a", 1, null]', code=USAGE)
        found.append(row)
    return found
