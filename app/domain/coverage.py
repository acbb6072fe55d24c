"""Which days of a data set are held, since when, and how long a held day may be used again.

A data set is all days of one (connector, report type). Its coverage is a list of runs of days in order, not
overlapping; each run points to the file that holds its newest figures.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from app.domain.messages import StoredFile
from app.domain.model import Days, DayState, ReportType
from app.domain.zones import day_of


@dataclass(frozen=True, slots=True)
class Run:
    """Days held in one file (its own day list left out). ``read_at``: when the data call was permitted, ms. ``rows``
    and ``digests`` day by day."""

    start: int
    end: int
    file: StoredFile
    read_at: int
    version: int
    columns: tuple[str, ...]
    rows: tuple[int, ...]
    digests: tuple[str, ...]

    @property
    def days(self) -> Days:
        return Days(self.start, self.end)


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set: its coverage and the last version drawn. ``results`` counts what was taken in: versions may come
    in another order than they were drawn in, so none of them tells whether something is new."""

    key: str
    runs: tuple[Run, ...] = ()
    last_version: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """How long held days may be used again, ms."""

    open_ms: int = 900_000
    settling_ms: int = 21_600_000
    floor_ms: int = 300_000


def day_state(day: int, today: int, settling_days: int) -> DayState:
    """``open`` is today or later in the account's zone, then ``settling`` for the provider's days, then ``final``."""
    if day >= today:
        return DayState.OPEN
    return DayState.SETTLING if day > today - settling_days else DayState.FINAL


def cut(run: Run, days: Days) -> Run | None:
    """The part of a run inside ``days``."""
    inside = run.days.clip(days)
    if inside is None:
        return None
    if inside == run.days:
        return run
    a, b = inside.start - run.start, inside.end - run.start + 1
    return replace(run, start=inside.start, end=inside.end, rows=run.rows[a:b], digests=run.digests[a:b])


def within(data: DataSet, days: Days) -> Sequence[Run]:
    """The runs that share a day with ``days``."""
    first = bisect_left(data.runs, days.start, key=lambda run: run.end)
    return data.runs[first : bisect_right(data.runs, days.end, key=lambda run: run.start)]


def having(runs: Iterable[Run], columns: Sequence[str], apart: frozenset[str]) -> list[Run]:
    """The runs whose file has the columns. Who asks for some of ``apart``, those that do not add up, is served only by
    a file that was read with exactly the same of them."""
    asked = set(columns)
    mine = apart & asked
    return [
        run for run in runs if asked.issubset(run.columns) and (not mine or apart.intersection(run.columns) == mine)
    ]


def columns_read(report: ReportType, extras: Sequence[str], absent: Sequence[str]) -> tuple[str, ...]:
    """The columns of a new file that later requests may use. If one of those that do not add up is missing, the others
    were read with a set that nobody can tell any more, and are not used again."""
    lost = set(absent)
    if lost & report.apart_names.intersection(extras):
        lost |= report.apart_names
    return tuple(name for name in (*report.standard_names, *extras) if name not in lost)


def usable(
    data: DataSet, want: Days, columns: Sequence[str], *, now: int, zone: str, settling_days: int, fresh: Freshness,
    max_age_ms: int | None, apart: frozenset[str] = frozenset(),
) -> list[Run]:  # fmt: skip
    """The held runs, cut to single-state stretches inside ``want``, that have the columns and are young enough."""
    today = day_of(now, zone)
    found: list[Run] = []
    for run in having(within(data, want), columns, apart):
        part = cut(run, want)
        if part is None:
            continue
        read_day = day_of(run.read_at, zone)
        pieces = _by_state(part, (today, read_day), settling_days)
        found += [p for p in pieces if _young(p, today, read_day, settling_days, now, fresh, max_age_ms)]
    return found


def _by_state(run: Run, todays: tuple[int, int], settling_days: int) -> Iterable[Run]:
    """The run cut where a day's state changes, seen from any of the given days."""
    cuts = sorted({run.start, run.end + 1, *(t - settling_days + 1 for t in todays), *todays})
    cuts = [c for c in cuts if run.start <= c <= run.end + 1]
    return [part for a, b in pairwise(cuts) if (part := cut(run, Days(a, b - 1))) is not None]


def _young(
    run: Run, today: int, read_day: int, settling_days: int, now: int, fresh: Freshness, max_age_ms: int | None
) -> bool:
    """A day is final for us only if it was final when it was read; otherwise its reading ages."""
    age = now - run.read_at
    if max_age_ms is not None:
        return age <= max(max_age_ms, fresh.floor_ms)
    if day_state(run.end, read_day, settling_days) is DayState.FINAL:
        return True
    is_open = day_state(run.end, today, settling_days) is DayState.OPEN
    return age <= max(fresh.open_ms if is_open else fresh.settling_ms, fresh.floor_ms)


def gaps(want: Days, held: Iterable[Run | Days]) -> list[Days]:
    """The days of ``want`` that no held run covers, as runs in order."""
    missing, at = [], want.start
    for run in sorted((h if isinstance(h, Days) else h.days for h in held), key=lambda d: d.start):
        if run.end < at or run.start > want.end:
            continue
        if run.start > at:
            missing.append(Days(at, run.start - 1))
        at = max(at, run.end + 1)
    if at <= want.end:
        missing.append(Days(at, want.end))
    return missing


def filled(runs: list[Run], others: Iterable[Run]) -> list[Run]:
    """The runs, and of the others the days that these leave open."""
    more = (cut(other, gap) for other in others for gap in gaps(other.days, runs))
    return [*runs, *(run for run in more if run is not None)]


def add(data: DataSet, file: StoredFile, *, version: int, read_at: int, columns: tuple[str, ...]) -> DataSet:
    """Coverage after a new result: its days replace what was held. An older version never replaces a newer one."""
    ref = replace(file, days=(), totals={})
    new = Run(
        file.start, file.end, ref, read_at, version, columns,
        tuple(d[1] for d in file.days), tuple(d[2] for d in file.days),
    )  # fmt: skip
    kept: list[Run] = []
    fresh: list[Days] = [new.days]
    for run in data.runs:
        if run.version > version:
            kept.append(run)
            fresh = [g for f in fresh for g in gaps(f, [run])]
        else:
            kept += [part for g in gaps(run.days, [new]) if (part := cut(run, g)) is not None]
    added = [part for f in fresh if (part := cut(new, f)) is not None]
    runs = tuple(sorted([*kept, *added], key=lambda r: r.start))
    return replace(data, runs=runs, last_version=max(data.last_version, version), results=data.results + 1)


def forget(data: DataSet, before: int) -> DataSet:
    """Without the days before one: no command can ask for them any more, and a row must not grow for ever."""
    kept = tuple(run for run in data.runs if run.end >= before)
    return data if len(kept) == len(data.runs) else replace(data, runs=kept)


def held_columns(data: DataSet, days: Days) -> set[str]:
    """Every column that is held for any of the days."""
    return {name for run in within(data, days) for name in run.columns}


def held_digests(data: DataSet, days: Days) -> dict[int, str]:
    """Day -> digest of the figures held, for telling what a new reading changed."""
    found: dict[int, str] = {}
    for run in within(data, days):
        part = cut(run, days)
        if part is not None:
            found.update(zip(range(part.start, part.end + 1), part.digests, strict=True))
    return found
