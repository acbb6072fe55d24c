"""Turns of the floors: earned, spent, and not saved."""

from __future__ import annotations

from app.domain.floors import Floors


def two(percent: int = 50) -> Floors:
    floors = Floors(percent)
    floors.ready(1, 1)
    floors.ready(2, 1)
    return floors


def test_every_fourth_of_two_organisations_turns_is_the_floors() -> None:
    floors, due = two(), []
    for _ in range(12):
        due.append(floors.due())
        floors.took(due[-1] or 1, 1_000, floor=due[-1] is not None)
    assert due == [None, None, None, 2] * 3


def test_turns_that_nobody_could_take_are_not_saved() -> None:
    """What is due may be kept out by a bucket that lets a better class in."""
    floors = two()
    for _ in range(100):
        floors.took(1, 1_000, floor=False)
    assert floors.due() == 2
    floors.took(2, 1_000, floor=True)
    assert floors.due() is None


def test_alone_nobody_owes_anything() -> None:
    floors = Floors(100)
    floors.ready(1, 1)
    floors.took(1, 1_000, floor=False)
    assert floors.due() is None
    floors.idle(1)
    assert floors.due() is None
