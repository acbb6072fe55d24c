"""What the floors guarantee: turns that are due, used, and hardly saved."""

from __future__ import annotations

from app.domain.floors import Floors

SIZE = 1_000


def two(percent: int = 50) -> Floors:
    floors = Floors(percent)
    floors.ready(1, 1, SIZE)
    floors.ready(2, 1, SIZE)
    return floors


def turns(floors: Floors, count: int, first: int = 1) -> list[int]:
    """Who starts, if one of ``first`` always goes before the others by class."""
    had = []
    for _ in range(count):
        had.append(floors.due() or first)
        floors.took(had[-1])
    return had


def test_one_of_two_beside_endless_better_work_gets_half_of_its_half() -> None:
    assert turns(two(), 13) == [1, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2]


def test_who_is_served_by_its_class_needs_no_floor() -> None:
    floors = two()
    for _ in range(50):
        for org in (1, 2):
            floors.took(org)
            assert floors.due() is None


def test_what_could_not_be_taken_is_not_saved() -> None:
    """What is due may be kept out by a bucket that lets a better class in."""
    floors = two()
    for _ in range(100):
        floors.took(1)
    assert floors.due() == 2
    floors.took(2)
    assert turns(floors, 8).count(2) <= 3


def test_being_served_a_lot_is_no_debt() -> None:
    floors = two()
    for _ in range(100):
        floors.took(2)
    assert turns(floors, 5) == [1, 1, 1, 1, 2]


def test_nothing_is_guaranteed_to_who_has_no_work_and_nothing_lost_by_a_moment_without() -> None:
    floors = two()
    turns(floors, 3)
    for _ in range(100):
        floors.idle(2)
        floors.ready(2, 1, SIZE)
    assert turns(floors, 2) == [1, 2]
    floors.idle(2)
    turns(floors, 100)
    floors.ready(2, 1, SIZE)
    assert turns(floors, 3) == [1, 1, 1]


def test_weights_share_the_floors() -> None:
    floors = Floors(50)
    floors.ready(1, 1, SIZE)
    floors.ready(2, 3, SIZE // 3)
    floors.ready(3, 1, SIZE)
    had = turns(floors, 1_000)
    assert abs(had.count(2) - 300) <= 2
    assert abs(had.count(3) - 100) <= 2


def test_alone_nobody_owes_anything() -> None:
    floors = Floors(90)
    floors.ready(1, 1, SIZE)
    assert turns(floors, 50) == [1] * 50
    floors.idle(1)
    assert floors.due() is None
