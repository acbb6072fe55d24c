"""Intake waits for the planner, but never for ever."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.messages import Milestone
from app.domain.model import PARTITIONS
from app.domain.state import State
from app.streams import internal, topology
from app.streams.kafka import Record
from app.streams.pace import AHEAD, EVERY, HEAVY, Pace
from app.testing.planning import NOW, rules, take


def records(count: int, partition: int = 0, topic: str = "inbox") -> list[Record]:
    return [Record(topic, b"{}", None, partition) for _ in range(count)]


def appended(pace: Pace, times: int, partition: int = 0) -> list[Milestone]:
    found = [record for _ in range(times) for record in pace.milestones(records(EVERY, partition))]
    return [internal.load(record.value) for record in found]


def test_a_milestone_follows_only_enough_records_of_one_inbox_partition() -> None:
    pace = Pace("w", "inbox")
    assert not pace.milestones(records(EVERY - 1) + records(EVERY - 1, 1) + records(EVERY, topic="dead letters"))
    (one,) = pace.milestones(records(1, 1))
    assert (one.topic, one.partition) == ("inbox", 1)
    assert internal.load(one.value) == Milestone("w", 1, 1)
    assert not pace.milestones(records(EVERY - 1, 1)), "counting begins anew"


def test_large_records_count_as_many() -> None:
    pace = Pace("w", "inbox")
    heavy = Record("inbox", b"x" * (HEAVY * (EVERY // 2 - 1)), None, 0)
    assert not pace.milestones([heavy])
    assert len(pace.milestones([heavy])) == 1


async def test_intake_waits_for_the_planner_that_is_behind_and_for_no_other() -> None:
    pace = Pace("w", "inbox", patience_s=60)
    *_, last = appended(pace, AHEAD + 1)
    appended(pace, AHEAD, partition=3)
    waiting = asyncio.create_task(pace.room())
    for other in (Milestone("another", 0, 9), Milestone("w", 3, 1)):
        pace.on_reached(other)
        await asyncio.sleep(0.01)
        assert not waiting.done()
    pace.on_reached(Milestone("w", 0, last.number - AHEAD))
    async with asyncio.timeout(1):
        await waiting


async def test_late_news_of_an_older_milestone_changes_nothing() -> None:
    pace = Pace("w", "inbox", patience_s=60)
    *_, last = appended(pace, AHEAD + 2)
    pace.on_reached(last)
    pace.on_reached(Milestone("w", 0, 1))
    async with asyncio.timeout(1):
        await pace.room()


async def test_without_a_planner_intake_goes_on_after_its_patience(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace("w", "inbox", patience_s=0.05)
    appended(pace, AHEAD + 1)
    async with asyncio.timeout(1):
        await pace.room()
        await pace.room()
    assert capsys.readouterr().out.count("intake_goes_on_without_the_planner") == 1


def test_the_planner_sends_a_milestone_back_with_what_came_before_it() -> None:
    state, told = State(rules(), now=NOW), Milestone("w", 0, 7)
    changes = take(state, told)
    assert changes.milestones == [told]
    assert changes, "so that it is committed"
    assert not take(state).milestones


def test_what_faust_reads_at_once_fits_behind_a_stream_that_is_nearly_full() -> None:
    assert PARTITIONS * topology.POLL_RECORDS <= topology.STREAM_BUFFER - topology.STREAM_BUFFER / 1.25
