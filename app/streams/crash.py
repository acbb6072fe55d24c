"""Named crash points: no-ops, unless the settings arm one.

``CONNECTOR__STREAMS__CRASH_AT=name`` arms the point's first passing, ``name:3`` its third. An armed point ends the
process as kill -9 would: no cleanup, no flush, exit code 137. The names are ``app.config_sections.CRASH_POINTS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from app.config_sections import parse_crash_at

CrashPoint = Callable[[str], None]


def armed(spec: str | None, die: Callable[[int], object] = os._exit) -> CrashPoint:
    """The function that components call at each point. Raises ``ValueError`` for a name that does not exist."""
    if not spec:
        return lambda _name: None
    wanted, left = parse_crash_at(spec)

    def point(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left <= 0:
                die(137)

    return point


def die(why: str) -> NoReturn:
    """Ends the process at once. An exception that left a stream would let the record count as handled; a dead process
    commits nothing, and its heir starts from what is durable."""
    os.write(2, f"connector: ends at once: {why}\n".encode())
    os._exit(70)
