"""What intake asks PostgreSQL, and whose id gets no refused event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.messages import Accept, Refuse
from app.domain.model import UNTYPED_PARTITION
from app.streams import internal
from app.streams.intake_shell import IntakeShell
from app.streams.kafka import Record
from app.streams.topics import Names
from app.streams.wire import encode_json
from app.telemetry.metrics import Metrics
from app.testing.planning import CATALOGUE, NOW, REPORT, facts

MINUTE = 60_000
NAMES = Names()
BODY = {
    "org_id": 1, "connector_id": facts().connector_id, "report_type": REPORT,
    "date_range": {"start": "2026-03-01", "end": "2026-03-02"},
}  # fmt: skip


def uuid7(millis: int, number: int = 0) -> str:
    return f"req_{millis:012x}7abc8{number:015x}"


def record(command: Mapping[str, Any] | bytes, *, offset: int = 0) -> Any:
    """A fetch command as Faust hands it over, appended at ``NOW``."""
    value = command if isinstance(command, bytes) else encode_json("FetchCommand", command)
    return SimpleNamespace(
        value=value, key=b"k", headers=[], topic="connector.commands", partition=0, offset=offset, timestamp=NOW / 1000
    )


class World:
    """Intake with a clock, a history and views that a test fills."""

    def __init__(self) -> None:
        self.now = NOW
        self.history: dict[str, str] = {}
        self.here: set[str] = set()
        self.asked: list[list[str]] = []
        self.sent: list[Record] = []

    async def handle(self, *records: Any) -> list[Record]:
        """What intake sends for these records."""
        self.sent.clear()
        await self._shell().handle(records)
        return list(self.sent)

    def _shell(self) -> IntakeShell:
        async def no_connector(_connector_id: str) -> None:
            return None

        async def room() -> None:
            """There is."""

        pace: Any = SimpleNamespace(room=room, milestones=lambda _out: [])
        publisher: Any = SimpleNamespace(send=self._send)
        return IntakeShell(
            names=NAMES, publisher=publisher, catalogue=CATALOGUE, replica={facts().connector_id: facts()},
            find_connector=no_connector, known_bodies=self._known, known_here=self.here.__contains__,
            now=lambda: self.now, pace=pace, crash=lambda _point: None, metrics=Metrics(),
        )  # fmt: skip

    async def _send(self, records: Sequence[Record]) -> None:
        self.sent += records

    async def _known(self, ids: Sequence[str]) -> Mapping[str, str]:
        self.asked.append(list(ids))
        return {name: self.history[name] for name in ids if name in self.history}


def accepted(sent: Sequence[Record]) -> Accept:
    (one,) = sent
    message = internal.load(one.value or b"")
    assert isinstance(message, Accept)
    return message


# a record read again


@pytest.mark.parametrize("own", [{"request_id": uuid7(NOW)}, {}], ids=["uuid7", "from its place"])
async def test_a_record_read_again_when_its_mark_is_gone_is_no_second_request(own: dict[str, str]) -> None:
    world = World()
    first = accepted(await world.handle(record({**own, **BODY})))
    assert world.asked == []
    world.history[first.request_id] = first.body_hash
    world.now = NOW + 120 * MINUTE
    assert await world.handle(record({**own, **BODY})) == []
    assert world.asked == [[first.request_id]]


@pytest.mark.parametrize(
    ("read", "made", "asks"),
    [
        (50, 0, False),
        (51, 0, True),
        (51, None, True),
        (50, None, False),
        (10, -40, False),
        (10, -41, True),
        (50, 600, False),  # made by a clock that is ahead: it is as old as its record
        (51, 600, True),
        (-600, -50, False),  # read by a clock that is behind: the record's own time counts
        (-600, -51, True),
    ],
)
async def test_who_is_looked_up(read: int, made: int | None, asks: bool) -> None:
    """``read`` and ``made`` in minutes after the record was appended; made None: the id comes from its place."""
    world = World()
    world.now = NOW + read * MINUTE
    own = {} if made is None else {"request_id": uuid7(NOW + made * MINUTE)}
    accepted(await world.handle(record({**own, **BODY})))
    assert bool(world.asked) is asks


async def test_an_id_that_tells_no_time_is_always_looked_up() -> None:
    world = World()
    accepted(await world.handle(record({"request_id": "req_" + "1" * 32, **BODY})))
    assert world.asked == [["req_" + "1" * 32]]


async def test_a_batch_is_one_question() -> None:
    world = World()
    world.now = NOW + 120 * MINUTE
    lost = {"request_id": uuid7(NOW, 1), **BODY, "connector_id": "conn_" + "f" * 32}
    await world.handle(record({"request_id": uuid7(NOW), **BODY}), record(BODY, offset=1), record(lost, offset=2))
    (asked,) = world.asked
    assert len(asked) == 3
    assert {uuid7(NOW), uuid7(NOW, 1)} < set(asked)


# a refused command with the id of an accepted request

STRANGE = [
    {**BODY, "connector_id": "conn_" + "f" * 32},
    {name: value for name, value in BODY.items() if name != "connector_id"},
    {**BODY, "connector_id": 7},
]


def refused(command: Mapping[str, Any], own: str) -> Any:
    return record({"request_id": own, **command})


@pytest.mark.parametrize("command", STRANGE, ids=["unknown", "missing", "unreadable"])
async def test_no_event_refuses_the_id_of_a_request_whose_view_is_here(command: dict[str, Any]) -> None:
    world, own = World(), uuid7(NOW)
    dead, event = await world.handle(refused(command, own))
    assert (dead.topic, event.topic, event.partition) == (NAMES.dlq, NAMES.planner, UNTYPED_PARTITION)
    assert isinstance(internal.load(event.value or b""), Refuse)
    world.here.add(own)
    assert [one.topic for one in await world.handle(refused(command, own))] == [NAMES.dlq]
    assert world.asked == []


@pytest.mark.parametrize("command", STRANGE, ids=["unknown", "missing", "unreadable"])
async def test_nor_that_of_one_that_only_history_knows(command: dict[str, Any]) -> None:
    world, own = World(), uuid7(NOW)
    world.history[own] = "body"
    world.now = NOW + 120 * MINUTE
    assert [one.topic for one in await world.handle(refused(command, own))] == [NAMES.dlq]
    assert world.asked == [[own]]


async def test_nor_does_a_record_that_is_no_json() -> None:
    world, own = World(), uuid7(NOW)
    broken: Any = b'{"type":"fetch","request_id":"%s",' % own.encode()
    assert len(await world.handle(record(broken))) == 2
    world.here.add(own)
    assert [one.topic for one in await world.handle(record(broken))] == [NAMES.dlq]
