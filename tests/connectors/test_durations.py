"""When a report is asked for first: at the median of what the provider's own instants say that reports take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors import durations
from app.connectors.durations import EARLIEST_S, LEAST, LONGEST_S, MOST, Durations, first_poll_s
from app.domain.messages import Offer
from app.ports import Connector
from app.sandbox.clock import Instant
from app.sandbox.dv360.state import Fixed
from app.sandbox.meta.accounts import FIRST_ACCOUNT
from tests.connectors.meta import meta_offer
from tests.connectors.rig import FIRST, LAST, SandboxFetch, sandboxed
from tests.connectors.support import offer
from tests.connectors.ttd import ttd_offer

SCHEDULE = (5.0, 10.0, 300.0)
SECONDS = st.floats(0, 2 * LONGEST_S)


def reference(measured: Sequence[float], schedule: Sequence[float]) -> float | None:
    """Sorted, and looked at in the middle."""
    last = sorted(measured[-50:])
    if len(last) < 5:
        return None
    half = len(last) // 2
    middle = last[half] if len(last) % 2 else (last[half - 1] + last[half]) / 2
    return sorted([min(1.0, max(schedule)), middle, max(schedule)])[1]


@given(st.lists(SECONDS, max_size=120), st.lists(st.floats(0.01, 600), min_size=1, max_size=7))
def test_it_is_the_median_of_the_last_within_bounds(measured: list[float], schedule: list[float]) -> None:
    known = Durations()
    for seconds in measured:
        known.note("a", 1_000.0, 1_000.0 + seconds)
    believed = [seconds for seconds in measured if 1_000.0 + seconds - 1_000.0 <= LONGEST_S]
    found, wanted = known.first_poll_s("a", schedule), reference(believed, schedule)
    assert (found is None) == (wanted is None)
    assert found is None or found == pytest.approx(wanted)
    assert known.first_poll_s("b", schedule) is None


@given(st.lists(st.integers(0, 3600), min_size=LEAST, max_size=MOST), st.integers(-1_000_000_000, 1_000_000_000))
def test_a_clock_that_is_wrong_changes_nothing(measured: list[int], wrong_by: int) -> None:
    right, wrong = Durations(), Durations()
    for seconds in measured:
        right.note("a", 1_795_000_000.0, 1_795_000_000.0 + seconds)
        wrong.note("a", 1_795_000_000.0 + wrong_by, 1_795_000_000.0 + wrong_by + seconds)
    assert wrong.first_poll_s("a", SCHEDULE) == right.first_poll_s("a", SCHEDULE)


@pytest.mark.parametrize(
    ("began_at", "ended_at"), [(None, 9.0), (9.0, None), (100.0, 97.0), (0.0, LONGEST_S + 1), (0.0, float("inf"))]
)
def test_what_is_no_duration_is_not_counted(began_at: float | None, ended_at: float | None) -> None:
    known = Durations()
    for _ in range(LEAST):
        known.note("a", began_at, ended_at)
    assert known.first_poll_s("a", SCHEDULE) is None


def test_an_end_just_before_the_beginning_is_at_once() -> None:
    known = Durations()
    for _ in range(LEAST):
        known.note("a", 100.0, 98.5)
    assert known.first_poll_s("a", SCHEDULE) == EARLIEST_S


def test_only_the_last_fifty_count() -> None:
    known = Durations()
    for seconds in [100.0] * 50 + [10.0] * 24:
        known.note("a", 0.0, seconds)
    assert known.first_poll_s("a", SCHEDULE) == 100.0
    known.note("a", 0.0, 10.0)
    known.note("a", 0.0, 10.0)
    assert known.first_poll_s("a", SCHEDULE) == 10.0


def test_a_schedule_that_never_waits_a_second_is_kept_to() -> None:
    assert first_poll_s([3.0] * 5, (0.1, 0.2)) == 0.2


def test_instants_are_read_as_providers_write_them() -> None:
    noon = 1_794_744_000.0
    assert durations.of_header("Sun, 15 Nov 2026 12:00:00 GMT") == noon
    for text in (
        "2026-11-15T12:00:00Z",
        "2026-11-15T13:00:00+01:00",
        "2026-11-15T12:00:00",
        "2026-11-15T12:00:00.000Z",
    ):
        assert durations.of_text(text) == noon
    assert durations.of_text("2026-11-15T12:00:00.250000001Z") == noon + 0.25
    assert durations.of_number(1_794_744_000) == noon
    for no_date in (None, "", "today", "2026-11-15T12:00:00Z"):
        assert durations.of_header(no_date) is None
    unreadable: tuple[Any, ...] = (None, 7, "", "today", [], "2026-13-01T00:00:00Z")
    for no_text in unreadable:
        assert durations.of_text(no_text) is None
    for no_number in (None, "7", True, 0, -1):
        assert durations.of_number(no_number) is None


def test_the_beginning_travels_with_the_reports_ids() -> None:
    assert durations.carried(None) == {}
    assert durations.begun(durations.carried(1_794_744_000.0)) == 1_794_744_000.0
    for text in ("", "-1", "1e9", "x", "²", "9" * 400):
        assert durations.begun({"began_at": text}) is None
    assert durations.begun({}) is None


class Hands:
    """A provider's clock that stands until it is moved, hours from ours."""

    def __init__(self) -> None:
        self.at = 1_795_000_000.5

    def __call__(self) -> Instant:
        return Instant(self.at, self.at)


Job = Any
JOBS: dict[str, Job] = {
    "DV360": offer,
    "TTD": ttd_offer,
    "META": partial(meta_offer, account_id=str(FIRST_ACCOUNT)),
}


class OneWorker(SandboxFetch):
    """All steps by one worker, which remembers."""

    made: Connector | None = None

    @property
    def connector(self) -> Connector:
        if self.made is None:
            self.made = super().connector
        return self.made


@pytest.mark.parametrize("kind", JOBS)
async def test_after_five_reports_the_sixth_is_asked_for_when_they_took(kind: str, tmp_path: Path) -> None:
    hands = Hands()
    async with sandboxed(kind, tmp_path, clock=hands, report_duration=Fixed(37.0), enforce=False) as plain:
        fetch = OneWorker(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
        for number in range(6):
            job: Offer = JOBS[kind](
                "start", start=FIRST.toordinal(), end=LAST.toordinal(), batch_id=f"bat_{number:032x}"
            )
            begun = await fetch.step(job)
            assert begun.remote is not None
            # Headers and some bodies tell whole seconds.
            assert begun.poll_after_s == (None if number < 5 else pytest.approx(37.0, abs=1.0))
            hands.at += 40.0
            polled = await fetch.run(_poll(job, begun.remote))
            assert polled.file is not None
        other = await fetch.step(JOBS[kind]("start", report_type="account_performance", start=FIRST.toordinal(),
                                            end=LAST.toordinal(), batch_id="bat_" + "f" * 32))  # fmt: skip
        assert other.poll_after_s is None


def _poll(job: Offer, remote: dict[str, str]) -> Offer:
    return replace(job, step="poll", remote=remote)
