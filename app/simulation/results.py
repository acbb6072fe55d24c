"""What came of a run, as plain values: the JSON of ``connector simulate``. Spans in seconds, shares from 0 to 1."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.domain.model import PRIORITY_CLASS
from app.simulation.engine import Desk, Simulation
from app.simulation.measures import Estimates, Measures, Traffic
from app.simulation.provider import Use

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_CLASS_NAMES = {number: name for name, number in PRIORITY_CLASS.items()}
MOST_ORGS = 50
"""Organisations that are told one by one; of more, those with the longest waits."""


def of(simulation: Simulation) -> dict[str, Any]:
    """All results of a run that has ended."""
    measures, scenario = simulation.measures, simulation.scenario
    return {
        "scenario": scenario.title,
        "seed": scenario.seed,
        "simulated_s": round((simulation.line.now - simulation.begins_at) / 1000, 1),
        "commands": {
            "sent": measures.commands,
            "ended": measures.ended,
            "open": len(measures.open),
            "ended_twice": measures.ended_twice,
            "reused": measures.reused,
            "outcomes": dict(sorted(measures.outcomes.items())),
        },
        "over_quota": sum(desk.crew.provider.over for desk in simulation.desks.values()),
        "saving": saving(measures.traffic.values()),
        "waits": {
            "start_by_priority": _by_class(measures.started),
            "done_by_priority": _by_class(measures.done),
            "by_organisation": _by_org(measures),
        },
        "estimates": estimates(measures),
        "connectors": {name: connector(desk, measures) for name, desk in simulation.desks.items()},
    }


def priority_name(number: int) -> str:
    """What a priority class is called."""
    return _CLASS_NAMES[number]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread_s(waits_ms: array[int]) -> dict[str, float]:
    """Count and quantiles, in seconds."""
    ordered = sorted(waits_ms)
    told = {name: round(quantile(ordered, share) / 1000, 3) for name, share in _SHARES.items()} if ordered else {}
    return {"n": len(ordered)} | told


def saving(traffic: Iterable[Traffic]) -> dict[str, Any]:
    """Counted calls and days against what a client makes that neither merges nor reuses."""
    parts = list(traffic)
    calls, alone = sum(t.calls for t in parts), sum(t.calls_alone for t in parts)
    days = sum(t.days_asked for t in parts)
    needed = sum(bits.bit_count() for t in parts for bits in t.needed.values())
    return {
        "calls": calls,
        "calls_alone": alone,
        "calls_saved": round(1 - calls / alone, 4) if alone else None,
        "fetches": sum(t.fetches for t in parts),
        "days_requested": days,
        "days_needed": needed,
        "days_per_day_needed": round(days / needed, 4) if needed else None,
    }


def _by_class(waits: Mapping[int, array[int]]) -> dict[str, dict[str, float]]:
    return {_CLASS_NAMES[number]: spread_s(waits[number]) for number in sorted(waits)}


def _by_org(measures: Measures) -> dict[str, dict[str, Any]]:
    """The waits of organisations; of very many only the worst."""
    rows = [
        (org.name, {
            "start": spread_s(measures.started_by_org.get(org.org_id, array("L"))),
            "done": spread_s(measures.done_by_org.get(org.org_id, array("L"))),
        })
        for org in measures.orgs
    ]  # fmt: skip
    if len(rows) > MOST_ORGS:
        rows = sorted(rows, key=lambda row: -row[1]["done"].get("p90", 0.0))[:MOST_ORGS]
    return dict(rows)


def estimates(measures: Measures) -> dict[str, Any]:
    """Estimates frozen at acceptance against real waits, of the commands that had to wait; all, and by priority."""
    every = [(_CLASS_NAMES[number], measures.estimates[number]) for number in sorted(measures.estimates)]
    whole = Estimates()
    for _, part in every:
        whole.errors.extend(part.errors)
        whole.with_p90 += part.with_p90
        whole.inside_p90 += part.inside_p90
        whole.sum_told_s += part.sum_told_s
        whole.sum_wait_s += part.sum_wait_s
    return {"all": calibration(whole), "by_priority": {name: calibration(part) for name, part in every}}


def calibration(part: Estimates) -> dict[str, Any]:
    """``inside_p90``: share of real starts; ``error``: abs(p50 - wait) / max(wait, 10 s)."""
    ordered = sorted(part.errors)
    count = len(ordered)
    return {
        "n": count,
        "error": {name: round(quantile(ordered, share), 4) for name, share in _SHARES.items()} if ordered else None,
        "inside_p90": round(part.inside_p90 / part.with_p90, 4) if part.with_p90 else None,
        "mean_told_s": round(part.sum_told_s / count, 2) if count else None,
        "mean_wait_s": round(part.sum_wait_s / count, 2) if count else None,
    }


def connector(desk: Desk, measures: Measures) -> dict[str, Any]:
    """One connector type: its calls, its quotas, and who got them."""
    traffic, crew = measures.traffic[desk.name], desk.crew
    responses = traffic.responses or 1
    return {
        **saving([traffic]),
        "calls_over_quota": crew.provider.over,
        "permits": {"granted": crew.granted, "called": crew.provider.calls, "unused": crew.unused},
        "planner_steps": desk.steps,
        "mean_response_s": round(traffic.response_ms / responses / 1000, 4),
        "mean_held_s": round(traffic.held_ms / responses / 1000, 4),
        "quotas": {name: quota_use(use, traffic) for name, use in crew.provider.uses.items() if use.calls},
        "shares": shares(traffic, measures),
    }


def quota_use(use: Use, traffic: Traffic) -> dict[str, Any]:
    """How much of what could be had was used while requests waited.

    Sliding: calls against ``limit * demand / (W + mean response)``. ``used`` takes as the response the time from permit
    to return, which is how long a slot is held besides the period; ``used_of_response`` the provider's part of it
    alone. Calendar: calls of each whole day against the limit.
    Of quotas that each account or user has, the calls of all count against as many limits as there are.
    """
    quota, values = use.quota, max(1, len(use.counts))
    told: dict[str, Any] = {
        "limit": quota.limit,
        "period_s": quota.period_ms / 1000,
        "scope": quota.scope,
        "calls": use.calls,
        "over": use.over,
        "fullest": use.most,
        "used": None,
        "used_of_response": None,
        "demand_s": round(use.demand_ms / 1000, 1),
    }
    if quota.calendar_zone is not None:
        days = [calls / quota.limit for counter in use.counts.values() for _, calls in getattr(counter, "days", [])]
        return told | {"days": [round(day, 4) for day in days], "used": round(max(days), 4) if days else None}
    if use.demand_ms >= quota.period_ms and traffic.responses:
        for name, sum_ms in (("used", traffic.held_ms), ("used_of_response", traffic.response_ms)):
            most = quota.limit * values * use.demand_ms / (quota.period_ms + sum_ms / traffic.responses)
            told[name] = round(use.demanded / most, 4)
    return told


def shares(traffic: Traffic, measures: Measures) -> dict[str, dict[str, float]]:
    """Calls each organisation got against its fair share, both while it had requests waiting."""
    given = traffic.shares
    given.settle()
    rows = {}
    for org in measures.orgs:
        fair = given.fair.get(org.org_id, 0.0)
        if fair >= 1:
            calls = given.served[org.org_id]
            rows[org.name] = {"calls": calls, "fair": round(fair, 1), "share_of_fair": round(calls / fair, 4)}
    if len(rows) > MOST_ORGS:
        rows = dict(sorted(rows.items(), key=lambda row: row[1]["share_of_fair"])[:MOST_ORGS])
    return rows
