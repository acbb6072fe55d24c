"""Write records through intake's shell, and how large what it makes of them may become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.commands import WriteCommand, parse
from app.domain.identity import body_hash
from app.domain.messages import Accept, Cancel, Refuse, Write
from app.domain.model import INBOX_PARTITION
from app.domain.state import State
from app.domain.writes import MAX_BYTES, MAX_CELLS, rows_of, size_faults, text_of
from app.streams import internal
from app.streams.intake_shell import IntakeShell
from app.streams.kafka import Record
from app.streams.topics import Names
from app.streams.wire import MAX_VALUE_BYTES, decode_command, encode_avro, encode_json
from app.telemetry.metrics import Metrics
from app.testing.planning import NOW, take
from app.testing.writing import TABLE, sheet, sheet_rules

REQUEST = f"req_{NOW:012x}7abc8{1:015x}"
ROWS: list[list[Any]] = [["=1+1", 1, 1.0, True, None], ["\u00e4\n"]]
BODY: dict[str, Any] = {
    "request_id": REQUEST, "org_id": 1, "connector_id": sheet().connector_id, "target": "Leads!A1", "mode": "append",
    "rows": ROWS,
}  # fmt: skip
OWN_RECORD = int(Names().settings()[Names().planner]["max.message.bytes"])
WIDEST = 50_000


def record(value: bytes, offset: int = 5) -> Any:
    """A record as Faust hands it over, appended at ``NOW``."""
    return SimpleNamespace(
        value=value, key=b"k", headers=[], topic="connector.commands", partition=2, offset=offset, timestamp=NOW / 1000
    )


async def handled(*records: Any, writers: frozenset[str] = frozenset({"SHEETS"})) -> list[Record]:
    """What intake sends for these records."""
    sent: list[Record] = []

    async def nothing(*_args: Any) -> Any:
        return None

    async def none_known(_ids: Sequence[str]) -> Mapping[str, str]:
        return {}

    async def send(found: Sequence[Record]) -> None:
        sent.extend(found)

    pace: Any = SimpleNamespace(room=nothing, milestones=lambda _out: [])
    publisher: Any = SimpleNamespace(send=send)
    shell = IntakeShell(
        names=Names(), publisher=publisher, catalogue=TABLE, replica={sheet().connector_id: sheet()},
        find_connector=nothing, known_bodies=none_known, known_here=lambda _id: False, now=lambda: NOW, pace=pace,
        crash=lambda _point: None, metrics=Metrics(), writers=writers,
    )  # fmt: skip
    await shell.handle(records)
    return sent


@pytest.mark.parametrize("encode", [encode_avro, encode_json])
async def test_a_write_goes_to_the_planner_of_its_type(encode: Any) -> None:
    (one,) = await handled(record(encode("WriteCommand", BODY)))
    assert (one.topic, one.partition) == (Names().planner, INBOX_PARTITION["SHEETS"])
    message = internal.load(one.value)
    assert isinstance(message, Accept)
    assert message.source == ("connector.commands", 2, 5)
    assert message.write == Write(REQUEST, "Leads!A1", "append", 2, text_of(ROWS))


async def test_without_a_writer_it_is_a_dead_letter_and_one_refused_event() -> None:
    dead, told = await handled(record(encode_avro("WriteCommand", BODY)), writers=frozenset())
    assert (dead.topic, dict(dead.headers)["error_code"]) == (Names().dlq, b"write_not_supported")
    message = internal.load(told.value)
    assert isinstance(message, Refuse)
    assert (message.kind, message.event.data["refused"], message.request_id) == ("write_failed", True, REQUEST)


async def test_too_many_cells_are_a_dead_letter_that_says_so() -> None:
    wide = BODY | {"rows": [[0] * (MAX_CELLS + 1)]}
    dead, _ = await handled(record(encode_avro("WriteCommand", wide)))
    assert dict(dead.headers)["error_code"] == b"invalid_rows"
    assert b"send several" in dict(dead.headers)["error_detail"]


async def test_a_cancel_names_its_record_in_case_it_comes_too_late() -> None:
    cancel = {name: BODY[name] for name in ("request_id", "org_id", "connector_id")}
    (one,) = await handled(record(encode_json("CancelCommand", cancel)))
    message = internal.load(one.value)
    assert message == Cancel(REQUEST, 1, sheet().connector_id, ("connector.commands", 2, 5))


def largest(cell: Any) -> list[list[Any]]:
    """As many cells like this one as a write may hold, in rows of a hundred."""
    size = len(text_of([[cell]]).encode()) - 3
    cells = min(MAX_CELLS, (MAX_BYTES - 20_000) // size)
    return [[cell] * min(100, cells - at) for at in range(0, cells, 100)]


@pytest.mark.parametrize(
    "cell", ["\"" * (WIDEST // 2), "\\" * WIDEST, "\x01" * WIDEST, "x" * WIDEST, "\u20ac" * WIDEST, "a", 0.5, 1, False],
    ids=["quotes", "backslashes", "control", "plain", "three bytes", "short", "double", "long", "boolean"],
)  # fmt: skip
def test_whatever_is_accepted_fits_into_every_record_it_becomes(cell: Any) -> None:
    rows = largest(cell)
    value = encode_avro("WriteCommand", BODY | {"rows": rows})
    assert len(value) < MAX_VALUE_BYTES - 1_000
    command = parse(decode_command(value))
    assert isinstance(command, WriteCommand)
    assert list(size_faults(command)) == []
    state = State(sheet_rules(), now=NOW)
    write = Write(REQUEST, "Leads!A1", "append", len(rows), text_of(command.rows))
    accept = Accept(REQUEST, sheet(), "", 0, 0, (), 3, NOW, body_hash(command), write=write)
    changes = take(state, accept)
    made = [internal.dump(accept), internal.dump(changes.offers[0]), *map(internal.dump_row, changes.rows.values())]
    assert max(len(one or b"") for one in made) < OWN_RECORD - 10_000
    assert rows_of(changes.offers[0].write.rows if changes.offers[0].write else "") == rows


texts = st.text(st.characters(codec="utf-8"), max_size=8)
cells: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)


def exact(rows: Sequence[Sequence[Any]]) -> list[list[tuple[type, str]]]:
    """Cells with their types: 1, 1.0 and true are three."""
    return [[(type(cell), repr(cell)) for cell in row] for row in rows]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_cell_arrives_as_it_was_sent(rows: list[list[Any]]) -> None:
    for encode in (encode_avro, encode_json):
        command = parse(decode_command(encode("WriteCommand", BODY | {"rows": rows})))
        assert isinstance(command, WriteCommand)
        write = Write(REQUEST, command.target, command.mode, len(rows), text_of(command.rows))
        read = internal.load_row("w/x", internal.dump_row(write) or b"")
        assert exact(rows_of(read.rows)) == exact(rows)


async def test_large_records_go_on_in_portions_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two hundred megabytes of rows would be judged in one go, and nobody else of the worker would move."""
    large = [record(encode_json("WriteCommand", named(n) | {"rows": [["x" * 40_000] * 10]}), n) for n in range(5)]
    small = [record(encode_json("WriteCommand", named(n)), n) for n in range(5, 9)]
    seen: list[list[int]] = []
    forward = IntakeShell._forward

    async def spied(self: IntakeShell, records: Sequence[Any]) -> None:
        seen.append([r.offset for r in records])
        await forward(self, records)

    monkeypatch.setattr(IntakeShell, "_forward", spied)
    sent = await handled(*large, *small)
    assert seen == [[0, 1], [2, 3], [4, 5, 6, 7, 8]]
    assert [internal.load(one.value).source[2] for one in sent] == list(range(9))


def named(number: int) -> dict[str, Any]:
    """The command under an id of its own."""
    return BODY | {"request_id": f"req_{NOW:012x}7abc8{number:015x}"}
