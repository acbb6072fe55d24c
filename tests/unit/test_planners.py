"""Which planners a worker speaks for, and whom it sends others to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.messages import Tick
from app.domain.state import restore
from app.streams import faust_touches
from app.streams.planners import Planners
from app.testing.clock import FakeClock
from app.testing.planning import NOW, quota, rules, take


@pytest.fixture
def planners(monkeypatch: pytest.MonkeyPatch) -> tuple[Planners, Any]:
    """A worker that has just taken DV360's planner over, in generation 3."""
    clock = FakeClock()
    monkeypatch.setattr(faust_touches, "generation", lambda _app: 3)
    names = {0: "http://me:1/abc", 3: "http://you:2/def"}
    monkeypatch.setattr(faust_touches, "owner", lambda _app, _rows, partition: names.get(partition))
    state = restore(rules([quota()]), {}, NOW)
    owner = SimpleNamespace(state=state, ready=True, generation=3, stepped_at=clock.monotonic())
    ownership: Any = SimpleNamespace(owners={0: owner})
    return Planners(None, "rows", "http://me:1/abc", ownership, clock), owner


def test_an_heir_speaks_after_its_first_step(planners: tuple[Planners, Any]) -> None:
    mine, owner = planners
    assert mine.owned("DV360") is None
    take(owner.state, Tick(), at=NOW + 5)
    assert mine.owned("DV360") == (owner.state, NOW + 5)


@pytest.mark.parametrize("change", [{"ready": False}, {"generation": 2}])
def test_nobody_speaks_for_what_may_have_moved(planners: tuple[Planners, Any], change: dict[str, Any]) -> None:
    mine, owner = planners
    take(owner.state, Tick(), at=NOW + 5)
    vars(owner).update(change)
    assert mine.owned("DV360") is None


def test_others_are_sent_to_the_owners_address(planners: tuple[Planners, Any]) -> None:
    mine, _ = planners
    assert mine.owner("DV360") is None
    assert mine.owner("GOOGLE_ADS") == "http://you:2"
    assert mine.owner("NOTHING") is None
    assert mine.owned("NOTHING") is None
