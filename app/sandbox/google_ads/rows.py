"""The rows of an answer as JSON text, made one by one, so that a million never stand in memory at once.

Rows have numbers. A number says which day and campaign it is, so an answer can go on from any of them, which is how
pages work. Only an order that does not follow from days and campaign ids makes all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from operator import itemgetter
from typing import Any

import orjson

from app.sandbox.figures import NOTHING, Metrics, MetricsOf, add, metrics_of
from app.sandbox.google_ads.accounts import Customer, clients, customer
from app.sandbox.google_ads.catalogue import FIELDS, METRICS, in_json
from app.sandbox.google_ads.figures import campaign_id
from app.sandbox.google_ads.gaql import Order
from app.sandbox.google_ads.plan import DATE, Plan, Test
from app.sandbox.google_ads.resources import Values, campaign_values, client_values, customer_values, writer

_KEPT = 50_000
"""Campaigns whose JSON is kept from one day to the next."""
_PARTS = ('"impressions":"%d"', '"clicks":"%d"', '"conversions":%.15g', '"costMicros":"%d"')

Shown = tuple[int, int, float, int]
"""A row's metrics as shown, in the order of ``METRICS``."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rows are made from; ``revision`` of a day's ordinal."""

    seed: int
    customer: Customer
    campaigns: int
    revision: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Rows:
    """``at`` a number below ``count`` is a row's JSON, or None where there is no row."""

    count: int
    at: Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class _Entity:
    """What a row is about: the JSON of its resources, opened, and its figures by (day ordinal, revision)."""

    head: str
    read: MetricsOf


EntityAt = Callable[[int], _Entity | None]


def rows_of(plan: Plan, facts: Facts) -> Rows:
    """All rows of the answer in its order, ``limit`` apart."""
    known = customer_values(facts.customer)
    if not _all_hold(plan.tests, "customer", known):
        return Rows(0, _nothing)
    if plan.resource == "customer_client":
        rows = _fixed(list(_clients(plan, facts, known)))
    elif plan.resource == "customer":
        entity = _Entity("{" + writer(plan.select, "customer")(known), partial(_summed, facts))
        rows = _measured(plan, facts, 1, lambda _: entity)
    else:
        rows = _measured(plan, facts, facts.campaigns, _campaigns(plan, facts, known))
    return rows if _direction(plan) is not None else _fixed(_sorted(texts(rows), plan.order))


def texts(rows: Rows, start: int = 0) -> Iterator[str]:
    """The rows from number ``start`` on."""
    at = rows.at
    return (text for number in range(start, rows.count) if (text := at(number)) is not None)


def _nothing(_number: int) -> str | None:
    return None


def _fixed(known: Sequence[str]) -> Rows:
    return Rows(len(known), known.__getitem__)


def _all_hold(tests: tuple[Test, ...], resource: str, values: Values) -> bool:
    return all(test.holds(values[test.field]) for test in tests if FIELDS[test.field].resource == resource)


def _clients(plan: Plan, facts: Facts, known: Values) -> Iterator[str]:
    """The account itself on level 0; on level 1 those it keeps, if it is a manager."""
    client, asked = writer(plan.select, "customer_client"), _customer_part(plan, known)
    kept = clients(facts.customer.customer_id) if facts.customer.manager else ()
    for level, account in [(0, facts.customer), *((1, customer(facts.seed, one)) for one in kept)]:
        values = client_values(facts.customer, account, level)
        if _all_hold(plan.tests, "customer_client", values):
            yield f"{{{client(values)}{asked}}}"


def _customer_part(plan: Plan, known: Values) -> str:
    asked = any(FIELDS[name].resource == "customer" for name in plan.select)
    return "," + writer(plan.select, "customer")(known) if asked else ""


def _campaigns(plan: Plan, facts: Facts, known: Values) -> EntityAt:
    """Campaigns by index, None for those the query leaves out; made when they are met and kept for the next day."""
    write, asked = writer(plan.select, "campaign"), _customer_part(plan, known)
    tests = tuple(test for test in plan.tests if FIELDS[test.field].resource == "campaign")
    customer_id, seed = facts.customer.customer_id, facts.seed
    kept: dict[int, _Entity | None] = {}

    def campaign(index: int) -> _Entity | None:
        if index in kept:
            return kept[index]
        values = campaign_values(customer_id, index)
        found = None
        if all(test.holds(values[test.field]) for test in tests):
            found = _Entity("{" + write(values) + asked, metrics_of(seed, values["campaign.id"]))
        if len(kept) < _KEPT:
            kept[index] = found
        return found

    return campaign


def _summed(facts: Facts, day: int, revision: int) -> Metrics:
    """The figures of all campaigns on one day."""
    total = NOTHING
    for index in range(facts.campaigns):
        total = add(total, metrics_of(facts.seed, campaign_id(facts.customer.customer_id, index))(day, revision))
    return total


@dataclass(frozen=True, slots=True)
class _Direction:
    """How the numbers run: by day and then campaign or the other way round, each up or down."""

    by_day: bool = True
    days_down: bool = False
    entities_down: bool = False


def _direction(plan: Plan) -> _Direction | None:
    """The direction that the order asks for; None when rows must be sorted. Accounts are the same in every row."""
    if plan.resource == "customer_client":
        return None if plan.order else _Direction()
    keys = [one for one in plan.order if FIELDS[one.field].resource != "customer"]
    names = [one.field for one in keys]
    if not {DATE, "campaign.id"}.issuperset(names):
        return None
    down = {one.field: one.descending for one in reversed(keys)}
    by_day = "campaign.id" not in names or names[0] == DATE
    return _Direction(by_day, down.get(DATE, False), down.get("campaign.id", False))


def _measured(plan: Plan, facts: Facts, entities: int, entity_at: EntityAt) -> Rows:
    direction = _direction(plan) or _Direction()
    days = list(_days(plan, facts))
    write, last_day, last = _Metrics(plan), len(days) - 1, entities - 1
    width = entities if direction.by_day else len(days)

    def at(number: int) -> str | None:
        major, minor = divmod(number, width)
        day, index = (major, minor) if direction.by_day else (minor, major)
        index = last - index if direction.entities_down else index
        if (entity := entity_at(index)) is None:
            return None
        ordinals, shown_day = days[last_day - day if direction.days_down else day]
        # Which rows leave zeros out is arbitrary; it only must not change from one answer to the next.
        metrics = write(entity.read, ordinals, (ordinals[0][0] + index) % 2 == 0)
        return None if metrics is None else f"{entity.head}{metrics}{shown_day}"

    return Rows(len(days) * entities, at)


def _days(plan: Plan, facts: Facts) -> Iterator[tuple[list[tuple[int, int]], str]]:
    """Per row of one entity: the (ordinal, revision) pairs that it sums, and the JSON that closes it."""
    ordinals = [(day, facts.revision(day)) for day in range(plan.start.toordinal(), plan.end.toordinal() + 1)]
    if not plan.segmented:
        yield ordinals, "}"
        return
    for pair in ordinals:
        yield [pair], f',"segments":{{"date":"{date.fromordinal(pair[0]).isoformat()}"}}}}'


class _Metrics:
    """Writes the metrics of a row."""

    def __init__(self, plan: Plan) -> None:
        self._places, self._segmented = plan.metrics, plan.segmented
        tested = [test for test in plan.tests if test.field in METRICS]
        self._tests = [(METRICS.index(test.field), test.holds) for test in tested]
        self._needed = bool(plan.metrics or tested or plan.segmented)
        self._parts = [_PARTS[place] for place in plan.metrics]
        self._whole = ',"metrics":{' + ",".join(self._parts) + "}" if plan.metrics else ""
        self._pick = _picker(plan.metrics)

    def __call__(self, read: MetricsOf, ordinals: list[tuple[int, int]], omit_zeros: bool) -> str | None:
        """The JSON of the selected metrics; None where there is no row: a condition does not hold, or a row of a
        segmented answer has nothing but zeros (developers.google.com/google-ads/api/docs/reporting/zero-metrics)."""
        if not self._needed:
            return ""
        figures = read(*ordinals[0]) if len(ordinals) == 1 else _total(read, ordinals)
        shown = (figures[0], figures[1], figures[2] / 100, figures[3])
        values = self._pick(shown)
        if self._segmented and not any(values):
            return None
        for place, holds in self._tests:
            if not holds(shown[place]):
                return None
        if omit_zeros and not all(values):
            return self._without_zeros(values)
        return self._whole % values if self._places else ""

    def _without_zeros(self, values: tuple[float, ...]) -> str:
        kept = [part % value for part, value in zip(self._parts, values, strict=False) if value]
        return ',"metrics":{' + ",".join(kept) + "}" if kept else ""


def _total(read: MetricsOf, ordinals: list[tuple[int, int]]) -> Metrics:
    total = NOTHING
    for day, revision in ordinals:
        total = add(total, read(day, revision))
    return total


def _picker(places: tuple[int, ...]) -> Callable[[Shown], tuple[Any, ...]]:
    """A function that takes the selected metrics out of all; without any, impressions say whether there is a row."""
    if len(places) > 1:
        return itemgetter(*places)
    place = places[0] if places else 0
    return lambda shown: (shown[place],)


def _sorted(found: Iterator[str], order: tuple[Order, ...]) -> list[str]:
    rows = [(orjson.loads(text), text) for text in found]
    for one in reversed(order):
        rows.sort(key=_key(one.field), reverse=one.descending)
    return [text for _, text in rows]


def _key(name: str) -> Callable[[tuple[Any, str]], Any]:
    """The value of a field in a row, 0 where the row leaves it out."""
    resource, _, member = (in_json(part) for part in name.partition("."))
    number = FIELDS[name].kind in ("number", "double")

    def value(row: tuple[Any, str]) -> Any:
        found = row[0].get(resource, {}).get(member, 0)
        return float(found) if FIELDS[name].kind == "double" else int(found) if number else found

    return value
