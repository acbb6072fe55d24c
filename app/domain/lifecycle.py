"""States of a request and every legal move between them.

``MOVES`` is the whole truth: docs/lifecycle.md is drawn from it, and ``move`` is the only way to change a state. A
rate-limited, throttled or blocked request is still ``queued``, with a reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.model import RequestState as S

MOVES: Mapping[S, Mapping[str, S]] = {
    S.QUEUED: {
        "dispatch": S.RUNNING,
        "reuse": S.COMPLETED,
        "stale": S.COMPLETED,
        "complete": S.COMPLETED,
        "fail": S.FAILED,
        "expire": S.FAILED,
        "revoke": S.FAILED,
        "cancel": S.CANCELLED,
    },
    S.RUNNING: {
        "retry": S.QUEUED,
        "complete": S.COMPLETED,
        "fail": S.FAILED,
        "expire": S.FAILED,
        "revoke": S.FAILED,
        "cancel": S.CANCELLED,
    },
    S.COMPLETED: {},
    S.FAILED: {},
    S.CANCELLED: {},
}

TERMINAL = frozenset(s for s, moves in MOVES.items() if not moves)


class IllegalMove(Exception):
    """A move the table does not hold; nothing was changed."""


def move(state: str, by: str) -> S:
    """The state after a move. Raises ``IllegalMove``."""
    try:
        return MOVES[S(state)][by]
    except KeyError:
        raise IllegalMove(f"a {state} request cannot {by}") from None


def markdown() -> str:
    """The table as documentation."""
    lines = ["| from | move | to |", "|---|---|---|"]
    lines += [f"| {s} | {by} | {to} |" for s, moves in MOVES.items() for by, to in moves.items()]
    return "\n".join(lines) + "\n"
