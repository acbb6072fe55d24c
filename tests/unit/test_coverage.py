"""The edges of reuse: a day's three states, and the ages at which each may no longer be used."""

from __future__ import annotations

import pytest

from app.domain.coverage import DataSet, Freshness, add, day_state, usable
from app.domain.model import Days
from app.testing.planning import NOW, TODAY, stored

FRESH = Freshness(open_ms=900_000, settling_ms=21_600_000, floor_ms=300_000)


@pytest.mark.parametrize(
    ("ago", "state"), [(-1, "open"), (0, "open"), (1, "settling"), (2, "settling"), (3, "final"), (400, "final")]
)
def test_a_day_is_open_then_settling_then_final(ago: int, state: str) -> None:
    assert day_state(TODAY - ago, TODAY, 3) == state


def days_usable(
    age_ms: int, *, ago: int, max_age_ms: int | None = None, fresh: Freshness = FRESH, zone: str = "UTC"
) -> bool:
    day = TODAY - ago
    data = add(DataSet("k"), stored(day, day), version=1, read_at=NOW - age_ms, columns=("clicks",))
    runs = usable(
        data, Days(day, day), ["clicks"], now=NOW, zone=zone, settling_days=3, fresh=fresh, max_age_ms=max_age_ms
    )
    return bool(runs)


@pytest.mark.parametrize(("ago", "limit_ms"), [(0, 900_000), (1, 21_600_000), (2, 21_600_000)])
def test_open_and_settling_days_age(ago: int, limit_ms: int) -> None:
    assert days_usable(limit_ms, ago=ago)
    assert not days_usable(limit_ms + 1, ago=ago)


def test_a_day_read_when_it_was_final_is_good_for_ever_and_one_read_earlier_is_not() -> None:
    assert days_usable(200 * 86_400_000, ago=300)
    assert not days_usable(3 * 86_400_000, ago=4), "it was settling when it was read"


def test_the_commands_own_age_wins_but_never_below_the_window() -> None:
    assert not days_usable(600_001, ago=300, max_age_ms=600_000)
    assert days_usable(600_000, ago=0, max_age_ms=600_000)
    assert days_usable(300_000, ago=0, max_age_ms=0)
    assert not days_usable(300_001, ago=0, max_age_ms=0)
    assert days_usable(3_000_000, ago=0, fresh=Freshness(floor_ms=3_000_000)), "the floor holds for the states, too"


def test_today_is_the_accounts_own() -> None:
    """At noon UTC it is tomorrow already on Kiritimati: yesterday, seen from there, is today in UTC."""
    assert not days_usable(1_000_000, ago=0)
    assert days_usable(1_000_000, ago=0, zone="Pacific/Kiritimati")


def test_all_asked_columns_must_be_there() -> None:
    data = add(DataSet("k"), stored(TODAY, TODAY), version=1, read_at=NOW, columns=("clicks",))
    want = Days(TODAY, TODAY)
    for columns, found in (([], 1), (["clicks"], 1), (["clicks", "reach"], 0)):
        assert (
            len(usable(data, want, columns, now=NOW, zone="UTC", settling_days=3, fresh=FRESH, max_age_ms=None))
            == found
        )


def test_an_older_version_that_ends_later_fills_only_what_is_not_held() -> None:
    new = add(DataSet("k"), stored(TODAY - 5, TODAY - 3, name="new"), version=2, read_at=NOW, columns=())
    both = add(new, stored(TODAY - 8, TODAY, name="old"), version=1, read_at=NOW - 1, columns=())
    assert [(TODAY - r.start, TODAY - r.end, r.version) for r in both.runs] == [(8, 6, 1), (5, 3, 2), (2, 0, 1)]
    assert both.last_version == 2
