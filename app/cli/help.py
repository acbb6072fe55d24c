"""Help texts without rich: loading rich's help renderer alone takes three times as long as help may take."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_GAP = 8


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
