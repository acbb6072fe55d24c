"""Whole lives of writes between failing workers: what arrives at the spreadsheet, and in which order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from app.domain.messages import Ask, Cancel, Offer, StepOutcome, Write
from app.domain.retry import RetryPolicy
from app.testing.planning import NOW, request_id
from app.testing.planning_world import Faults, PlannerWorld, _Step
from app.testing.writing import sheet, sheet_quotas, sheet_rules, write

BOOKS = [sheet(1, account_id="a"), sheet(2, account_id="a", org_id=2), sheet(3, account_id="b")]
BAD_DAY = Faults(
    restart=0.02, drop=0.05, twice=0.1, die=0.1, pause=0.1, mute=0.1, fail=0.15, throttle=0.05, cut=0.1,
    refused_column="",
)  # fmt: skip


@dataclass(slots=True)
class SheetWorld(PlannerWorld):
    """``sheets``: spreadsheet -> requests in the order in which their calls that write were done there."""

    sheets: dict[str, list[str]] = field(default_factory=dict)

    def _calls_of(self, offer: Offer) -> list[tuple[str, bool]]:
        return [("read", False), ("write", False)]

    def _arrives(self, offer: Offer, ask: Ask, took_ms: int) -> None:
        if ask.charge == "write" and offer.write is not None:
            write, book = offer.write, offer.connector.account_id
            self._at(self._random.randint(0, took_ms), lambda: self._lands(self.sheets.setdefault(book, []), write))

    @staticmethod
    def _lands(there: list[str], write: Write) -> None:
        """An append's stamp is taken by then, where it was done already."""
        if write.mode == "update" or write.request_id not in there:
            there.append(write.request_id)

    def _result(self, task: _Step) -> StepOutcome:
        return self._outcome(task, rows_written=1)


def lived(seed: int, faults: Faults) -> SheetWorld:
    """A world in which forty writes came within two minutes, some of which were cancelled."""
    draw = random.Random(seed)
    rules = sheet_rules(sheet_quotas(read=30, write=20, user=15), max_concurrent=4, retry=RetryPolicy(4, 1.0, 30.0))
    world = SheetWorld(rules, seed, faults)
    at = 0
    for number in range(1, 41):
        at += draw.choice([0, 0, 1, 500, 6_000])
        connector = draw.choice(BOOKS)
        class_, mode = draw.choice([1, 2, 3, 5]), draw.choice(["append", "update"])
        world.tell(write(number, connector=connector, mode=mode, priority_class=class_, accepted_at=NOW + at), at)
        if draw.random() < 0.2:
            late = at + draw.randint(0, 20_000)
            world.tell(Cancel(request_id(number), connector.org_id, connector.connector_id), late)
    world.run()
    return world


def runs(names: list[str]) -> list[str]:
    """Without what is repeated at once: the same write, done again."""
    return [name for at, name in enumerate(names) if not at or names[at - 1] != name]


@pytest.mark.parametrize("seed", range(30))
def test_writes_arrive_in_accepted_order_and_end_once(seed: int) -> None:
    world = lived(seed, Faults() if seed < 5 else BAD_DAY)
    ends = world.outcomes()
    assert ends.keys() == {request_id(n) for n in range(1, 41)}
    for book, names in world.sheets.items():
        assert runs(names) == sorted(set(names)), f"seed {seed}: {book} was written to in another order"
    there = {name for names in world.sheets.values() for name in names}
    assert {n for n, end in ends.items() if end == "data_written"} <= there
    assert there.isdisjoint(n for n, end in ends.items() if end == "fetch_cancelled")
    for rule in world.rules.connectors["SHEETS"].quotas:
        assert world.busiest(rule) <= rule.limit, rule.name
    if seed < 5:
        assert "write_failed" not in ends.values()


def test_a_bad_day_is_bad() -> None:
    """Else the test above would prove little: calls are repeated, writes fail, cancels lose and win."""
    worlds = [lived(seed, BAD_DAY) for seed in range(30, 36)]
    ends = {end for world in worlds for end in world.outcomes().values()}
    assert ends == {"data_written", "write_failed", "fetch_cancelled"}
    assert any(len(names) > len(set(names)) for world in worlds for names in world.sheets.values())
