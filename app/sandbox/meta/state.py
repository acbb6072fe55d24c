"""Report runs: what exists, who may see it, and how a run moves.

    Job Not Started -> Job Started -> Job Running -> Job Completed (below 100 percent, then at 100) | Job Failed
    Job Not Started -> Job Skipped

A run's state is never stored: it follows from when it was made, how long it takes and what becomes of it. ``now`` is
unix seconds throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from app.sandbox.books import Books, campaigns_in, revision_of
from app.sandbox.dv360.state import Duration, draw_duration

NOT_STARTED, STARTED, RUNNING = "Job Not Started", "Job Started", "Job Running"
COMPLETED, FAILED, SKIPPED = "Job Completed", "Job Failed", "Job Skipped"
_STARTED_FROM, _RUNNING_FROM, _COMPLETED_FROM = 0.1, 0.2, 0.9
"""Shares of a run's time. In the last tenth it calls itself completed, and is not: its percent says so."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a run was asked for: ``level`` campaign or account, the days both included, the fields of its rows."""

    account_id: int
    level: str
    start: date
    end: date
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Run:
    """It remembers the revisions and the campaign count that it was made with, so its rows never change. ``takes_s``
    seconds or ``takes_polls`` status calls; ``fate`` is how it ends, RUNNING for one that never does."""

    run_id: int
    user: str
    question: Question
    created_at: float
    takes_s: float | None
    takes_polls: int | None
    fate: str
    revisions: Mapping[int, int]
    campaigns: int
    polls: int = 0


@dataclass(slots=True, kw_only=True)
class MetaState(Books):
    """Everything the provider knows; its accounts are ad accounts. Ids continue from ``next_id``, which starts at the
    clock."""

    next_id: int
    duration: Duration
    runs: dict[int, Run] = field(default_factory=dict)


def new_meta(now: float, campaigns: int, duration: Duration) -> MetaState:
    """An empty provider."""
    return MetaState(next_id=int(now) * 1_000, campaigns=campaigns, duration=duration)


def make_run(state: MetaState, user: str, question: Question, fate: str, seed: int, now: float) -> Run:
    """Begin a run."""
    state.next_id += 1
    takes_s, takes_polls = draw_duration(state.duration, seed, len(state.runs))
    shown = snapshot(state, user, question, now)
    run = replace(shown, run_id=state.next_id, takes_s=takes_s, takes_polls=takes_polls, fate=fate)
    state.runs[run.run_id] = run
    return run


def snapshot(state: MetaState, user: str, question: Question, now: float) -> Run:
    """What the question's figures are now, as a run that nobody made and that is ready."""
    days = range(question.start.toordinal(), question.end.toordinal() + 1)
    frozen = {day: revision for day in days if (revision := revision_of(state, question.account_id, day))}
    return Run(0, user, question, now, 0.0, None, COMPLETED, frozen, campaigns_in(state, question.account_id))


def run_of(state: MetaState, user: str, run_id: int) -> Run | None:
    """The run, if this user made it."""
    run = state.runs.get(run_id)
    return run if run is not None and run.user == user else None


def poll_run(state: MetaState, run: Run) -> Run:
    """Count one status call."""
    polled = replace(run, polls=run.polls + 1)
    state.runs[run.run_id] = polled
    return polled


def progress_of(run: Run, now: float) -> float:
    """The share of its time that is over, 0 to 1."""
    if run.takes_polls is not None:
        return min(1.0, run.polls / run.takes_polls) if run.takes_polls else 1.0
    return min(1.0, (now - run.created_at) / run.takes_s) if run.takes_s else 1.0


def state_of(run: Run, now: float) -> tuple[str, int]:
    """(async_status, async_percent_completion)."""
    progress = progress_of(run, now)
    if progress >= 1.0:
        percent = {COMPLETED: 100, SKIPPED: 0}.get(run.fate, 99)
        return run.fate, percent
    if progress < _STARTED_FROM or run.fate == SKIPPED:
        return NOT_STARTED, 0
    if progress >= _COMPLETED_FROM and run.fate == COMPLETED:
        return COMPLETED, int(progress * 100)
    return (STARTED if progress < _RUNNING_FROM else RUNNING), int(progress * 100)


def is_ready(run: Run, now: float) -> bool:
    """Whether all its rows are there."""
    return state_of(run, now) == (COMPLETED, 100)
