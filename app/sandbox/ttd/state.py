"""MyReports: templates, schedules, and the one execution of each.

    (not there yet) -> Pending -> Complete | Failed

Where an execution stands is never stored: it follows from when its schedule was made, how long it takes and what
becomes of it. ``now`` is unix seconds throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from app.sandbox.books import Books, campaigns_in, revision_of
from app.sandbox.dv360.state import QUEUED_SHARE, Duration, draw_duration
from app.sandbox.ttd.tokens import Tokens, new_tokens

UNSEEN, PENDING, COMPLETE, FAILED = "", "Pending", "Complete", "Failed"

ACCOUNT_COLUMNS = (
    "Date", "Advertiser ID", "Advertiser Currency Code", "Impressions", "Clicks", "All Last Click + View Conversions",
    "Advertiser Cost (Adv Currency)",
)  # fmt: skip
CAMPAIGN_COLUMNS = (*ACCOUNT_COLUMNS[:3], "Campaign ID", "Campaign", *ACCOUNT_COLUMNS[3:])


@dataclass(frozen=True, slots=True)
class Template:
    """What a report's columns are; every user sees it."""

    template_id: int
    name: str
    columns: tuple[str, ...]


TEMPLATES = (
    Template(101, "connector campaign_performance by ad group", (*CAMPAIGN_COLUMNS, "Ad Group ID")),
    Template(102, "connector campaign_performance", CAMPAIGN_COLUMNS),
    Template(103, "connector account_performance", ACCOUNT_COLUMNS),
)
"""The first holds the name of the second, so whoever takes the first match of a search gets the wrong one."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A report that runs once, over the days ``start`` to ``end`` of ``time_zone``, both included. It remembers the
    revision of each day and the campaign count of when it was made, so its file never changes. ``takes_s`` seconds or
    ``takes_polls`` polls; ``fate`` is COMPLETE, FAILED or PENDING (stuck for good)."""

    schedule_id: int
    user: str
    name: str
    template: Template
    advertisers: tuple[int, ...]
    start: date
    end: date
    time_zone: str
    created_at: float
    takes_s: float | None
    takes_polls: int | None
    fate: str
    revisions: Mapping[tuple[int, int], int]
    campaigns: Mapping[int, int]
    polls: int = 0


@dataclass(slots=True, kw_only=True)
class TtdState(Books):
    """Everything the provider knows; its accounts are advertisers. ``links``: reports are behind a ``view`` of the API,
    a ``signed`` link, or one kind after the other (``both``). ``ignored`` names properties that were sent and mean
    nothing."""

    next_id: int
    duration: Duration
    tokens: Tokens
    templates: tuple[Template, ...] = TEMPLATES
    links: str = "both"
    schedules: dict[int, Schedule] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    runs: int = 0


def new_state(seed: int, now: float, campaigns: int, duration: Duration) -> TtdState:
    """An empty provider."""
    return TtdState(next_id=int(now), campaigns=campaigns, duration=duration, tokens=new_tokens(seed))


def emptied(state: TtdState, seed: int) -> TtdState:
    """As at its start; ids go on, so that nothing old can be mistaken for something new."""
    fresh = new_state(seed, 0, state.campaigns, state.duration)
    return replace(fresh, next_id=state.next_id, links=state.links)


@dataclass(frozen=True, slots=True)
class Asked:
    """A schedule as its maker wants it."""

    name: str
    template: Template
    advertisers: tuple[int, ...]
    start: date
    end: date
    time_zone: str


def make_schedule(state: TtdState, user: str, asked: Asked, fate: str, seed: int, now: float) -> Schedule:
    """Keeps a schedule; its report is under way from now on."""
    state.next_id += 1
    takes_s, takes_polls = draw_duration(state.duration, seed, state.runs)
    state.runs += 1
    days = range(asked.start.toordinal(), asked.end.toordinal() + 1)
    revisions = {
        (one, day): number for one in asked.advertisers for day in days if (number := revision_of(state, one, day))
    }
    schedule = Schedule(
        state.next_id, user, asked.name, asked.template, asked.advertisers, asked.start, asked.end, asked.time_zone,
        now, takes_s, takes_polls, fate, revisions, {one: campaigns_in(state, one) for one in asked.advertisers},
    )  # fmt: skip
    state.schedules[schedule.schedule_id] = schedule
    return schedule


def polled(state: TtdState, schedule: Schedule) -> Schedule:
    """Counts one poll."""
    counted = replace(schedule, polls=schedule.polls + 1)
    state.schedules[schedule.schedule_id] = counted
    return counted


def state_of(schedule: Schedule, now: float) -> str:
    """Where its execution stands; UNSEEN while there is none."""
    if schedule.takes_polls is not None:
        progress = schedule.polls / schedule.takes_polls if schedule.takes_polls else 1.0
        unseen = schedule.polls <= 1
    else:
        takes = schedule.takes_s or 0.0
        progress = (now - schedule.created_at) / takes if takes > 0 else 1.0
        unseen = progress < QUEUED_SHARE
    if progress >= 1.0:
        return schedule.fate
    return UNSEEN if unseen else PENDING
