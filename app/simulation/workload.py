"""The commands of a scenario: streams of orders in time, all drawn from the scenario's seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from app.domain.messages import Accept
from app.domain.model import PRIORITY_CLASS, Catalogue, ConnectorFacts
from app.domain.zones import day_of
from app.simulation.scenario import Range, Scenario, Stream
from app.simulation.setup import Org
from app.simulation.timeline import MS


@dataclass(frozen=True, slots=True)
class Order:
    """A command to come: when (ms), of which stream, and what it asks."""

    at: int
    stream: int
    connector: ConnectorFacts
    report_type: str
    start: int
    end: int


def dashboards(
    seed: int | str,
    sets: Sequence[tuple[ConnectorFacts, str]],
    opens_at: int,
    *,
    count: int = 20,
    widgets: int = 4,
    within_s: float = 600.0,
    ranges: Sequence[Range] = (7, 14, 30, "month_to_date"),
    stream: int = 0,
) -> list[Order]:
    """The trace of figure F4 in order of time. ``sets``: (connector, report type) that dashboards draw from. Each of
    ``count`` dashboards is opened at some moment within ``within_s`` and asks for all of its widgets at once; a widget
    draws its data set and its range, which ends today."""
    draw = random.Random(f"{seed}|dashboards")
    orders: list[Order] = []
    for _ in range(count):
        at = opens_at + int(draw.random() * within_s * MS)
        for _ in range(widgets):
            connector, report = draw.choice(sets)
            end = day_of(at, connector.time_zone)
            orders.append(Order(at, stream, connector, report, first_day(draw.choice(ranges), end), end))
    return sorted(orders, key=lambda order: order.at)


def first_day(length: Range, end: int) -> int:
    """The first day of a range that ends at a day."""
    if length == "month_to_date":
        return date.fromordinal(end).replace(day=1).toordinal()
    return end - length + 1


@dataclass(slots=True)
class _Source:
    """One stream of one organisation: draws connector, report and range of each command."""

    number: int
    stream: Stream
    sets: list[tuple[ConnectorFacts, str]]
    retention: dict[str, int]
    draw: random.Random
    walked: dict[tuple[str, str], int] = field(default_factory=dict)
    turn: int = 0

    def order(self, at: int) -> Order:
        """The next command, at a time."""
        stream = self.stream
        if stream.ending == "walk":
            connector, report = self.sets[self.turn % len(self.sets)]
            self.turn += 1
        else:
            connector, report = self.draw.choice(self.sets)
        today = day_of(at, connector.time_zone)
        length = self.draw.choice(stream.ranges)
        end = self._end(today, connector, report)
        start = first_day(length, end)
        oldest = today - self.retention[report]
        if start < oldest:
            start, end = oldest, max(end, oldest)
        if stream.ending == "walk":
            self.walked[connector.connector_id, report] = start - 1 if start > oldest else today - 1
        return Order(at, self.number, connector, report, start, end)

    def _end(self, today: int, connector: ConnectorFacts, report: str) -> int:
        match self.stream.ending:
            case "today":
                return today
            case "yesterday":
                return today - 1
            case "random":
                return today - self.draw.randint(1, self.stream.history)
            case _:
                return self.walked.get((connector.connector_id, report), today - 1)


@dataclass(slots=True)
class Workload:
    """All orders of a scenario. ``begins_at`` ms; ``closed`` streams answer an ended command with the next one."""

    scenario: Scenario
    orgs: Sequence[Org]
    catalogue: Catalogue
    begins_at: int
    sent: int = 0
    _closed: dict[tuple[int, int, str], _Source] = field(default_factory=dict)

    def orders(self) -> Iterator[Order]:
        """Every order that depends on time alone, and the first ones of closed streams, in order of time."""
        parts = [self._stream(number, stream) for number, stream in enumerate(self.scenario.streams)]
        return heapq.merge(*parts, key=lambda order: order.at)

    def next_after(self, stream: int, org_id: int, kind: str, at: int) -> Order | None:
        """What follows an ended command of a closed stream."""
        source = self._closed.get((stream, org_id, kind))
        if source is None or at >= self._until(source.stream):
            return None
        return source.order(at)

    def accept(self, order: Order) -> Accept:
        """The order as intake hands it to the planner."""
        self.sent += 1
        stream = self.scenario.streams[order.stream]
        return Accept(
            request_id=f"req_{self.sent:032x}",
            connector=order.connector,
            report_type=order.report_type,
            start=order.start,
            end=order.end,
            fields=(),
            priority_class=PRIORITY_CLASS[stream.priority],
            accepted_at=order.at,
            body_hash=f"{self.sent:032x}",
            force=stream.force,
        )

    def _until(self, stream: Stream) -> int:
        last = self.scenario.duration if stream.until is None else min(stream.until, self.scenario.duration)
        return self.begins_at + int(last * MS)

    def _stream(self, number: int, stream: Stream) -> Iterator[Order]:
        orgs = [org for org in self.orgs if stream.organisations is None or org.group in stream.organisations]
        begins = self.begins_at + int(stream.at * MS)
        if stream.kind == "dashboards":
            every = [one for org in orgs for one in self._sets(org, stream)]
            return iter(
                dashboards(
                    f"{self.scenario.seed}|{number}", every, begins, count=stream.dashboards, widgets=stream.widgets,
                    within_s=stream.within, ranges=stream.ranges, stream=number,
                )
            )  # fmt: skip
        sources = [source for org in orgs for source in self._sources(number, stream, org) if source.sets]
        parts = [self._of_one(source, begins) for source in sources]
        return heapq.merge(*parts, key=lambda order: order.at)

    def _of_one(self, source: _Source, begins: int) -> Iterator[Order]:
        stream, until = source.stream, self._until(source.stream)
        if stream.kind == "poisson":
            at = float(begins)
            mean_ms = 3_600_000 / (stream.per_hour or 1.0)
            while (at := at + source.draw.expovariate(1.0) * mean_ms) < until:
                yield source.order(int(at))
        elif stream.kind == "bursts":
            for burst in range(stream.times):
                at_ms = begins + int(burst * stream.every * MS)
                for _ in range((stream.size or 0) if at_ms < until else 0):
                    yield source.order(at_ms)
        else:
            facts = source.sets[0][0]
            self._closed[source.number, facts.org_id, facts.connector_type] = source
            for _ in range(stream.depth or 0):
                yield source.order(begins)

    def _sources(self, number: int, stream: Stream, org: Org) -> Iterator[_Source]:
        """One for all of an organisation's data sets; of a closed stream one for each connector type, or those of a
        slow provider would keep the others' from coming."""
        sets = self._sets(org, stream)
        kinds = list(dict.fromkeys(facts.connector_type for facts, _ in sets))
        retention = {name: report.retention_days for kind in kinds for name, report in self.catalogue[kind].items()}
        for part in [[kind] for kind in kinds] if stream.kind == "saturated" else [kinds]:
            mine = [one for one in sets if one[0].connector_type in part]
            draw = random.Random(f"{self.scenario.seed}|{number}|{org.org_id}|{','.join(part)}")
            yield _Source(number, stream, mine, retention, draw)

    def _sets(self, org: Org, stream: Stream) -> list[tuple[ConnectorFacts, str]]:
        """The data sets of an organisation that a stream asks for."""
        kinds = [kind for kind in org.connectors if stream.connectors is None or kind in stream.connectors]
        return [
            (facts, report)
            for kind in kinds
            for facts in org.connectors[kind]
            for report in stream.report_types or self.catalogue[kind]
            if report in self.catalogue[kind]
        ]
