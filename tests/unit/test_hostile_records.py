"""Records that somebody made badly or in spite: none may hold the stream up or end a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from app.domain.commands import parse
from app.domain.messages import Accept
from app.domain.model import UNTYPED_PARTITION, ConnectorFacts
from app.domain.tracing import traceparent_of
from app.storage.postgres.connectors import _facts
from app.streams import internal
from app.streams.codecs import MAX_DEAD_HEADER_BYTES, MAX_DEAD_KEY_BYTES, MAX_DEAD_VALUE_BYTES, dead_letter, dlq_headers
from app.streams.intake_shell import IntakeShell
from app.streams.kafka import MAX_REQUEST_BYTES, Broker, Publisher, Record, RecordTooLarge
from app.streams.topics import Names
from app.streams.wire import Undecodable, encode_json, parse_json
from app.telemetry.metrics import Metrics
from app.testing.planning import CATALOGUE, NOW, REPORT, facts

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEAD = {"request_id": "req_" + "1" * 32, "org_id": 1, "connector_id": facts().connector_id}
FETCH = {**HEAD, "report_type": REPORT, "date_range": {"start": "2026-03-01", "end": "2026-03-02"}}


# what is quadratic where it need not be


def test_a_key_that_comes_twice_is_found_in_one_pass() -> None:
    value = "{" + ",".join(f'"k{n}":1' for n in range(60_000)) + ',"k59999":2}'
    began = time.perf_counter()
    with pytest.raises(Undecodable, match="the key 'k59999' comes twice"):
        parse_json(value.encode())
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "record",
    [
        {**FETCH, "date_range": {f"start{n}": 1 for n in range(40_000)}},
        {**HEAD, "type": "write", "target": "A!A1", "mode": "append", "rows": [[[]] * 50] * 10_000},
    ],
)
def test_when_enough_is_wrong_nothing_more_is_looked_at(record: Mapping[str, Any]) -> None:
    began = time.perf_counter()
    found = parse(record)
    assert isinstance(found, tuple)
    assert len(found) == 50
    assert time.perf_counter() - began < 0.5


# what does not fit on the way to the dead letters


def test_a_dead_letter_is_whole_up_to_what_the_topic_takes() -> None:
    key, value, headers = b"k", b"v" * MAX_DEAD_VALUE_BYTES, [("a", b"x" * 200_000), ("b", None)]
    assert dead_letter(key, value, headers) == (key, value, headers)
    assert dead_letter(None, None, []) == (None, None, [])


def test_of_a_larger_one_it_is_told_what_was_cut() -> None:
    many: list[tuple[str, bytes | None]] = [("small", b"1"), ("large", b"x" * MAX_DEAD_HEADER_BYTES), ("late", b"2")]
    key, value, headers = dead_letter(b"k" * 2**20, b"v" * 2**25, many)
    assert (len(key or b""), len(value or b"")) == (MAX_DEAD_KEY_BYTES, MAX_DEAD_VALUE_BYTES)
    told = [("headers_dropped", b"1"), ("key_truncated", b"true"), ("value_truncated", b"true")]
    assert headers == [("small", b"1"), ("late", b"2"), *told]


def test_the_largest_dead_letter_fits_its_topic_and_the_producers() -> None:
    many: list[tuple[str, bytes | None]] = [("", b"")] * 200_000
    key, value, original = dead_letter(b"k" * 2**20, b"v" * 2**25, many)
    headers = dlq_headers(
        error_code="too_large", error_detail="\U0001f600" * 9_999, topic="t" * 249, partition=7, offset=2**62,
        failed_at=NOW, original=original,
    )  # fmt: skip
    size = len(key or b"") + len(value or b"") + sum(len(n) + len(v) + 10 for n, v in headers) + 1_000
    names = Names()
    limit = int(names.settings()[names.dlq]["max.message.bytes"])
    assert size < limit < MAX_REQUEST_BYTES


async def test_a_record_too_large_is_no_broker_that_is_away() -> None:
    async def send(*_given: Any, **_more: Any) -> None:
        raise MessageSizeTooLargeError("too large")

    publisher = Publisher(Broker("nowhere:1"))
    publisher._producer = SimpleNamespace(send=send)
    with pytest.raises(RecordTooLarge):
        await publisher.send([Record("t", b"")])


# whose trace is taken


@pytest.mark.parametrize("given", [TRACE, TRACE.encode(), "01" + TRACE[2:]])
def test_the_w3c_form_is_taken(given: str | bytes) -> None:
    assert traceparent_of(given) == (given if isinstance(given, str) else given.decode())


@pytest.mark.parametrize(
    "given",
    [
        None, "", "nonsense", TRACE.upper(), TRACE + "\n", TRACE + "-0", "ff" + TRACE[2:], b"\x01" * 200_000,
        b"\xff" * 55, f"00-{'0' * 32}-{TRACE[36:]}", f"{TRACE[:36]}{'0' * 16}-01", TRACE.replace("4", "\u0664"),
    ],
)  # fmt: skip
def test_another_form_is_none(given: str | bytes | None) -> None:
    assert traceparent_of(given) is None


# intake's shell


class Pace:
    async def room(self) -> None:
        """There is."""

    def milestones(self, _out: list[Record]) -> list[Record]:
        return []


async def handled(value: bytes, connector: ConnectorFacts, headers: Any = ()) -> list[Record]:
    """What intake sends for one command record."""
    sent: list[Record] = []

    async def send(records: list[Record]) -> None:
        sent.extend(records)

    async def nothing(_ids: Any) -> Any:
        return {}

    unused: Any = nothing
    shell = IntakeShell(
        names=Names(), publisher=SimpleNamespace(send=send), catalogue=CATALOGUE,  # type: ignore[arg-type]
        replica={connector.connector_id: connector}, find_connector=unused, known_bodies=nothing,
        known_here=lambda _: False, now=lambda: NOW, pace=Pace(), crash=lambda _point: None, metrics=Metrics(),  # type: ignore[arg-type]
    )  # fmt: skip
    record = SimpleNamespace(
        value=value, key=b"k", headers=headers, topic="connector.commands", partition=0, offset=1,
        timestamp=NOW / 1000,
    )  # fmt: skip
    await shell.handle([record])
    return sent


@pytest.mark.parametrize(
    ("given", "kept"), [(TRACE.encode(), TRACE), (b"\x01" * 200_000, None), (b"00-x", None), (None, None)]
)
async def test_a_trace_goes_on_only_in_its_form(given: bytes | None, kept: str | None) -> None:
    (accept,) = await handled(encode_json("FetchCommand", FETCH), facts(), [("traceparent", given)])
    found = internal.load(accept.value or b"")
    assert isinstance(found, Accept)
    assert found.traceparent == kept


async def test_a_value_larger_than_any_command_is_put_aside_cut() -> None:
    (dead,) = await handled(json.dumps({"x": "a" * 2**24}).encode(), facts())
    assert (dead.topic, len(dead.value or b"")) == (Names().dlq, MAX_DEAD_VALUE_BYTES)
    assert dict(dead.headers)["value_truncated"] == b"true"
    assert dict(dead.headers)["error_code"] == b"too_large"


# connectors of another version

STRANGE = [replace(facts(), connector_type="TIKTOK"), replace(facts(), time_zone="Mars/Olympus")]


@pytest.mark.parametrize("connector", STRANGE)
async def test_a_connector_that_is_not_understood_takes_no_command(connector: ConnectorFacts) -> None:
    dead, refusal = await handled(encode_json("FetchCommand", FETCH), connector)
    assert dict(dead.headers)["error_code"] == b"connector_not_ready"
    assert refusal.topic == Names().planner
    write = {**HEAD, "target": "A!A1", "mode": "append", "rows": [["a"]]}
    dead, _ = await handled(encode_json("WriteCommand", write), connector)
    assert dict(dead.headers)["error_code"] == b"connector_not_ready"


async def test_a_cancel_for_an_unknown_type_goes_where_the_untyped_goes() -> None:
    (cancel,) = await handled(encode_json("CancelCommand", HEAD), STRANGE[0])
    assert (cancel.topic, cancel.partition) == (Names().planner, UNTYPED_PARTITION)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "connected"),
        ({"type": "TIKTOK"}, "error"),
        ({"time_zone": "Mars/Olympus"}, "error"),
        ({"time_zone": "Europe"}, "error"),
        ({"status": "from the future"}, "error"),
        ({"grant_id": None}, "error"),
    ],
)
def test_a_stored_row_that_is_not_understood_is_in_error(change: dict[str, Any], status: str) -> None:
    row: Any = {
        "id": _hex(1), "org_id": 1, "type": "DV360", "account_id": "1", "grant_id": _hex(2), "subject": "s",
        "status": "connected", "time_zone": "Europe/Berlin", "currency": None, "plan": "standard", "deleted": False,
        "manager_id": None,
    }  # fmt: skip
    assert _facts(row | change).status == status


def _hex(number: int) -> Any:
    return SimpleNamespace(hex=f"{number:032x}")
