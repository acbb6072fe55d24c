"""``connector errors``: what each adapter makes of its provider's refusals, and the page drawn from the same tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.failures import USAGE, CommandFailed
from app.cli.output import AsJson, print_json, print_rows

if TYPE_CHECKING:
    from app.connectors.error_table import Row

COLUMNS = ("type", "row", "status", "calls", "provider_code", "body", "outcome", "then", "source")
_HEAD = """\
# What becomes of a provider's refusals

One table for each connector type, drawn from `app/connectors/<type>/errors.py` (`connector errors` prints the same). A
table is read from the top and the first row that fits decides; an empty cell fits everything. Before a table is asked,
a call whose token was refused with 401 was made once more with a new one.

*outcome* is the error class and the code of the failure. *then*: a failure that is tried again waits as long as the
provider said, else as the settings say; *not now* closes a quota for all who spend from it and costs no attempt; one
that *counts against the breaker* says that the provider broke; *with a new report*: the old one is gone there.

`make error-tables` runs a test for each row and counts them.
"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Accounts")(errors)


def errors(
    connector_type: Annotated[
        str | None,
        typer.Argument(metavar="[TYPE]", help="Connector type, such as DV360; all without it.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what becomes of a provider's refusals.

    For each row: which status, calls, codes and bodies it is about, the failure, what follows, and where it is written.

    Example: connector errors META
    """
    tables = _tables()
    connector_type = None if connector_type is None else connector_type.upper()
    if connector_type is not None and connector_type not in tables:
        raise CommandFailed(f"there is no adapter {connector_type}", advice=f"one of {', '.join(tables)}", code=USAGE)
    chosen = {name: rows for name, rows in tables.items() if connector_type in (None, name)}
    if as_json:
        print_json([_plain(name, at, row) for name, rows in chosen.items() for at, row in enumerate(rows, 1)])
        return
    rows = [{"type": name, **_cells(at, row)} for name, table in chosen.items() for at, row in enumerate(table, 1)]
    print_rows(rows, COLUMNS, as_json=False, empty="no rows")


def markdown() -> str:
    """docs/reference/errors.md."""
    names = [column.replace("_", " ") for column in COLUMNS[1:]]
    lines = [_HEAD]
    for name, rows in _tables().items():
        cells = [_cells(at, row) for at, row in enumerate(rows, 1)]
        lines += [f"## {name}", "", *_about(name), _line(names), "|---" * len(names) + "|"]
        lines += [*(_line([str(each[column]) for column in COLUMNS[1:]]) for each in cells), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _tables() -> Mapping[str, tuple[Row, ...]]:
    from app.config import Settings
    from app.connectors.registry import connectors_of, error_tables_of

    return {str(name): rows for name, rows in error_tables_of(connectors_of(Settings.load({}))).items()}


def _about(name: str) -> Iterator[str]:
    """What the table says of itself: the names of the calls, and how the provider writes a refusal."""
    import inspect

    from app.config import Settings
    from app.connectors.registry import connectors_of, error_module_of

    text = inspect.getdoc(error_module_of(connectors_of(Settings.load({}))[name])) or ""
    for paragraph in text.split("\n\n")[1:]:
        yield from (" ".join(paragraph.split()).replace("``", "`"), "")


def _cells(at: int, row: Row) -> dict[str, Any]:
    return {
        "row": at,
        "status": _status(*row.http),
        "calls": ", ".join(row.calls),
        "provider_code": ", ".join(row.words()),
        "body": row.body(),
        "outcome": f"{row.error_class} {row.code}",
        "then": _then(row),
        "source": row.source,
    }


def _status(low: int, high: int) -> str:
    return "" if (low, high) == (0, 999) else f"{low}" if low == high else f"{low} to {high}"


def _then(row: Row) -> str:
    if not row.retryable:
        return "fails"
    if row.throttle:
        return f"not now: {row.quota or 'the broadest short quota'}"
    again = "tried again with a new report" if row.remote_lost else "tried again"
    return f"{again}; counts against the breaker" if row.system else again


def _plain(name: str, at: int, row: Row) -> dict[str, Any]:
    return {
        "type": name,
        "row": at,
        "status": list(row.http),
        "calls": list(row.calls),
        "provider_codes": list(row.words()),
        "body": row.body(),
        "error_class": str(row.error_class),
        "code": row.code,
        "retryable": row.retryable,
        "system": row.system,
        "remote_lost": row.remote_lost,
        "throttle": row.throttle,
        "quota": row.quota,
        "source": row.source,
    }
