"""The wire for any record and any bytes: what is written is read back, the rest is ``Undecodable`` and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from app.domain.commands import MAX_LABEL_LENGTH, parse
from app.domain.identity import body_hash
from app.domain.messages import Event
from app.streams.avro_schemas import COMMAND_RECORDS, current
from app.streams.codecs import FORMATS, EventCodec, decode_event
from app.streams.wire import Undecodable, decode_command, encode_avro, encode_json

QUICK = settings(max_examples=60, deadline=None)
EVENTS = current()["ConnectorEvent"]

texts = st.text(st.characters(codec="utf-8"), max_size=20)
plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
ids = st.uuids()
# 0001-01-01 to 9999-12-31 in milliseconds
instants = st.integers(-62_135_596_800_000, 253_402_300_799_999)
doubles = st.floats(allow_nan=False, allow_infinity=False)
cells = st.none() | texts | st.integers(-(2**63), 2**63 - 1) | doubles | st.booleans()

heads = {"org_id": st.integers(1, 2**31 - 1), "connector_id": ids.map(lambda i: f"conn_{i.hex}")}
request_ids = ids.map(lambda i: f"req_{i.hex}")
days = st.dates().map(lambda day: day.isoformat())
fetches = st.fixed_dictionaries(
    {**heads, "report_type": st.from_regex(r"\A[a-z][a-z0-9_]{0,20}\Z")},
    optional={
        "request_id": st.none() | request_ids,
        "date_range": st.none() | st.fixed_dictionaries({"start": days, "end": days}),
        "fields": st.lists(plain, max_size=5, unique=True),
        "priority": st.sampled_from(["premium", "normal", "scheduled", "backfill"]),
        "deadline": st.datetimes(timezones=st.timezones()),
        "max_age_s": st.none() | st.integers(0, 10**8),
        "force": st.booleans(),
        "labels": st.dictionaries(plain, st.text("abc", max_size=MAX_LABEL_LENGTH), max_size=3),
    },
)
writes = st.fixed_dictionaries(
    {
        **heads,
        "target": st.just("Leads!A1:B"),
        "mode": st.sampled_from(["append", "update"]),
        "rows": st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4),
    },
    optional={"request_id": request_ids, "priority": st.just("normal")},
)
cancels = st.fixed_dictionaries({**heads, "request_id": request_ids})
commands = st.one_of(
    st.tuples(st.just("FetchCommand"), fetches),
    st.tuples(st.just("WriteCommand"), writes),
    st.tuples(st.just("CancelCommand"), cancels),
)


def registry(_number: int) -> str:
    return EVENTS.text


@QUICK
@given(commands)
def test_any_command_is_the_same_command_in_both_formats(given_command: tuple[str, dict[str, Any]]) -> None:
    name, record = given_command
    avro, text = (parse(decode_command(encode(name, record))) for encode in (encode_avro, encode_json))
    assert not isinstance(avro, tuple), avro
    assert not isinstance(text, tuple), text
    assert avro == text
    assert body_hash(avro) == body_hash(text)


def values_of(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value of an Avro schema, as the domain would give it: instants in ms."""
    if isinstance(schema, list):
        return st.one_of([values_of(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _SCALARS[schema] if schema in _SCALARS else names[schema]
    kind = schema["type"]
    if kind == "record":
        fields = {field["name"]: values_of(field["type"], names) for field in schema["fields"]}
        names[schema["name"]] = st.fixed_dictionaries(fields)
        return st.fixed_dictionaries(fields)
    if kind == "array":
        return st.lists(values_of(schema["items"], names), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, values_of(schema["values"], names), max_size=3)
    return instants if schema.get("logicalType") else values_of(kind, names)


_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": doubles,
    "string": texts,
}


def events() -> st.SearchStrategy[Event]:
    names: dict[str, Any] = {}
    envelope = {field["name"]: field["type"] for field in json.loads(EVENTS.text)["fields"]}
    kinds = {record["name"]: values_of(record, names) for record in envelope.pop("data")}
    common = {name: values_of(kind, names) for name, kind in envelope.items() if name != "type"}
    return st.one_of(
        [
            st.builds(Event, type=st.just(_snake(name)), data=data, traceparent=st.none(), **common)
            for name, data in kinds.items()
        ]
    )


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


@QUICK
@given(events())
def test_any_event_reads_the_same_from_all_three_formats(event: Event) -> None:
    read = []
    for wire_format in FORMATS:
        codec = EventCodec(wire_format, schema_id=1 if wire_format == "confluent" else None)
        read.append(decode_event(codec.encode(event)[1], registry=registry))
    assert read[0] == read[1] == read[2]
    assert read[0]["type"] == event.type
    assert read[0]["data"].keys() == event.data.keys()
    assert read[0]["labels"] == event.labels


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b"\0", *(s.header for s in current().values())]))
@example(b"\xff" * 11, current()["CancelCommand"].header)
def test_no_bytes_raise_anything_else(body: bytes, head: bytes) -> None:
    for decode in (decode_command, decode_event):
        wrong = None
        try:
            decode(head + body, registry=registry)
        except Undecodable as caught:
            wrong = caught
        assert wrong is None or (wrong.code and wrong.detail.isprintable())


@settings(max_examples=400, deadline=None)
@given(commands, st.data())
def test_a_changed_byte_is_refused_or_makes_another_whole_record(
    given_command: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    """Whatever is accepted can be written again: no reading of half a record, no value out of nothing."""
    name, record = given_command
    value = bytearray(encode_avro(name, record))
    place = data.draw(st.integers(10, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    try:
        read = decode_command(bytes(value))
    except Undecodable:
        return
    assume(not _has_nan(read))
    assert read.pop("type") == COMMAND_RECORDS[name]
    again = decode_command(encode_avro(name, read))
    again.pop("type")
    assert again == read


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    if isinstance(value, list):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)


@QUICK
@given(
    st.recursive(
        st.none() | texts | st.integers() | doubles | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    )
)
def test_any_values_in_any_place_are_judged_and_never_raise(value: Any) -> None:
    fields = ("type", "org_id", "report_type", "date_range", "fields", "priority", "deadline", "labels", "rows", "mode")
    for record in ({name: value} for name in fields):
        for kind in COMMAND_RECORDS.values():
            assert parse({"type": kind, "target": value, **record})
