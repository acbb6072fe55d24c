"""Bid Manager's queries and reports: what exists, who may see it, and how a report moves.

    QUEUED -> RUNNING -> DONE | FAILED

A report's state is never stored: it follows from when it was run, how long it takes and what becomes of it. ``now`` is
unix seconds throughout.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from app.sandbox.books import Books, campaigns_in, revision_of

QUEUED, RUNNING, DONE, FAILED = "QUEUED", "RUNNING", "DONE", "FAILED"
QUEUED_SHARE = 0.2
"""The part of a report's time that it waits before it runs."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every report takes ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Polls:
    """A report is ready at its n-th status call; 0 is at once."""

    polls: int


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Durations drawn by seed: half of them below ``median_s`` seconds, spread by ``sigma``."""

    median_s: float
    sigma: float


Duration = Fixed | Polls | Lognormal


@dataclass(frozen=True, slots=True)
class Quirks:
    """Oddities of cells seen in the wild: ``dash`` writes a zero metric as ``-``; ``unknown`` the name of every third
    campaign as ``Unknown``; ``threshold`` impressions below 1,000 as ``< 1000``. The truth is not changed by them."""

    dash: bool = False
    unknown: bool = False
    threshold: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A stored query. ``resource`` is the caller's JSON as accepted."""

    query_id: int
    user: str
    title: str
    resource: Mapping[str, Any]
    advertisers: tuple[int, ...]
    group_bys: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a query over the days ``start`` to ``end``. It remembers the revision of each (advertiser, day) and
    the campaign counts that it was run with, so its file never changes. ``takes_s`` seconds or ``takes_polls`` status
    calls; ``fate`` is DONE, FAILED or RUNNING (stuck for good)."""

    query_id: int
    report_id: int
    user: str
    title: str
    start: date
    end: date
    created_at: float
    takes_s: float | None
    takes_polls: int | None
    fate: str
    revisions: Mapping[tuple[int, int], int]
    campaigns: Mapping[int, int]
    polls: int = 0
    polled_ready_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Dv360State(Books):
    """Everything the provider knows; its accounts are advertisers. Ids continue from ``next_id``, which starts at the
    clock: a restarted provider must not give an old id to a new query."""

    next_id: int
    duration: Duration
    quirks: Quirks = Quirks()
    queries: dict[int, Query] = field(default_factory=dict)
    reports: dict[int, dict[int, Report]] = field(default_factory=dict)
    runs: int = 0


def new_state(now: float, campaigns: int, duration: Duration, quirks: Quirks) -> Dv360State:
    """An empty provider."""
    return Dv360State(next_id=int(now) * 1_000, campaigns=campaigns, duration=duration, quirks=quirks)


def draw_duration(duration: Duration, seed: int, report_number: int) -> tuple[float | None, int | None]:
    """(seconds, polls) of a report, one of them None; lognormal draws depend on (seed, number) alone."""
    match duration:
        case Fixed(seconds):
            return seconds, None
        case Polls(polls):
            return None, polls
        case Lognormal(median_s, sigma):
            return random.Random(f"{seed}/{report_number}").lognormvariate(math.log(median_s), sigma), None


def create_query(
    state: Dv360State,
    user: str,
    resource: Mapping[str, Any],
    advertisers: tuple[int, ...],
    group_bys: tuple[str, ...],
    metrics: tuple[str, ...],
) -> Query:
    """Keep a query whose resource was found valid."""
    title = str(resource["metadata"].get("title", ""))
    query = Query(_take_id(state), user, title, resource, advertisers, group_bys, metrics)
    state.queries[query.query_id] = query
    state.reports[query.query_id] = {}
    return query


def run_query(state: Dv360State, query: Query, start: date, end: date, fate: str, seed: int, now: float) -> Report:
    """Start a report over ``start`` to ``end`` inclusive."""
    report_id = _take_id(state)
    takes_s, takes_polls = draw_duration(state.duration, seed, state.runs)
    state.runs += 1
    days = range(start.toordinal(), end.toordinal() + 1)
    frozen = {
        (one, day): revision for one in query.advertisers for day in days if (revision := revision_of(state, one, day))
    }
    counts = {one: campaigns_in(state, one) for one in query.advertisers}
    report = Report(
        query.query_id,
        report_id,
        query.user,
        query.title,
        start,
        end,
        now,
        takes_s,
        takes_polls,
        fate,
        frozen,
        counts,
    )
    state.reports[query.query_id][report_id] = report
    return report


def query_of(state: Dv360State, user: str, query_id: int) -> Query | None:
    """The query, if this user made it; others cannot tell that it exists."""
    query = state.queries.get(query_id)
    return query if query is not None and query.user == user else None


def report_of(state: Dv360State, user: str, query_id: int, report_id: int) -> Report | None:
    """The report, if this user made its query."""
    if query_of(state, user, query_id) is None:
        return None
    return state.reports[query_id].get(report_id)


def delete_query(state: Dv360State, query: Query) -> None:
    """Forget a query and its reports; their files go with them."""
    del state.queries[query.query_id]
    del state.reports[query.query_id]


def poll_report(state: Dv360State, report: Report, now: float) -> Report:
    """Count one status call."""
    polls = report.polls + 1
    ready = report.takes_polls is not None and polls >= report.takes_polls and report.polled_ready_at is None
    polled = replace(report, polls=polls, polled_ready_at=now if ready else report.polled_ready_at)
    state.reports[report.query_id][report.report_id] = polled
    return polled


def state_of(report: Report, now: float) -> str:
    """Where the report stands: one of QUEUED, RUNNING, DONE, FAILED."""
    if report.takes_polls is not None:
        progress = report.polls / report.takes_polls if report.takes_polls else 1.0
        waiting = report.polls == 0 or (report.polls == 1 and report.takes_polls > 2)
    else:
        takes = report.takes_s or 0.0
        progress = (now - report.created_at) / takes if takes > 0 else 1.0
        waiting = progress < QUEUED_SHARE
    if progress >= 1.0:
        return report.fate
    return QUEUED if waiting else RUNNING


def finished_at(report: Report, now: float) -> float | None:
    """Unix seconds at which the report was done or failed, None before."""
    if state_of(report, now) not in (DONE, FAILED):
        return None
    if report.takes_s is None:
        return report.polled_ready_at if report.polled_ready_at is not None else report.created_at
    return report.created_at + report.takes_s


def _take_id(state: Dv360State) -> int:
    state.next_id += 1
    return state.next_id
