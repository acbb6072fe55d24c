"""Every legal move of a request, every illegal one, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.lifecycle import MOVES, TERMINAL, IllegalMove, markdown, move
from app.domain.model import RequestState

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
WORDS = ("dispatch", "retry", "reuse", "complete", "fail", "expire", "revoke", "cancel", "unheard_of")
# What the contract allows, written down by itself: queued -> running | completed | failed | cancelled, and so on.
LEGAL = {
    "queued": {"running", "completed", "failed", "cancelled"},
    "running": {"queued", "completed", "failed", "cancelled"},
    "completed": set(),
    "failed": set(),
    "cancelled": set(),
}


def test_the_moves_are_those_of_the_contract() -> None:
    assert {str(s): {str(to) for to in moves.values()} for s, moves in MOVES.items()} == LEGAL
    assert set(MOVES) == set(RequestState)
    assert {"completed", "failed", "cancelled"} == TERMINAL


@pytest.mark.parametrize("state", list(RequestState))
@pytest.mark.parametrize("by", WORDS)
def test_a_move_is_in_the_table_or_raises(state: str, by: str) -> None:
    legal = {
        "queued": set(WORDS) - {"retry", "unheard_of"},
        "running": set(WORDS) - {"dispatch", "reuse", "unheard_of"},
    }
    if by in legal.get(state, set()):
        assert move(state, by) == MOVES[RequestState(state)][by]
    else:
        with pytest.raises(IllegalMove, match=f"a {state} request cannot {by}"):
            move(state, by)


def test_the_page_is_the_table() -> None:
    """Below its introduction stands what ``markdown()`` gives, to the letter."""
    assert PAGE.read_text(encoding="utf-8").endswith(markdown())
