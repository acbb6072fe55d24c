"""How a report moves, who sees it, and that its figures are what they were when it was run."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from app.sandbox.books import restate
from app.sandbox.dv360 import state as dv360
from app.sandbox.dv360.figures import campaign_id, split, truth_rows
from app.sandbox.dv360.state import (
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Duration,
    Dv360State,
    Fixed,
    Lognormal,
    Polls,
    Query,
    Quirks,
    Report,
)
from app.sandbox.figures import add, metrics_of

DAY = date(2026, 11, 1)
RESOURCE = {"metadata": {"title": "t"}, "params": {}}


def provider(duration: Duration, fate: str = DONE) -> tuple[Dv360State, Query, Report]:
    state = dv360.new_state(1_000.0, 5, duration, Quirks())
    query = dv360.create_query(state, "alice", RESOURCE, (7,), ("FILTER_DATE",), ("METRIC_CLICKS",))
    return state, query, dv360.run_query(state, query, DAY, DAY, fate, seed=1, now=100.0)


@pytest.mark.parametrize("fate", [DONE, FAILED])
def test_a_report_waits_runs_and_ends(fate: str) -> None:
    _, _, report = provider(Fixed(10.0), fate)
    seen = [dv360.state_of(report, at) for at in (100.0, 101.9, 102.0, 109.9, 110.0, 500.0)]
    assert seen == [QUEUED, QUEUED, RUNNING, RUNNING, fate, fate]
    assert [dv360.finished_at(report, at) for at in (109.9, 110.0, 500.0)] == [None, 110.0, 110.0]


def test_a_stuck_report_runs_for_good() -> None:
    _, _, report = provider(Fixed(1.0), RUNNING)
    assert dv360.state_of(report, 1e9) == RUNNING
    assert dv360.finished_at(report, 1e9) is None


def test_a_report_counts_its_polls() -> None:
    state, _, report = provider(Polls(3))
    seen = [dv360.state_of(report, 100.0)]
    for at in (101.0, 102.0, 103.0, 104.0):
        report = dv360.poll_report(state, report, at)
        seen.append(dv360.state_of(report, at))
    assert seen == [QUEUED, QUEUED, RUNNING, DONE, DONE]
    assert dv360.finished_at(report, 104.0) == 103.0


def test_no_polls_is_at_once() -> None:
    _, _, report = provider(Polls(0))
    assert dv360.state_of(report, 100.0) == DONE


def test_lognormal_durations_come_from_the_seed_and_have_the_median() -> None:
    drawn = [dv360.draw_duration(Lognormal(30.0, 0.5), 7, n)[0] or 0.0 for n in range(501)]
    assert drawn == [dv360.draw_duration(Lognormal(30.0, 0.5), 7, n)[0] for n in range(501)]
    assert drawn != [dv360.draw_duration(Lognormal(30.0, 0.5), 8, n)[0] for n in range(501)]
    assert 26 < sorted(drawn)[250] < 34


def test_only_the_maker_sees_a_query() -> None:
    state, query, report = provider(Fixed(1.0))
    assert dv360.query_of(state, "bob", query.query_id) is None
    assert dv360.report_of(state, "bob", query.query_id, report.report_id) is None
    assert dv360.report_of(state, "alice", query.query_id, report.report_id) == report
    dv360.delete_query(state, query)
    assert dv360.report_of(state, "alice", query.query_id, report.report_id) is None


def test_ids_are_never_given_twice_even_after_a_restart() -> None:
    state, _, report = provider(Fixed(1.0))
    later = dv360.new_state(1_001.0, 5, Fixed(1.0), Quirks())
    assert later.next_id > report.report_id
    assert state.next_id == report.report_id


def test_a_report_keeps_the_revision_it_was_run_with() -> None:
    state, query, before = provider(Fixed(1.0))
    restate(state, 7, DAY, DAY)
    after = dv360.run_query(state, query, DAY, DAY, DONE, seed=1, now=101.0)
    ordinal = DAY.toordinal()
    assert (before.revisions.get((7, ordinal), 0), after.revisions[(7, ordinal)]) == (0, 1)
    assert replace(before, polls=1).revisions == before.revisions


def test_figures_follow_from_seed_campaign_day_and_revision_alone() -> None:
    def rows(seed: int, revision: int) -> list[object]:
        return list(truth_rows(seed, 7, DAY, date(2026, 11, 7), 5, lambda _: revision))

    assert rows(1, 0) == rows(1, 0)
    assert len(rows(1, 0)) == 35
    assert rows(1, 0) != rows(2, 0)
    assert rows(1, 0) != rows(1, 1)
    other = list(truth_rows(1, 8, DAY, DAY, 5, lambda _: 0))
    assert {row.campaign_id for row in other}.isdisjoint({campaign_id(7, n) for n in range(5)})


def test_figures_are_plausible_and_exact() -> None:
    rows = list(truth_rows(1, 7, DAY, date(2026, 11, 30), 20, lambda _: 0))
    assert all(row.clicks <= row.impressions and row.billable_impressions >= 0 for row in rows)
    assert any(row.conversions % 1 for row in rows), "conversions can be fractional"
    assert all(row.revenue == round(row.revenue, 6) for row in rows)
    assert any(row.impressions == 0 for row in rows)


def test_the_parts_of_a_campaign_add_up() -> None:
    figures = metrics_of(1, campaign_id(7, 0))(DAY.toordinal(), 0)
    parts = [split(split(figures, order), item) for order in (0, 1) for item in (0, 1)]
    total = add(add(parts[0], parts[1]), add(parts[2], parts[3]))
    assert total == figures
