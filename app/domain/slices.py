"""Cutting days where a provider or a backfill wants them cut: on a grid that lies still.

The edges are the multiples of a length, counted from day 0. So a cut depends neither on who came first nor on where a
request begins: pieces of two requests have the same edges, and pieces on two sides of an edge never share a day.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.model import Days

BACKFILL = 5
"""The priority class whose requests are cut into slices."""


def cut_at_multiples(days: Days, length: int) -> list[Days]:
    """The days in pieces that reach over no multiple of ``length``; 0: in one piece."""
    if length <= 0:
        return [days]
    cells = range(days.start // length, days.end // length + 1)
    return [Days(max(days.start, cell * length), min(days.end, (cell + 1) * length - 1)) for cell in cells]


def pieces(gaps: Iterable[Days], *, longest: int, slice_days: int, priority_class: int) -> list[Days]:
    """What of the gaps is fetched in one go each: no longer than the provider's ``longest`` range and, for a backfill,
    than its slice (days; 0: no bound). A slice that is no shorter than the longest range cuts nothing more."""
    sliced = priority_class == BACKFILL and not 0 < longest <= slice_days
    return [
        part
        for gap in gaps
        for piece in cut_at_multiples(gap, longest)
        # What is no longer than a slice gives way soon enough: an edge within it would only cost a fetch more.
        for part in cut_at_multiples(piece, slice_days if sliced and len(piece) > slice_days else 0)
    ]
