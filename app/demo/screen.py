"""What the demo shows while it runs: lines, and on a terminal a bar below them."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self


class Screen:
    """``quiet`` shows nothing at all. Piped, it is lines alone: no colour, no cursor movement."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end_bar()

    def say(self, line: str = "") -> None:
        """One line."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
            return
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def head(self, title: str) -> None:
        """The name of what begins now."""
        self.say()
        self.say(f"== {title}")

    def bar(self, total: int) -> None:
        """Shows how many of ``total`` requests have ended, on a terminal."""
        if self._quiet or not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("requests answered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, transient=True)
        self._task = self._bar.add_task("requests", total=total)
        self._bar.start()

    def done(self, count: int) -> None:
        """So many have ended."""
        if self._bar is not None:
            self._bar.update(self._task, completed=count)

    def end_bar(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
