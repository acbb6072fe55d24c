"""What the line of waiting batches is made of: lanes, entries, and the settings of fairness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.ranked import Ranked

Key = tuple[int, int, int, str]
LaneId = tuple[int, str, str, bool]
Reason = Mapping[str, Any]
Topic = tuple[str, str]
"""What a parked lane or held batch waits for: ``("bucket", key)``, ``("slots", account)``, ``("data", data set)``."""

UNIT = 1_000_000
"""Virtual time of one call at weight 1."""
AGED_CLASS = 2


@dataclass(frozen=True, slots=True)
class Fairness:
    """``weights`` by plan (others: 1); ``floor_percent`` of its fair share is what every organisation with ready work
    gets, whatever the class; ``aging_ms`` after which an organisation's oldest batch rises, one at a time."""

    weights: Mapping[str, int] = field(default_factory=dict)
    floor_percent: int = 50
    aging_ms: int = 900_000


@dataclass(slots=True, eq=False)
class Lane:
    """Ready batches of one organisation, account and user, reads or writes; held ones are counted in ``size``, not in
    ``keys``."""

    lane_id: LaneId
    weight: int
    turn: int
    """Virtual time of one of its fetches."""
    keys: Ranked[Key] = field(default_factory=Ranked)
    size: int = 0
    head: Key | None = None
    reason: Reason | None = None
    topics: tuple[Topic, ...] = ()
    wake: int = 0
    """Number of the wake that counts; others were left behind."""


@dataclass(slots=True, eq=False)
class Entry:
    """One waiting batch. ``start``: its virtual start time; ``reason``: why it is held."""

    key: Key
    lane: Lane
    start: int
    accepted_at: int
    aged: bool = False
    reason: Reason | None = None
    topic: Topic | None = None
    wake: int = 0
