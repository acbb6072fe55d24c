"""The line of waiting batches: who is next, and at which place everybody stands (docs/planner.md section 1).

Order is (class, virtual finish time, accepted, id). Batches of one organisation, account and user, its reads and its
writes apart, are a lane: they spend the same buckets and slots, so what stops the best of them stops them all, and the
lane is parked. What stops one batch alone holds that batch. Neither loses its place. Every operation
is O(log n) in the number of waiting batches.

Memory only: a batch's turn (class, virtual finish) is a field of its row, the rest is built from the rows again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from app.domain.floors import Floors
from app.domain.lanes import AGED_CLASS, UNIT, Entry, Fairness, Key, Lane, LaneId, Reason, Topic
from app.domain.ranked import Ranked
from app.domain.rows import Batch


class Line:
    """Waiting batches of one connector type. ``costs``: connector type -> calls of a fetch."""

    def __init__(self, costs: Mapping[str, int], fairness: Fairness) -> None:
        self._costs, self._fairness = costs, fairness
        self._order: Ranked[Key] = Ranked()
        self._entries: dict[str, Entry] = {}
        self._lanes: dict[LaneId, Lane] = {}
        self._ready: Ranked[Key] = Ranked()
        self._ready_of: dict[int, Ranked[Key]] = {}
        self._floors = Floors(fairness.floor_percent)
        self._virtual: dict[int, int] = {}
        self._last: dict[tuple[int, int], int] = {}
        """(class, organisation) -> its last finish, of those that wait and those that started."""
        self._finished: dict[tuple[int, int], int] = {}
        """The same of those that started."""
        self._tags: dict[tuple[int, int], Ranked[Key]] = {}
        """(class, organisation) -> its waiting batches."""
        self._topics: dict[Topic, dict[Lane | Entry, None]] = {}
        self._wakes: list[tuple[int, int, Lane | Entry]] = []
        self._wake_number = 0
        self._young: dict[int, Ranked[tuple[int, Key]]] = {}
        """Organisation -> (accepted, key) of its batches that may rise: of equally old ones the first in line."""
        self._aged: dict[int, str] = {}
        self._rises: dict[int, int] = {}
        self._ages: Ranked[tuple[int, int]] = Ranked()
        """(when its oldest rises, organisation), of those that have none risen."""

    # Places

    def turn(self, batch: Batch) -> tuple[int, int]:
        """(class, virtual finish) for a batch: its own if its class has not changed, else the next of its
        organisation. Asking takes nothing."""
        if batch.turn is not None and batch.turn[0] == batch.priority_class:
            return batch.turn
        known = self._entries.get(batch.batch_id)
        if known is not None and known.aged and batch.priority_class == AGED_CLASS:
            # It stands in that class already.
            return known.key[:2]
        return batch.priority_class, self._next_finish(batch.priority_class, batch)

    def put(self, batch: Batch) -> None:
        """Adds a batch that has its turn, or moves it to its new place; it counts as ready until it is looked at."""
        if batch.turn is None:
            raise ValueError(f"{batch.batch_id} has no turn")
        known = self._entries.get(batch.batch_id)
        aged = known is not None and known.aged and batch.priority_class > AGED_CLASS
        key = (*batch.turn, batch.accepted_at, batch.batch_id)
        if known is not None:
            if known.key == key or (aged and known.accepted_at == batch.accepted_at):
                self._ready_again(known)
                return
            self.remove(batch.batch_id)
        class_, finish = batch.turn
        org_id = batch.connector.org_id
        lane = self._lane(batch)
        entry = Entry(key, lane, finish - self._size(batch), batch.accepted_at)
        self._entries[batch.batch_id] = entry
        self._order.add(key)
        self._count((class_, org_id), key)
        lane.size += 1
        lane.keys.add(key)
        if lane.reason is not None and lane.keys.first == key:
            # What keeps the others of the lane may let a better class in.
            self._ready_again(lane)
        self._refresh(lane)
        if class_ > AGED_CLASS:
            self._young.setdefault(org_id, Ranked()).add((batch.accepted_at, key))
            self._watch(org_id)

    def remove(self, batch_id: str) -> None:
        """Takes a batch out; one that is not there is no error."""
        entry = self._entries.pop(batch_id, None)
        if entry is None:
            return
        lane, org_id = entry.lane, entry.lane.lane_id[0]
        self._forget(entry)
        self._order.remove(entry.key)
        lane.keys.remove(entry.key)
        lane.size -= 1
        self._refresh(lane)
        if not lane.size:
            self._forget(lane)
            del self._lanes[lane.lane_id]
        self._uncount((entry.key[0], org_id), entry.key)
        if entry.aged:
            del self._aged[org_id]
        self._grown(org_id, entry.accepted_at, entry.key)

    def position(self, batch_id: str) -> int | None:
        """1-based rank, None if it does not wait here."""
        entry = self._entries.get(batch_id)
        return None if entry is None else self._order.rank(entry.key) + 1

    def aged(self, batch_id: str) -> bool:
        """Whether a batch stands better than its class because it has waited for so long."""
        entry = self._entries.get(batch_id)
        return entry is not None and entry.aged

    def ahead_in_lane(self, batch: Batch) -> int:
        """How many of its lane go before it, or would."""
        lane = self._lanes.get(_lane_id(batch))
        return 0 if lane is None else lane.keys.rank(self._key(batch))

    def rank(self, batch: Batch) -> int:
        """1-based rank that a batch has, or would have."""
        return self._order.rank(self._key(batch)) + 1

    def ahead_of_own(self, batch: Batch) -> int:
        """How many of its organisation and class go before it, or would; one that has risen is the next of all."""
        org_id, key = batch.connector.org_id, self._key(batch)
        if key[0] < batch.priority_class:
            return 0
        waiting = self._tags.get((key[0], org_id))
        risen = key[0] > AGED_CLASS and org_id in self._aged
        return risen + (0 if waiting is None else waiting.rank(key))

    def _key(self, batch: Batch) -> Key:
        """The key that a batch has, or would have."""
        known = self._entries.get(batch.batch_id)
        if known is not None and known.aged and batch.priority_class > AGED_CLASS:
            return known.key
        return (*self.turn(batch), batch.accepted_at, batch.batch_id)

    # Whose turn it is

    def best(self) -> str | None:
        """The first ready batch in the order of the line."""
        return None if (key := self._ready.first) is None else key[3]

    def neediest(self) -> str | None:
        """The best ready batch of the organisation whose floor is due, if any is."""
        org_id = self._floors.due()
        if org_id is None:
            return None
        key = self._ready_of[org_id].first
        return None if key is None else key[3]

    def started(self, batch: Batch) -> None:
        """A ready batch got its turn: the class's virtual time and the floors move on. It stays in the line until it is
        removed."""
        entry = self._entries[batch.batch_id]
        class_, org_id = entry.key[0], entry.lane.lane_id[0]
        self._virtual[class_] = max(entry.start, self._virtual.get(class_, 0))
        self._finished[class_, org_id] = max(entry.key[1], self._finished.get((class_, org_id), 0))
        self._floors.took(org_id)

    # Who waits, and for what

    def hold(self, batch_id: str, reason: Reason, *, topic: Topic | None = None) -> None:
        """This batch alone cannot start before the reason's ``until``, or before its topic moves."""
        entry = self._entries[batch_id]
        self._forget(entry)
        entry.reason, entry.topic = reason, topic
        entry.lane.keys.remove(entry.key)
        self._remember(entry, reason, () if topic is None else (topic,))
        self._refresh(entry.lane)

    def park(self, batch_id: str, reason: Reason, topics: Iterable[Topic]) -> None:
        """Nothing of this batch's lane can start before the reason's ``until``, or before one of the topics moves."""
        lane = self._entries[batch_id].lane
        self._forget(lane)
        lane.reason, lane.topics = reason, tuple(topics)
        self._remember(lane, reason, lane.topics)
        self._refresh(lane)

    def wake(self, topic: Topic) -> None:
        """A topic has moved: who waited for it is looked at again."""
        for one in list(self._topics.get(topic, ())):
            self._ready_again(one)

    def wake_one(self, batch_id: str) -> None:
        """The same of one batch that is held: thousands that wait for one another need no topic each."""
        if (entry := self._entries.get(batch_id)) is not None:
            self._ready_again(entry)

    def wake_due(self, now: int) -> None:
        """The same for those whose time has come, and the oldest rise."""
        while self._wakes and self._wakes[0][0] <= now:
            _, number, one = heapq.heappop(self._wakes)
            # One that was held again since then has another time.
            if one.wake == number:
                self._ready_again(one)
        while (first := self._ages.first) is not None and first[0] <= now:
            self._raise(first[1])

    def next_wake(self) -> int | None:
        """When somebody who is parked or held has waited long enough (ms). Who has aged rises at the next look."""
        while self._wakes and self._wakes[0][2].wake != self._wakes[0][1]:
            heapq.heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else None

    def parked(self, kind: str) -> list[str]:
        """Names of the topics of a kind that somebody waits for."""
        return [name for known, name in self._topics if known == kind]

    def reason(self, batch_id: str) -> Reason | None:
        """Why a batch was not ready when it was last looked at."""
        entry = self._entries.get(batch_id)
        return None if entry is None else entry.reason or entry.lane.reason

    def rewind(self, started: Iterable[Batch] = ()) -> None:
        """After all rows were put back: virtual times stand where the first waiting batch of each class began, or the
        last of those under way if that was later: who waits may have been kept back for long."""
        for entry in self._entries.values():
            class_ = entry.key[0]
            self._virtual[class_] = min(entry.start, self._virtual.get(class_, entry.start))
        for batch in started:
            if batch.turn is not None:
                class_, finish = batch.turn
                tag = class_, batch.connector.org_id
                self._virtual[class_] = max(finish - self._size(batch), self._virtual.get(class_, 0))
                self._finished[tag] = max(finish, self._finished.get(tag, 0))
                self._last[tag] = max(finish, self._last.get(tag, 0))

    def __iter__(self) -> Iterator[str]:
        """Batch ids, best first, over a copy."""
        return iter([key[3] for key in self._order])

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._entries

    def _weight_of(self, batch: Batch) -> int:
        return self._fairness.weights.get(batch.connector.plan, 1)

    def _size(self, batch: Batch) -> int:
        return max(1, UNIT * self._costs.get(batch.connector.connector_type, 1) // self._weight_of(batch))

    def _next_finish(self, class_: int, batch: Batch) -> int:
        last = self._last.get((class_, batch.connector.org_id), 0)
        return max(self._virtual.get(class_, 0), last) + self._size(batch)

    def _lane(self, batch: Batch) -> Lane:
        lane_id = _lane_id(batch)
        found = self._lanes.get(lane_id)
        if found is None:
            found = self._lanes[lane_id] = Lane(lane_id, self._weight_of(batch), self._size(batch))
        return found

    def _count(self, tag: tuple[int, int], key: Key) -> None:
        self._tags.setdefault(tag, Ranked()).add(key)
        self._last[tag] = max(key[1], self._last.get(tag, 0))

    def _uncount(self, tag: tuple[int, int], key: Key) -> None:
        """When none waits any longer, turns that were never taken are forgotten: who cancels a thousand batches does
        not stand behind them."""
        self._tags[tag].remove(key)
        if not self._tags[tag]:
            del self._tags[tag], self._last[tag]
            if tag in self._finished:
                self._last[tag] = self._finished[tag]

    def _refresh(self, lane: Lane) -> None:
        """Keeps the heads of ready lanes in step."""
        new = None if lane.reason is not None else lane.keys.first
        old, org_id = lane.head, lane.lane_id[0]
        if new == old:
            return
        lane.head = new
        mine = self._ready_of.get(org_id)
        if new is not None:
            self._ready.add(new)
            if mine is None:
                mine = self._ready_of[org_id] = Ranked()
                self._floors.ready(org_id, lane.weight, lane.turn)
            mine.add(new)
        if old is not None and mine is not None:
            self._ready.remove(old)
            mine.remove(old)
            if not mine:
                del self._ready_of[org_id]
                self._floors.idle(org_id)

    def _remember(self, one: Lane | Entry, reason: Reason, topics: Iterable[Topic]) -> None:
        for topic in topics:
            self._topics.setdefault(topic, {})[one] = None
        if reason["until"] is None:
            return
        if len(self._wakes) > 1_000 + 4 * len(self._entries):
            # Who was woken early leaves the later time behind.
            self._wakes = [w for w in self._wakes if w[2].wake == w[1]]
            heapq.heapify(self._wakes)
        self._wake_number += 1
        one.wake = self._wake_number
        heapq.heappush(self._wakes, (reason["until"], self._wake_number, one))

    def _forget(self, one: Lane | Entry) -> None:
        topics = one.topics if isinstance(one, Lane) else () if one.topic is None else (one.topic,)
        for topic in topics:
            waiting = self._topics.get(topic, {})
            waiting.pop(one, None)
            if not waiting:
                self._topics.pop(topic, None)
        one.reason, one.wake = None, 0
        if isinstance(one, Lane):
            one.topics = ()
        else:
            one.topic = None

    def _ready_again(self, one: Lane | Entry) -> None:
        if one.reason is None:
            return
        self._forget(one)
        if isinstance(one, Lane):
            self._refresh(one)
        else:
            one.lane.keys.add(one.key)
            self._refresh(one.lane)

    def _watch(self, org_id: int) -> None:
        """Keeps the time at which an organisation's oldest batch rises; while one that rose waits, no other does."""
        young = self._young.get(org_id)
        oldest = None if young is None or org_id in self._aged else young.first
        new, old = None if oldest is None else oldest[0] + self._fairness.aging_ms, self._rises.pop(org_id, None)
        if old is not None:
            self._ages.remove((old, org_id))
        if new is not None:
            self._rises[org_id] = new
            self._ages.add((new, org_id))

    def _grown(self, org_id: int, accepted_at: int, key: Key) -> None:
        """A batch is no longer one of those that may rise."""
        if (young := self._young.get(org_id)) is not None:
            young.remove((accepted_at, key))
            if not young:
                del self._young[org_id]
        self._watch(org_id)

    def _raise(self, org_id: int) -> None:
        """An organisation's oldest batch rises."""
        oldest = self._young[org_id].first
        if oldest is None:
            return
        batch_id = oldest[1][3]
        entry = self._entries[batch_id]
        lane, tag = entry.lane, (AGED_CLASS, org_id)
        size = entry.key[1] - entry.start
        start = max(self._virtual.get(AGED_CLASS, 0), self._last.get(tag, 0))
        new = (AGED_CLASS, start + size, entry.accepted_at, batch_id)
        self._order.remove(entry.key)
        self._order.add(new)
        lane.keys.remove(entry.key)
        if entry.reason is None:
            lane.keys.add(new)
        self._uncount((entry.key[0], org_id), entry.key)
        self._count(tag, new)
        entry.key, entry.start, entry.aged = new, start, True
        self._aged[org_id] = batch_id
        self._grown(org_id, *oldest)
        self._refresh(lane)


def _lane_id(batch: Batch) -> LaneId:
    facts = batch.connector
    return facts.org_id, facts.account_id, facts.subject, batch.place is not None


def with_turn(line: Line, batch: Batch) -> Batch:
    """The batch with the turn it waits by."""
    turn = line.turn(batch)
    return batch if turn == batch.turn else replace(batch, turn=turn)
