"""Named crash points: no-ops, unless the settings arm one.

``CONNECTOR__STREAMS__CRASH_AT=name`` arms the point's first passing, ``name:3`` its third. An armed point ends the
process as kill -9 would: no cleanup, no flush, exit code 137.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

POINTS = (
    "consumed", "in_inbox", "merged", "transaction_sent", "committed", "permit_granted", "lease_given", "token_read",
    "request_sent", "response_begun", "object_written", "outcome_sent", "offset_committed",
)  # fmt: skip

CrashPoint = Callable[[str], None]


def armed(spec: str | None, die: Callable[[int], object] = os._exit) -> CrashPoint:
    """The function that components call at each point. Raises ``ValueError`` for a name that does not exist."""
    if not spec:
        return lambda _name: None
    wanted, _, count = spec.partition(":")
    if wanted not in POINTS:
        raise ValueError(f"there is no crash point {wanted!r}; known: {', '.join(POINTS)}")
    left = int(count or 1)

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
