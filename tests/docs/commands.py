"""The commands that a page tells people to type: its fenced blocks marked ``sh``, cut into single commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NO_COMMANDS = ("text", "json", "yaml", "python", "mermaid", "sql")
"""What else a block may be marked as: nobody is told to type these."""
_FENCE = re.compile(r"^```(\w*)\s*$")
_HEREDOC = re.compile(r"<<-?\s*'?\"?(\w+)'?\"?")


class Unmarked(ValueError):
    """A block that does not say what it is could hold commands that nothing runs."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is typed, maybe over several lines, and where it stands."""

    page: str
    line: int
    text: str


def commands_of(page: Path) -> list[Command]:
    """All commands of a page, in order. Raises ``Unmarked``."""
    found: list[Command] = []
    kind: str | None = None
    block: list[tuple[int, str]] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            block.append((number, line))
        elif kind is None:
            kind, block = _kind(page, number, fence.group(1)), []
        else:
            found += _cut(page.name, block) if kind == "sh" else []
            kind = None
    return found


def _kind(page: Path, number: int, name: str) -> str:
    if name != "sh" and name not in NO_COMMANDS:
        raise Unmarked(f"{page.name}:{number}: mark the block sh or one of {', '.join(NO_COMMANDS)}")
    return name


def _cut(page: str, block: list[tuple[int, str]]) -> list[Command]:
    found: list[Command] = []
    lines: list[str] = []
    start, ends_with = 0, ""
    for number, line in block:
        if not lines:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        lines.append(line)
        heredoc = _HEREDOC.search(line) if not ends_with else None
        if heredoc is not None:
            ends_with = heredoc.group(1)
        elif ends_with and line.strip() == ends_with:
            ends_with = ""
        if not ends_with and not line.endswith("\\"):
            found.append(Command(page, start, "\n".join(lines)))
            lines = []
    return found
