from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.commands import parse
from app.streams import wire
from app.streams.avro_schemas import Malformed, by_fingerprint, current, load, whole
from app.streams.codecs import dlq_headers
from app.streams.wire import Undecodable, decode_command, decode_event, encode_avro, encode_json

HEX = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
REQUEST, CONNECTOR = f"req_{HEX}", f"conn_{HEX}"
FETCH: dict[str, Any] = {
    "request_id": REQUEST,
    "org_id": 7,
    "connector_id": CONNECTOR,
    "report_type": "campaign_performance",
    "date_range": {"start": "2026-01-01", "end": "2026-01-07"},
    "fields": ["impressions", "clicks"],
    "priority": "normal",
    "deadline": "2026-02-01T00:00:00Z",
    "max_age_s": 60,
    "force": True,
    "labels": {"team": "a"},
}
WRITE: dict[str, Any] = {
    "org_id": 7,
    "connector_id": CONNECTOR,
    "target": "Leads!A1",
    "mode": "append",
    "rows": [["a", 1, 1.5, True, None], ["", -(2**63), 2**63 - 1, False, 0.0]],
}
CANCEL: dict[str, Any] = {"org_id": 7, "connector_id": CONNECTOR, "request_id": REQUEST}
RECORDS = {"FetchCommand": FETCH, "WriteCommand": WRITE, "CancelCommand": CANCEL}
SCHEMA_IDS = dict(enumerate(sorted(current()), start=1))


def registry(number: int) -> str | None:
    return current()[SCHEMA_IDS[number]].text if number in SCHEMA_IDS else None


def confluent(name: str, record: dict[str, Any]) -> bytes:
    number = next(n for n, known in SCHEMA_IDS.items() if known == name)
    return b"\0" + number.to_bytes(4, "big") + encode_avro(name, record)[10:]


def refusal(value: bytes | None, **more: Any) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode_command(value, **more)
    return caught.value


def avro(body: str) -> bytes:
    """A CancelCommand whose body is these hex digits."""
    return current()["CancelCommand"].header + bytes.fromhex(body)


@pytest.mark.parametrize("name", RECORDS)
def test_a_command_is_the_same_in_every_format(name: str) -> None:
    record = RECORDS[name]
    read = [
        parse(decode_command(encode_avro(name, record))),
        parse(decode_command(encode_json(name, record))),
        parse(decode_command(confluent(name, record), registry=registry)),
    ]
    assert not isinstance(read[0], tuple), read[0]
    assert type(read[0]).__name__ == name
    assert read[0] == read[1] == read[2]


def test_json_without_a_type_is_a_fetch() -> None:
    assert parse(decode_command(json.dumps(FETCH).encode())) == parse(
        decode_command(encode_avro("FetchCommand", FETCH))
    )


def test_instants_are_written_from_text_or_datetime_alike() -> None:
    other = FETCH | {"deadline": datetime(2026, 2, 1, tzinfo=UTC)}
    for encode in (encode_avro, encode_json):
        assert parse(decode_command(encode("FetchCommand", other))) == parse(
            decode_command(encode("FetchCommand", FETCH))
        )
    assert b'"deadline":"2026-02-01T00:00:00.000Z"' in encode_json("FetchCommand", other)


def test_json_may_end_with_a_line_break() -> None:
    assert decode_command(json.dumps(CANCEL | {"type": "cancel"}).encode() + b"\r\n")["type"] == "cancel"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty_record"),
        (b"", "empty_record"),
        (b"\xc3", "unknown_format"),
        (b"\xc3\x02" + b"x" * 20, "unknown_format"),
        (b"hello", "unknown_format"),
        (b" {}", "unknown_format"),
        (b"\xef\xbb\xbf{}", "unknown_format"),
        (b"[]", "unknown_format"),
        (b"\0\0\0\0\x01abc", "unknown_format"),
        (b"\xc3\x01", "truncated"),
        (b"\xc3\x01" + b"\0" * 7, "truncated"),
        (b"\xc3\x01" + b"\0" * 8, "unknown_schema"),
        (b"{" + b" " * (1 << 20), "too_large"),
        (b"\xc3\x01" * (1 << 20), "too_large"),
    ],
)
def test_no_record_at_all(value: bytes | None, code: str) -> None:
    assert refusal(value).code == code


def test_a_megabyte_is_not_too_large() -> None:
    padded = json.dumps(CANCEL | {"type": "cancel"}).encode().ljust(1 << 20)
    assert decode_command(padded)["org_id"] == 7


def test_an_event_is_no_command_and_a_command_no_event() -> None:
    event = {"event_id": "e", "type": "circuit_closed", "occurred_at": 0, "data": {"account_id": "a", "open_s": 1.0}}
    value = encode_avro("ConnectorEvent", event)
    assert decode_event(value)["data"] == {"account_id": "a", "open_s": 1.0}
    assert refusal(value).code == "unknown_schema"
    for wrong in (
        encode_avro("CancelCommand", CANCEL),
        encode_json("CancelCommand", CANCEL),
        b'{"type":"circuit_closed"}',
    ):
        with pytest.raises(Undecodable):
            decode_event(wrong)


@pytest.mark.parametrize("length", range(1, 60))
def test_a_record_cut_short_anywhere_is_truncated(length: int) -> None:
    value = encode_avro("CancelCommand", CANCEL)
    assert refusal(value[:-length]).code == "truncated"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("0e 02 61 02 62", None),
        ("0e 02 61 02 62 00", "trailing_bytes"),
        ("8e 00 02 61 02 62", "malformed_avro"),
        ("ff ff ff ff 0f 02 61 02 62", None),
        ("ff ff ff ff 1f 02 61 02 62", "malformed_avro"),
        ("80 80 80 80 80 01 02 61 02 62", "malformed_avro"),
        ("0e 01 61 02 62", "malformed_avro"),
        ("0e 80 80 80 80 80 80 01 61", "truncated"),
        ("0e 02 ff 02 62", "malformed_avro"),
        ("0e 06 ed a0 80 02 62", "malformed_avro"),
        ("0e 04 c0 80 02 62", "malformed_avro"),
        ("", "truncated"),
        ("80", "truncated"),
        ("0e", "truncated"),
    ],
)
def test_numbers_and_texts_have_one_spelling(body: str, code: str | None) -> None:
    value = avro(body)
    if code is None:
        assert decode_command(value)["request_id"] == "b"
    else:
        assert refusal(value).code == code


def test_half_a_megabyte_of_number_is_no_number() -> None:
    assert refusal(avro("ff" * 500_000)).code == "malformed_avro"


def changed(name: str, record: dict[str, Any], old: bytes, new: bytes) -> bytes:
    value = encode_avro(name, record)
    assert value.count(old) == 1, f"{value.count(old)} places"
    return value.replace(old, new)


@pytest.mark.parametrize(("index", "hexes"), [(-1, "01"), (2, "04"), (7, "0e"), (2**30, "8080808008")])
def test_a_branch_outside_the_union_is_refused(index: int, hexes: str) -> None:
    value = encode_avro("FetchCommand", FETCH)
    assert value[10] == 2
    wrong = refusal(value[:10] + bytes.fromhex(hexes) + value[11:])
    assert wrong.code == "malformed_avro"
    assert f"no branch {index} " in wrong.detail


def test_a_boolean_is_nought_or_one() -> None:
    bare = {"org_id": 7, "connector_id": CONNECTOR, "report_type": "t", "force": True}
    value = encode_avro("FetchCommand", bare)
    assert value[-2:] == b"\x01\x00"
    assert refusal(value[:-2] + b"\x02\x00").code == "malformed_avro"


@pytest.mark.parametrize("micros", [1_515_000_000_000_000_000, -(2**63), 2**63 - 1])
def test_an_instant_outside_the_calendar_is_refused(micros: int) -> None:
    wrong = refusal(encode_avro("FetchCommand", FETCH | {"deadline": micros}))
    assert wrong.code == "malformed_avro"


def test_lists_may_come_in_blocks_of_either_kind() -> None:
    """Writers that do not know the length beforehand write blocks with their size; both forms are the format's own."""
    one = b"\x02\x0cclicks"
    plain = encode_avro("FetchCommand", FETCH | {"fields": ["clicks", "clicks"]})
    assert plain.count(b"\x04\x0cclicks\x0cclicks\x00") == 1
    for blocks in (one + one + b"\0", b"\x03\x1c\x0cclicks\x0cclicks\0", b"\x01\x0e\x0cclicks" + one + b"\0"):
        value = plain.replace(b"\x04\x0cclicks\x0cclicks\x00", blocks)
        assert decode_command(value)["fields"] == ["clicks", "clicks"]


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\x03\x1a\x0cclicks\x0cclicks\0", "malformed_avro"),
        (b"\x80\x80\x80\x80\x80\x80\x01\x0cclicks\0", "truncated"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x0cclicks\0", "truncated"),
        (b"\x04\x0cclicks", "malformed_avro"),
    ],
)
def test_a_list_that_lies_about_itself_is_refused(block: bytes, code: str) -> None:
    value = changed("FetchCommand", FETCH | {"fields": ["clicks", "clicks"]}, b"\x04\x0cclicks\x0cclicks\x00", block)
    assert refusal(value).code in {code, "truncated"}


def test_a_label_that_comes_twice_takes_the_later_value_and_harms_nobody() -> None:
    value = changed("FetchCommand", FETCH, b"\x02\x08team\x02a\x00", b"\x04\x08team\x02a\x08team\x02b\x00")
    assert decode_command(value)["labels"] == {"team": "b"}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{}{}",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\n"}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"c":2,"b":3}}',
        b'{"a":[{"b":1,"b":2}]}',
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 200_000,
        b'{"a":1}\0',
        b'{"a":1}//',
    ],
)
def test_json_is_strict(text: bytes) -> None:
    assert refusal(text).code == "malformed_json"


def test_brackets_in_texts_are_no_depth() -> None:
    record = decode_command(b'{"type":"cancel","a":"' + b'[{\\"[' * 50 + b'","b":' + b"[" * 31 + b"]" * 31 + b"}")
    assert record["type"] == "cancel"


def test_many_lists_side_by_side_are_no_depth() -> None:
    assert len(decode_command(b'{"rows":[' + b"[1]," * 99 + b"[1]]}")["rows"]) == 100


def test_a_refusal_quotes_no_value() -> None:
    wrong = refusal(b'{"password":"hunter2","token":"hunter2" "x"}')
    assert "hunter2" not in str(wrong) + repr(wrong)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type":"write","request_id":"{REQUEST}","org_id":7,"connector_id":"{CONNECTOR}","a":NaN}}',
        f'{{"type":"write","request_id":"{REQUEST}","org_id": 7 ,"connector_id" : "{CONNECTOR}","x":1,"x":2}}',
        f'{{"type":"write","request_id":"{REQUEST}","org_id":7,"connector_id":"{CONNECTOR}","rows":[["cut',
    ],
)
def test_a_refused_json_text_can_still_be_addressed(text: str) -> None:
    expected = {"type": "write", "request_id": REQUEST, "org_id": 7, "connector_id": CONNECTOR}
    assert refusal(text.encode()).partial == expected


def test_an_ambiguous_address_is_none() -> None:
    text = f'{{"request_id":"{REQUEST}","request_id":"req_{HEX[::-1]}","connector_id":"not an id","org_id":0}}'
    assert refusal(text.encode()).partial == {}


def test_a_refused_avro_record_can_still_be_addressed() -> None:
    expected = {"type": "fetch", "request_id": REQUEST, "org_id": 7, "connector_id": CONNECTOR}
    value = encode_avro("FetchCommand", FETCH)
    assert refusal(value + b"\0").partial == expected
    assert refusal(value[:-1]).partial == expected
    assert refusal(value[:60]).partial == {"type": "fetch"}
    assert refusal(encode_avro("FetchCommand", FETCH | {"deadline": 2**62})).partial == expected
    assert refusal(value.replace(b"clicks", b"click\xff")).partial == expected
    cancel = encode_avro("CancelCommand", CANCEL)
    assert refusal(cancel + b"\0").partial == expected | {"type": "cancel"}


def test_confluent_framing_needs_a_lookup_and_a_known_schema() -> None:
    value = confluent("CancelCommand", CANCEL)
    assert refusal(value).code == "unknown_format"
    assert refusal(value[:4], registry=registry).code == "truncated"
    assert refusal(b"\0\0\0\0\x63" + value[5:], registry=registry).code == "unknown_schema"
    assert refusal(value + b"\0", registry=registry).code == "trailing_bytes"
    for text in ("", "{", '"string"', '{"type":"record","name":"X","fields":[]}', "[" * 100_000):
        assert refusal(value, registry=lambda _id, text=text: text).code == "unknown_schema"


def test_a_registry_that_is_away_says_nothing_about_the_record() -> None:
    def away(_id: int) -> str | None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        decode_command(confluent("CancelCommand", CANCEL), registry=away)


@pytest.mark.parametrize(
    "record",
    [
        CANCEL | {"extra": 1},
        {"org_id": 7},
        CANCEL | {"org_id": "7"},
        CANCEL | {"connector_id": None},
    ],
)
def test_what_is_no_record_is_not_written(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="CancelCommand"):
        encode_avro("CancelCommand", record)


def test_a_deadline_that_is_none_is_not_written() -> None:
    with pytest.raises(ValueError, match="deadline"):
        encode_avro("FetchCommand", FETCH | {"deadline": "tomorrow"})


def test_an_older_writer_is_read_by_todays_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A released schema without the newest field stays readable; the field has its default then."""
    text = json.loads(current()["FetchCommand"].text)
    text["fields"] = [field for field in text["fields"] if field["name"] != "labels"]
    older = load(json.dumps(text))
    assert older.fingerprint not in by_fingerprint()
    monkeypatch.setattr(wire, "by_fingerprint", lambda: {older.fingerprint: older})
    value = older.header + wire.avro_body(older, {k: v for k, v in FETCH.items() if k not in ("labels", "deadline")})
    assert decode_command(value)["labels"] == {}


def test_the_check_alone_tells_where_it_stopped() -> None:
    schema = load(json.dumps({"type": "record", "name": "R", "version": 1, "namespace": "n", "fields": []}))
    with pytest.raises(Malformed, match="3 bytes after"):
        whole(schema, b"abc", 0)


@pytest.mark.parametrize(
    ("millis", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_770_000_000_001, "2026-02-02T02:40:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_instants_as_text(millis: int, text: str) -> None:
    assert wire.instant_text(millis) == text


def test_parts_of_a_millisecond_are_told_only_where_there_are_some() -> None:
    assert wire.moment_text(datetime(2026, 1, 1, 0, 0, 0, 1001, tzinfo=UTC)) == "2026-01-01T00:00:00.001001Z"
    assert wire.moment_text(datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)) == "2026-01-01T00:00:00.001Z"


def test_schemas_are_served_by_fingerprint() -> None:
    schema = current()["FetchCommand"]
    assert wire.schema_text(schema.fingerprint) == schema.text
    assert wire.schema_text("0" * 16) is None


def test_dead_letter_headers_keep_the_original_ones() -> None:
    headers = dlq_headers(
        error_code="malformed_json",
        error_detail="x" * 5_000 + "\ud800",
        topic="connector.commands",
        partition=3,
        offset=42,
        failed_at=0,
        original=[("a", b"\xff"), ("error_code", b"old"), ("a", b"2")],
    )
    assert headers[:3] == [("a", b"\xff"), ("error_code", b"old"), ("a", b"2")]
    assert headers[3:] == [
        ("error_code", b"malformed_json"),
        ("error_detail", b"x" * 4_000),
        ("source_topic", b"connector.commands"),
        ("source_partition", b"3"),
        ("source_offset", b"42"),
        ("failed_at", b"1970-01-01T00:00:00.000Z"),
    ]
