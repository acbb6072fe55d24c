"""The ledger against a plain witness: who asked, who was granted, what came back, counted from outside."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.ledger import WHOLE, Entry, WindowCount
from app.domain.messages import Accept, Ask, Cancel, Returned
from app.domain.model import Quota
from app.domain.rules import Rules
from app.domain.state import Changes
from app.testing.planning import NOW, TODAY, accept, facts, quota
from app.testing.planning_checks import left_over
from app.testing.planning_world import Faults, PlannerWorld, commands
from tests.property import test_planner_life as life
from tests.property.test_planner_life import DAILY, SLIDING, drawn, tight

SHORT = (*SLIDING, DAILY)
"""No bucket keeps a permit for as long as the windows that count it."""
QUOTAS = (*SHORT, quota("per_account", 5, 70_000, scope="account"))
FEW, MANY = replace(life.FEW, cut=0.1), replace(life.MANY, cut=0.1)
BEFORE_MIDNIGHT = NOW - 5 * 3_600_000 - 90_000
"""A minute and a half before a day begins in Los Angeles."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A permit as it was seen to be granted. ``members``: live requests of its batch with their labels."""

    ask: Ask
    at: int
    connector: Any
    priority_class: int
    members: tuple[tuple[str, dict[str, str]], ...]


class Witness(PlannerWorld):
    """Looks at each step from outside: permits when they are granted, returns as they come in, losses by the clock."""

    def __init__(self, rules: Rules, seed: int, faults: Faults, now: int) -> None:
        super().__init__(rules, seed, faults, now=now)
        self.permits: dict[str, Granted] = {}
        self.ended: dict[str, tuple[str | None, int | None]] = {}
        """Ask id -> how its permit ended (None: unused), and when it came back."""

    def _check(self, changes: Changes) -> None:
        super()._check(changes)
        state, lifetime = self.state, self.rules.permit_valid_ms + self.rules.call_timeout_ms
        for message, _ in self.inbox[-1]:
            if isinstance(message, Returned):
                told = {name: "answered" if ok else "failed" for name, _, ok in message.ends}
                for name in message.ask_ids:
                    if name in self.permits:
                        how = told.get(name, "unknown") if name in (message.left or ()) else None
                        self.ended.setdefault(name, (how, state.now))
        for name, granted in self.permits.items():
            if state.now >= granted.at + lifetime:
                self.ended.setdefault(name, ("unknown", None))
        for answer in changes.answers:
            if answer.denied is None:
                ask = self._asks[answer.ask_id][0]
                batch = state.batches[ask.batch_id or ""]
                live = [(m, state.requests[m].accept.labels) for m in batch.members if m in state.requests]
                assert answer.ask_id not in self.permits
                self.permits[answer.ask_id] = Granted(
                    ask, state.now, batch.connector, batch.priority_class, tuple(live)
                )


def lived(seed: int, faults: Faults, *, now: int = NOW) -> Witness:
    """A life of some requests of two organisations, with labels, some cancelled; every promise of the ledger."""
    draw = random.Random(seed)
    made = Witness(tight(SHORT if draw.random() < 0.5 else QUOTAS), seed, faults, now)
    accepts = [_labelled(drawn(n, draw), draw, now) for n in range(1, draw.randint(3, 9))]
    for message, after_ms in commands(accepts, draw):
        made.tell(message, after_ms)
    for message in accepts:
        if draw.random() < 0.3:
            who = message.connector
            made.tell(Cancel(message.request_id, who.org_id, who.connector_id), draw.randint(0, 90_000))
    made.run()
    assert list(left_over(made.state)) == [], f"seed {seed}"
    check_entries(made)
    check_windows(made)
    return made


def _labelled(message: Accept, draw: random.Random, now: int) -> Accept:
    org_id = 1 if message.connector.connector_id == facts(1).connector_id else 2
    labels = {"team": draw.choice(["a", "b"])} if draw.random() < 0.8 else {}
    late = None if message.deadline_at is None else message.deadline_at - NOW + now
    who = replace(message.connector, org_id=org_id)
    return replace(message, connector=who, labels=labels, accepted_at=now, deadline_at=late)


def entries_of(world: PlannerWorld) -> list[Entry]:
    return [one for one in world.ledger if isinstance(one, Entry)]


def check_entries(made: Witness) -> None:
    """One entry for every permit whose call left or may have, with all that was true when it was granted."""
    seed, entries = made.seed, entries_of(made)
    assert len({e.ask_id for e in entries}) == len(entries), f"seed {seed}: a call is written twice"
    wanted = {name: how for name, (how, _) in made.ended.items() if how is not None}
    assert {e.ask_id: e.outcome for e in entries} == wanted, f"seed {seed}"
    assert set(made.ended) == set(made.permits), "every permit has an end"
    for entry in entries:
        granted, (_, at) = made.permits[entry.ask_id], made.ended[entry.ask_id]
        who = granted.connector
        assert (entry.granted_at, entry.ended_at) == (granted.at, at)
        assert (entry.org_id, entry.connector_id, entry.connector_type) == (who.org_id, who.connector_id, "DV360")
        assert (entry.batch_id, entry.charge) == (granted.ask.batch_id, "reports")
        assert sorted(entry.buckets) == sorted(key for _, key in keys_of(made, granted))
        assert entry.priority_class == granted.priority_class
        assert tuple((m.request_id, m.labels) for m in entry.members) == granted.members, f"seed {seed}"
        assert not entry.members or sum(m.millionths for m in entry.members) == WHOLE
        assert (
            not entry.members
            or max(m.millionths for m in entry.members) - min(m.millionths for m in entry.members) <= 100
        )
    known = sum(e.outcome != "unknown" for e in entries)
    assert known <= len(made.calls) <= len(entries), f"seed {seed}: {known}, {len(made.calls)}, {len(entries)}"


def keys_of(made: Witness, granted: Granted) -> list[tuple[Quota, str]]:
    who = granted.connector
    scopes = {"application": "", "account": who.account_id, "user": who.subject}
    return [(rule, f"{rule.name}|{scopes[rule.scope]}") for rule in made.rules.connectors["DV360"].quotas]


def check_windows(made: Witness) -> None:
    """Every grant is in one window of each of its sliding buckets, and in every day that it may touch."""
    calls: Counter[tuple[str, int, int]] = Counter()
    orgs: dict[tuple[str, int, int], set[int]] = {}
    for granted in made.permits.values():
        for rule, key in keys_of(made, granted):
            for start, end in windows_of(rule, granted.at, made.rules):
                calls[key, start, end] += 1
                orgs.setdefault((key, start, end), set()).add(granted.connector.org_id)
    told = [one for one in made.ledger if isinstance(one, WindowCount)]
    assert len({(w.bucket, w.start, w.end) for w in told}) == len(told), f"seed {made.seed}: told twice"
    assert {(w.bucket, w.start, w.end): w.calls for w in told} == dict(calls), f"seed {made.seed}"
    limits = {rule.name: rule for rule in QUOTAS}
    for one in told:
        rule = limits[one.bucket.partition("|")[0]]
        owners = orgs[one.bucket, one.start, one.end]
        own = rule.scope != "application" and len(owners) == 1
        assert (one.connector_type, one.limit) == ("DV360", rule.limit)
        assert one.org_id == (min(owners) if own else None)


def windows_of(rule: Quota, at: int, rules: Rules) -> list[tuple[int, int]]:
    if rule.calendar_zone is None:
        span = max(rule.period_ms, 60_000)
        return [(at - at % span, at - at % span + span)]
    zone = ZoneInfo(rule.calendar_zone)
    latest = at + rules.permit_valid_ms + rules.call_timeout_ms + rules.clock_guard_ms
    first, last = (datetime.fromtimestamp(t / 1000, zone).date() for t in (at - rules.clock_guard_ms, latest))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    starts = [datetime(d.year, d.month, d.day, tzinfo=zone) for d in [*days, days[-1] + timedelta(days=1)]]
    ms = [int(s.astimezone(UTC).timestamp() * 1000) for s in starts]
    return list(pairwise(ms))


@pytest.mark.parametrize("seed", range(50_000, 50_100, 10))
def test_the_ledger_says_what_a_witness_saw_whatever_fails(seed: int) -> None:
    for each in range(seed, seed + 10):
        lived(each, MANY if each % 2 else FEW)


@pytest.mark.parametrize("seed", range(51_000, 51_040, 10))
def test_a_call_near_midnight_counts_in_both_days(seed: int) -> None:
    worlds = [lived(each, FEW, now=BEFORE_MIDNIGHT) for each in range(seed, seed + 10)]
    days = [[w for w in one.ledger if isinstance(w, WindowCount) and w.bucket == "per_day|"] for one in worlds]
    assert any(len(told) == 2 for told in days)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(52_000, 54_000, 100))
def test_the_ledger_says_what_a_witness_saw_in_two_thousand_runs(seed: int) -> None:
    for each in range(seed, seed + 100):
        lived(each, MANY if each % 2 else FEW, now=BEFORE_MIDNIGHT if each % 3 == 0 else NOW)


def test_the_runs_above_hold_what_they_are_about() -> None:
    """Otherwise they could pass without a merged call or a lost one."""
    entries = [e for seed in range(50_001, 50_061, 2) for e in entries_of(lived(seed, MANY))]
    assert {e.outcome for e in entries} == {"answered", "failed", "unknown"}
    assert any(len(e.members) >= 3 for e in entries)


def test_shares_of_labels_add_up_to_the_calls() -> None:
    """What a reader of the ledger does: calls by label, and those of nobody, are all calls."""
    made = lived(50_003, MANY)
    by_team: Counter[str] = Counter()
    for entry in entries_of(made):
        for member in entry.members:
            by_team[member.labels.get("team", "")] += member.millionths
    alone = sum(not e.members for e in entries_of(made))
    assert Fraction(sum(by_team.values()), WHOLE) + alone == len(entries_of(made))


def test_two_days_of_one_request_are_one_members_calls() -> None:
    made = Witness(tight(QUOTAS), 1, Faults(), NOW)
    made.tell(accept(1, TODAY - 3, TODAY - 2, labels={"team": "a"}))
    made.run()
    check_entries(made)
    assert {tuple((m.labels["team"], m.millionths) for m in e.members) for e in entries_of(made)} == {(("a", WHOLE),)}
