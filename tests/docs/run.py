"""``python -m tests.docs.run``: types every command of the README and of the how-to pages, in order, as a reader would.

``--short`` leaves out ``make test``, of which this is a part.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local.machine import free_port
from tests.docs.commands import Command, commands_of
from tests.docs.terminal import Failed, Running, Say, Terminal, environment, say

ROOT = Path(__file__).resolve().parents[2]
PORT = "8003"
"""What the pages say; here another one stands in for it, since somebody may be using it."""
STAYS = {"make up": "REST:"}
"""Commands that run until Ctrl-C, and how the line begins with which they are there."""
LONG_S = {"make test": 1_500.0, "make demo": 180.0}
USUAL_S = 90.0
INTERRUPTED = {0, -signal.SIGINT, 128 + signal.SIGINT}
"""How a command ends after Ctrl-C; make ends as its own child of the signal."""


def pages() -> list[Path]:
    """The README, then the how-to pages; each continues in the terminals of the ones before."""
    return [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]


def run(commands: Sequence[Command], *, without: frozenset[str] = frozenset(), tell: Say = say) -> dict[Command, str]:
    """Runs the commands; what each that ran has printed. Raises ``Failed`` at the first that does not work."""
    with tempfile.TemporaryDirectory(prefix="connector-docs-") as folder:
        (ROOT / "build").mkdir(exist_ok=True)  # as make up does for a reader, whose stack lies in it
        port = str(free_port())
        shell = environment(Path(folder) / "stack")
        terminal, running = Terminal(ROOT, shell), []
        printed: dict[Command, str] = {}
        try:
            for command in commands:
                if command.text in without:
                    tell(f"left out   {command.text}")
                    continue
                began = time.monotonic()
                text = command.text.replace(f"localhost:{PORT}", f"localhost:{port}")
                if text in STAYS:
                    settings = {**shell, "ARGS": f"--port {port}"}
                    running.append(Running(text, ROOT, settings, says=STAYS[text]))
                    printed[command] = ""
                else:
                    printed[command] = terminal.run(text, LONG_S.get(text, USUAL_S))
                tell(f"{time.monotonic() - began:6.1f} s   {command.page}:{command.line}  {text.splitlines()[0][:100]}")
        finally:
            terminal.close()
            codes = [one.stop() for one in running]
        if set(codes) - INTERRUPTED:
            raise Failed(f"make up ended with {codes}")
        return printed


def main() -> int:
    """0 when every command works."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="leave out make test")
    given = parser.parse_args()
    found = [command for page in pages() for command in commands_of(page)]
    try:
        ran = len(run(found, without=frozenset({"make test"}) if given.short else frozenset()))
    except Failed as failure:
        say(str(failure))
        return 1
    sys.stdout.write(f"{ran} of {len(found)} commands ran\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
