"""Help texts without rich, whose help renderer alone takes three times as long as help may take, and without parsing:
typer loads pydantic for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

_GAP = 8
ASKS_REST = "Asks REST at CONNECTOR_URL with CONNECTOR_TOKEN; without them the local stack, with a token of its issuer."
"""What the help of such commands ends with."""


class GroupedHelp(TyperGroup):
    """Lists commands under the headings that they were registered with, in the order of registration."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        room = formatter.width - _GAP - max(map(len, names))
        headings: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            command = self.commands[name]
            heading = getattr(command, "rich_help_panel", None)
            title = heading if isinstance(heading, str) else "Commands"
            headings.setdefault(title, []).append((name, command.get_short_help_str(room)))
        for title, rows in headings.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def asked_help(root: Any, arguments: Sequence[str]) -> str | None:
    """The help of a command that is asked for by its name and ``--help`` alone; None for all else, which is parsed."""
    *names, last = arguments or [""]
    command, context = root, root.context_class(root, info_name="connector", **root.context_settings)
    if last not in context.help_option_names:
        return None
    for name in names:
        command = getattr(command, "commands", {}).get(name)
        if command is None or not command.add_help_option:
            return None
        context = command.context_class(command, info_name=name, parent=context, **command.context_settings)
    return str(command.get_help(context))
