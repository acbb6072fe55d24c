"""The desk: what it asks the planner, and what it tells of calls that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from app.domain.errors import PermitDenied
from app.domain.messages import Answer, Ask, Offer, Returned, Told, Usage
from app.ports import Ended
from app.streams import internal
from app.streams.kafka import Record
from app.streams.permits import PermitDesk
from app.testing.planning import facts


class Clock:
    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 100.0


class Planner:
    """Takes the desk's records and answers each ask as told."""

    def __init__(self, denied: str | None = None, *told: int | None) -> None:
        self.denied, self.told = denied, told
        self.messages: list[tuple[int | None, Any]] = []
        self.desk = PermitDesk(self, "inbox", "w", Clock(), 10.0, lambda: 0)  # type: ignore[arg-type]

    async def send(self, records: Iterable[Record]) -> list[Any]:
        for record in records:
            message = internal.load(record.value)
            self.messages.append((record.partition, message))
            if isinstance(message, Ask):
                self.desk.on_answer(Answer(message.ask_id, "w", self.denied, *self.told))
        return []


OFFER = Offer("bat_1", 3, 2, "start", 1, facts(), "campaign_performance", 1, 2, (), 3)


async def test_a_steps_ask_names_its_lease() -> None:
    planner = Planner()
    permit = await planner.desk.of(OFFER).take("reports", data=True)
    ((partition, ask),) = planner.messages
    assert (partition, permit.usable_until) == (0, 110.0)
    assert ask == Ask(permit.ask_id, "w", "bat_1", 3, 2, "reports", data=True)


async def test_a_call_without_a_fetch_says_whose_it_is_and_goes_to_its_types_planner() -> None:
    planner = Planner()
    who = facts(connector_type="GOOGLE_ADS", connector_id="", account_id="")
    permit = await planner.desk.without_fetch(who).take("operations")
    assert planner.messages == [(3, Ask(permit.ask_id, "w", None, 0, 0, "operations", connector=who))]


@pytest.mark.parametrize(("told", "wait_s"), [((35_000, 5_000), 5.0), ((35_000, None), 35.0), ((-9, -9), 0.2)])
async def test_without_room_it_is_told_when_to_ask_again(told: tuple[int | None, ...], wait_s: float) -> None:
    """By the planner's reckoning: this worker's clock is half a minute behind the broker's."""
    with pytest.raises(PermitDenied) as caught:
        await Planner("quota", *told).desk.without_fetch(facts()).take("entities")
    assert (caught.value.reason, caught.value.retry_in_s) == ("quota", wait_s)


async def test_returns_are_told_together_with_what_their_headers_said() -> None:
    planner = Planner()
    permits = planner.desk.of(OFFER)
    one, two, three = [await permits.take("reports") for _ in range(3)]
    usage = Usage("per_hour", percent=9.67)
    permits.give_back(one, Ended(40, ok=True, usage=(usage,)))
    permits.give_back(two)
    permits.give_back(three, Ended(50, ok=False))
    await asyncio.sleep(0.05)
    assert planner.messages[3:] == [
        (
            0,
            Returned(
                (one.ask_id, two.ask_id, three.ask_id),
                ((one.ask_id, 40, 1), (three.ask_id, 50, 0)),
                (one.ask_id, three.ask_id),
                usage=(Told(one.ask_id, usage),),
            ),
        )
    ]


def test_records_of_an_older_version_are_read() -> None:
    assert internal.load(b'{"k":"Returned","v":{"ask_ids":["a"],"ends":[["a",5,1]]}}') == Returned(
        ("a",), (("a", 5, 1),)
    )
    old = b'{"k":"Ask","v":{"ask_id":"a","worker":"w","batch_id":"b","epoch":1,"step_no":0,"charge":"reports"}}'
    assert internal.load(old) == Ask("a", "w", "b", 1, 0, "reports")


class SlowPlanner(Planner):
    """Whose broker takes a while for what comes back."""

    async def send(self, records: Iterable[Record]) -> list[Any]:
        told = list(records)
        if any(isinstance(internal.load(record.value), Returned) for record in told):
            await asyncio.sleep(0.1)
        return await super().send(told)


async def test_what_comes_back_while_others_are_being_told_is_told_too() -> None:
    """Else it would wait for the next that comes back, and there is none while all wait for this one."""
    planner = SlowPlanner()
    permits = planner.desk.of(OFFER)
    one, two = [await permits.take("write") for _ in range(2)]
    permits.give_back(one)
    await asyncio.sleep(0.08)
    permits.give_back(two)
    await asyncio.sleep(0.4)
    assert [message.ask_ids for _, message in planner.messages[2:]] == [(one.ask_id,), (two.ask_id,)]
