"""Coverage against a dictionary of days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.coverage import DataSet, Freshness, Run, add, cut, filled, gaps, held_columns, held_digests, usable
from app.domain.model import Days
from app.testing.planning import NOW, TODAY, stored

QUICK = settings(max_examples=150, deadline=None)
SETTLING = 3
FRESH = Freshness(open_ms=900_000, settling_ms=21_600_000, floor_ms=300_000)
DAY_MS = 86_400_000

runs_of_days = st.tuples(st.integers(0, 15), st.integers(0, 7)).map(lambda p: Days(TODAY - p[0] - p[1], TODAY - p[0]))
columns = st.sampled_from([("clicks",), ("clicks", "reach"), ("clicks", "reach", "views"), ("clicks", "views")])
apart_sets = st.sampled_from([frozenset[str](), frozenset({"reach"}), frozenset({"reach", "views"})])
ages = st.integers(0, 8 * DAY_MS) | st.sampled_from([299_999, 300_001, 900_000, 900_001, 21_600_000, 21_600_001])
readings = st.lists(st.tuples(runs_of_days, columns, ages), max_size=8)


@dataclass(frozen=True)
class Held:
    """What the model knows of one day."""

    version: int
    columns: tuple[str, ...]
    read_at: int
    digest: str


def built(steps: list[tuple[Days, tuple[str, ...], int]], order: list[int]) -> tuple[DataSet, dict[int, Held]]:
    """The coverage and the model after readings that end in any order; version and time of reading go together."""
    oldest_first = sorted(steps, key=lambda s: -s[2])
    data = DataSet("k")
    model: dict[int, Held] = {}
    for number in order:
        days, names, age = oldest_first[number]
        version, read_at = number + 1, NOW - age
        file = stored(days.start, days.end, name=str(version), reading=str(version))
        data = add(data, file, version=version, read_at=read_at, columns=names)
        for day, _, digest in file.days:
            if day not in model or model[day].version < version:
                model[day] = Held(version, names, read_at, digest)
    return data, model


def spread(runs: list[Run] | tuple[Run, ...]) -> dict[int, Held]:
    """Runs as days; a day in two runs is an error."""
    found: dict[int, Held] = {}
    for run in runs:
        assert len(run.rows) == len(run.digests) == len(run.days)
        assert run.file.uri == f"file:///{run.version}.parquet"
        for day, digest in zip(range(run.start, run.end + 1), run.digests, strict=True):
            assert day not in found
            found[day] = Held(run.version, run.columns, run.read_at, digest)
    return found


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[Days, tuple[str, ...], int]], list[int]]:
    steps = draw(readings)
    return steps, draw(st.permutations(range(len(steps))))


@QUICK
@given(histories(), runs_of_days)
def test_every_day_is_held_in_its_newest_version_whatever_order_they_ended_in(
    history: tuple[list[tuple[Days, tuple[str, ...], int]], list[int]], want: Days
) -> None:
    data, model = built(*history)
    assert spread(data.runs) == model
    assert [r.start for r in data.runs] == sorted(r.start for r in data.runs)
    assert data.last_version == len(history[0])
    assert held_digests(data, want) == {d: h.digest for d, h in model.items() if want.start <= d <= want.end}
    assert held_columns(data, want) == {c for d, h in model.items() if want.start <= d <= want.end for c in h.columns}
    missing = [day for gap in gaps(want, data.runs) for day in range(gap.start, gap.end + 1)]
    assert missing == [day for day in range(want.start, want.end + 1) if day not in model]


@QUICK
@given(st.lists(runs_of_days, max_size=6), runs_of_days)
def test_gaps_are_the_days_in_nobodys_run_and_as_few_runs_as_can_be(held: list[Days], want: Days) -> None:
    found = gaps(want, held)
    days = [d for gap in found for d in range(gap.start, gap.end + 1)]
    assert days == [d for d in range(want.start, want.end + 1) if not any(h.start <= d <= h.end for h in held)]
    assert all(a.end + 1 < b.start for a, b in pairwise(found))


@QUICK
@given(
    histories(),
    runs_of_days,
    columns,
    st.sampled_from([None, 0, 600_000, 86_400_000]),
    st.sampled_from(["UTC", "Asia/Tokyo", "Pacific/Pago_Pago"]),
    apart_sets,
)
def test_a_day_is_used_again_by_its_own_state_and_age(
    history: tuple[list[tuple[Days, tuple[str, ...], int]], list[int]],
    want: Days,
    asked: tuple[str, ...],
    max_age_ms: int | None,
    zone: str,
    apart: frozenset[str],
) -> None:
    data, model = built(*history)
    found = usable(
        data, want, asked, now=NOW, zone=zone, settling_days=SETTLING, fresh=FRESH, max_age_ms=max_age_ms, apart=apart
    )
    expected = {
        day: held
        for day, held in model.items()
        if want.start <= day <= want.end and serves(held, asked, apart) and young(day, held, max_age_ms, zone)
    }
    assert spread(found) == expected


def serves(held: Held, asked: tuple[str, ...], apart: frozenset[str]) -> bool:
    """All asked columns are there, and if some of them do not add up, no other such column is."""
    mine = {c for c in asked if c in apart}
    return all(c in held.columns for c in asked) and (not mine or mine == {c for c in held.columns if c in apart})


def young(day: int, held: Held, max_age_ms: int | None, zone: str) -> bool:
    """The rule of the contract, said for one day."""
    age = NOW - held.read_at
    if max_age_ms is not None:
        return age <= max(max_age_ms, 300_000)
    if day <= local_day(held.read_at, zone) - SETTLING:
        return True
    return age <= (900_000 if day >= local_day(NOW, zone) else 21_600_000)


def local_day(at: int, zone: str) -> int:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone)).toordinal()


@QUICK
@given(histories(), histories())
def test_what_is_filled_in_is_only_what_was_open(
    one: tuple[list[tuple[Days, tuple[str, ...], int]], list[int]],
    other: tuple[list[tuple[Days, tuple[str, ...], int]], list[int]],
) -> None:
    (data, model), (more, others) = built(*one), built(*other)
    assert spread(filled(list(data.runs), more.runs)) == others | model


@QUICK
@given(runs_of_days, runs_of_days)
def test_a_cut_keeps_each_days_own_figures(held: Days, want: Days) -> None:
    file = stored(held.start, held.end)
    run = add(DataSet("k"), file, version=1, read_at=NOW, columns=("clicks",)).runs[0]
    part = cut(run, want)
    expected = {day: (rows, digest) for day, rows, digest in file.days if want.start <= day <= want.end}
    found = (
        {}
        if part is None
        else dict(zip(range(part.start, part.end + 1), zip(part.rows, part.digests, strict=True), strict=True))
    )
    assert found == expected
