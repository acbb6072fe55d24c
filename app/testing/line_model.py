"""The line as docs/planner.md section 1 describes it, by sorting a plain list every time: slow, and easy to believe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from app.domain.lanes import UNIT, Fairness, Key, Reason, Topic
from app.domain.line import Line
from app.domain.rows import Batch

LaneId = tuple[int, str, str, bool]


@dataclass(slots=True)
class Waiting:
    """A batch in the line: its place (class, finish), and what it alone waits for."""

    batch: Batch
    place: tuple[int, int]
    aged: bool = False
    reason: Reason | None = None
    topics: tuple[Topic, ...] = ()

    @property
    def key(self) -> Key:
        return (*self.place, self.batch.accepted_at, self.batch.batch_id)

    @property
    def org_id(self) -> int:
        return self.batch.connector.org_id

    @property
    def lane(self) -> LaneId:
        connector = self.batch.connector
        return connector.org_id, connector.account_id, connector.subject, self.batch.place is not None


@dataclass(slots=True)
class LineModel:
    """``calls``: what a fetch costs. Everything is worked out anew from ``waiting`` and ``parked``."""

    calls: int
    fairness: Fairness
    waiting: dict[str, Waiting] = field(default_factory=dict)
    parked: dict[LaneId, tuple[Reason, tuple[Topic, ...]]] = field(default_factory=dict)
    virtual: dict[int, int] = field(default_factory=dict)
    last: dict[tuple[int, int], int] = field(default_factory=dict)
    finished: dict[tuple[int, int], int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    """Up to which level an organisation has used what it was guaranteed."""
    left: dict[int, int] = field(default_factory=dict)
    had_work: set[int] = field(default_factory=set)
    level: int = 0

    def weight(self, batch: Batch) -> int:
        return self.fairness.weights.get(batch.connector.plan, 1)

    def size(self, batch: Batch) -> int:
        """Virtual time of its fetch: a unit for a call at weight 1."""
        return UNIT * self.calls // self.weight(batch)

    def turn(self, batch: Batch) -> tuple[int, int]:
        """Start at the later of the class's virtual time and the organisation's last finish; end a size after that."""
        known = self.waiting.get(batch.batch_id)
        if batch.turn is not None and batch.turn[0] == batch.priority_class:
            return batch.turn
        if known is not None and known.aged and batch.priority_class == 2:
            return known.place
        return self._next(batch.priority_class, batch)

    def _next(self, class_: int, batch: Batch) -> tuple[int, int]:
        start = max(self.virtual.get(class_, 0), self.last.get((class_, batch.connector.org_id), 0))
        return class_, start + self.size(batch)

    def put(self, batch: Batch) -> None:
        """``batch.turn`` is its turn. One that rose keeps its place while it is as old as it was."""
        known = self.waiting.get(batch.batch_id)
        place = batch.turn or (0, 0)
        keeps = known is not None and known.aged and known.batch.accepted_at == batch.accepted_at
        if known is not None and keeps and (batch.priority_class > 2 or place == known.place):
            self.waiting[batch.batch_id] = Waiting(batch, known.place, aged=True)
            return
        moved = known is None or known.key != (*place, batch.accepted_at, batch.batch_id)
        if moved:
            self.remove(batch.batch_id)
        one = Waiting(batch, place)
        self._add(one)
        others = [w.key for w in self.waiting.values() if w.lane == one.lane and w.reason is None]
        if moved and one.key == min(others):
            # What keeps the others of its lane may let it in.
            self.parked.pop(one.lane, None)

    def _add(self, one: Waiting) -> None:
        tag = one.place[0], one.org_id
        self.waiting[one.batch.batch_id] = one
        self.last[tag] = max(one.place[1], self.last.get(tag, 0))

    def remove(self, batch_id: str) -> None:
        """With nobody left of a class and organisation, turns that nobody took are free again."""
        self.waiting.pop(batch_id, None)
        lanes = {w.lane for w in self.waiting.values()}
        self.parked = {lane: why for lane, why in self.parked.items() if lane in lanes}
        tags = {(w.place[0], w.org_id) for w in self.waiting.values()}
        self.last = {tag: at for tag, at in self.last.items() if tag in tags} | {
            tag: at for tag, at in self.finished.items() if tag not in tags
        }

    def order(self) -> list[str]:
        """Batch ids, best first."""
        return [w.batch.batch_id for w in sorted(self.waiting.values(), key=lambda w: w.key)]

    def rank(self, batch: Batch) -> int:
        """1 + how many stand before the place it has, or would have."""
        known = self.waiting.get(batch.batch_id)
        place = known.place if known and known.aged and batch.priority_class > 2 else self.turn(batch)
        key = (*place, batch.accepted_at, batch.batch_id)
        return 1 + sum(w.key < key for w in self.waiting.values())

    def ahead_of_own(self, batch: Batch) -> int:
        """How many of its organisation and class stand before it, and the one that rose."""
        org, at = batch.connector.org_id, self.order().index(batch.batch_id)
        mine = [w for name in self.order()[:at] if (w := self.waiting[name]).org_id == org]
        if self.waiting[batch.batch_id].place[0] < batch.priority_class:
            return 0
        return sum(w.place[0] == batch.priority_class or (w.aged and batch.priority_class > 2) for w in mine)

    def ready(self) -> list[Waiting]:
        """Those that could start, best first."""
        free = [w for w in self.waiting.values() if w.reason is None and w.lane not in self.parked]
        return sorted(free, key=lambda w: w.key)

    def best(self) -> str | None:
        return next((w.batch.batch_id for w in self.ready()), None)

    def neediest(self) -> str | None:
        """The best ready one of whose guarantee made up a whole fetch first."""
        due = [w for w in self.ready() if self.used[w.org_id] + self.size(w.batch) <= self.level]
        first = min(due, key=lambda w: (self.used[w.org_id] + self.size(w.batch), w.org_id, w.key), default=None)
        return None if first is None else first.batch.batch_id

    def settle(self) -> None:
        """Who has no ready work is guaranteed nothing meanwhile. To be called after whatever changes who has."""
        now = {w.org_id for w in self.ready()}
        self.left.update(dict.fromkeys(self.had_work - now, self.level))
        for org in now - self.had_work:
            self.used[org] = self.used.get(org, self.level) + self.level - self.left.get(org, self.level)
        self.had_work = now

    def started(self, batch_id: str) -> None:
        """Every start guarantees all with ready work their part by weight; who got it has used what it had."""
        one = self.waiting[batch_id]
        class_, finish = one.place
        size = self.size(one.batch)
        start = finish - size
        self.virtual[class_] = max(start, self.virtual.get(class_, 0))
        self.finished[class_, one.org_id] = max(finish, self.finished.get((class_, one.org_id), 0))
        weights = {w.org_id: self.weight(w.batch) for w in self.ready()}
        self.level += self.fairness.floor_percent * size * weights[one.org_id] // (100 * sum(weights.values()))
        used = min(self.used[one.org_id] + size, self.level)
        self.used[one.org_id] = max(used, self.level - size)

    def hold(self, batch_id: str, reason: Reason, topics: Iterable[Topic]) -> None:
        one = self.waiting[batch_id]
        one.reason, one.topics = reason, tuple(topics)

    def park(self, batch_id: str, reason: Reason, topics: Iterable[Topic]) -> None:
        self.parked[self.waiting[batch_id].lane] = reason, tuple(topics)

    def wake(self, topic: Topic) -> None:
        self._free(lambda why: topic in why[1])

    def wake_due(self, now: int) -> None:
        """Whose time has come, and of every organisation the oldest that has waited long, if none that rose waits."""
        self._free(lambda why: why[0]["until"] is not None and why[0]["until"] <= now)
        for org in {w.org_id for w in self.waiting.values()}:
            mine = [w for w in self.waiting.values() if w.org_id == org]
            young = [w for w in mine if w.place[0] > 2 and w.batch.accepted_at + self.fairness.aging_ms <= now]
            if young and not any(w.aged for w in mine):
                oldest = min(young, key=lambda w: (w.batch.accepted_at, w.key))
                finish = self._next(2, oldest.batch)
                parked = dict(self.parked)
                self.remove(oldest.batch.batch_id)
                self.parked = parked
                self._add(Waiting(oldest.batch, finish, aged=True, reason=oldest.reason, topics=oldest.topics))

    def _free(self, over: Callable[[tuple[Reason, tuple[Topic, ...]]], bool]) -> None:
        for one in self.waiting.values():
            if one.reason is not None and over((one.reason, one.topics)):
                one.reason, one.topics = None, ()
        self.parked = {lane: why for lane, why in self.parked.items() if not over(why)}

    def next_wake(self) -> int | None:
        """The earliest time that anybody waits for."""
        reasons = [why for why, _ in self.parked.values()]
        reasons += [w.reason for w in self.waiting.values() if w.reason is not None]
        return min((r["until"] for r in reasons if r["until"] is not None), default=None)

    def reason(self, batch_id: str) -> Reason | None:
        one = self.waiting.get(batch_id)
        if one is None or one.reason is not None:
            return None if one is None else one.reason
        return self.parked[one.lane][0] if one.lane in self.parked else None

    def topics(self, kind: str) -> set[str]:
        """Names of a kind that anybody waits for."""
        all_ = [t for w in self.waiting.values() for t in w.topics] + [t for _, ts in self.parked.values() for t in ts]
        return {name for known, name in all_ if known == kind}


_KEPT = {"_order", "_ready", "_floors", "_wake_number", "_costs", "_fairness"}
_ACCOUNTS = {"_virtual", "_last", "_finished"}
"""One number per class, or per class and organisation: it is what an organisation has had."""


def left_behind(line: Line) -> dict[str, Any]:
    """Tables of a line that are not empty, by name; one that nobody has thought of is among them."""
    every = vars(line)
    tables = {name: value for name, value in every.items() if name not in _KEPT | _ACCOUNTS}
    tables |= {"_order": every["_order"], "_ready": every["_ready"]}
    tables |= {f"floors.{name}": vars(every["_floors"])[name] for name in ("_turns", "_ready", "_weight")}
    return {name: value for name, value in tables.items() if value}


def inconsistent(line: Line) -> list[str]:
    """What of the line's tables does not follow from its entries."""
    every = vars(line)
    entries, lanes, floors = every["_entries"], every["_lanes"], vars(every["_floors"])
    heads = {lane.head for lane in lanes.values() if lane.head is not None}
    orgs = {lane.lane_id[0] for lane in lanes.values() if lane.head is not None}
    sound = {
        "order": list(every["_order"]) == sorted(e.key for e in entries.values()),
        "lanes": set(lanes) == {e.lane.lane_id for e in entries.values()},
        "size": all(n.size == sum(e.lane is n for e in entries.values()) for n in lanes.values()),
        "keys": all(
            list(n.keys) == sorted(e.key for e in entries.values() if e.lane is n and e.reason is None)
            for n in lanes.values()
        ),
        "heads": all(n.head == (None if n.reason is not None else n.keys.first) for n in lanes.values()),
        "ready": set(every["_ready"]) == heads,
        "ready_of": {org: set(keys) for org, keys in every["_ready_of"].items()}
        == {org: {h for n in lanes.values() if n.lane_id[0] == org and (h := n.head) is not None} for org in orgs},
        "turns": set(floors["_turns"]) == {(floors["_used"][org] + floors["_ready"][org][1], org) for org in orgs},
        "weight": floors["_weight"] == sum(weight for weight, _ in floors["_ready"].values()),
        "floors": set(floors["_ready"]) == orgs,
        "aged": set(every["_aged"].values()) == {name for name, e in entries.items() if e.aged},
        "topics": all(one.reason is not None for waiting in every["_topics"].values() for one in waiting),
    }
    return [name for name, holds in sound.items() if not holds]
