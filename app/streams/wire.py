"""The three value formats of public records, told apart by their first bytes, and one error for all that can be wrong.

``C3 01`` + fingerprint: Avro single-object. ``00`` + id: Confluent framing, where a registry lookup was given. ``{``:
JSON, plain: unions unwrapped, ``type`` picks the record, instants ISO 8601 with ``Z``. What it asks is not judged.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import fastavro
import orjson

from app.domain.commands import parse_instant, shown
from app.domain.events import EVENT_TYPES
from app.domain.identity import normalise
from app.streams.avro_schemas import (
    COMMAND_RECORDS,
    EVENT_RECORD,
    MAGIC,
    Malformed,
    Schema,
    by_fingerprint,
    current,
    fingerprint_of,
    whole,
)

MAX_VALUE_BYTES = 1 << 20
MAX_DEPTH = 32

SchemaLookup = Callable[[int], str | None]
"""Confluent schema id -> the schema's JSON text, None for an unknown id. What it raises is its own: a
registry that is away says nothing about the record."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTIAL = {"request_id": "req", "connector_id": "conn"}
_LOOSE_TEXT = r'"%s"\s*:\s*"([0-9a-z_-]{1,64})"'
_LOOSE_ORG = re.compile(rb'"org_id"\s*:\s*([0-9]{1,10})\s*[,}]')
_LOOSE: Mapping[str, re.Pattern[bytes]] = {
    "org_id": _LOOSE_ORG,
    **{name: re.compile((_LOOSE_TEXT % name).encode()) for name in ("type", *_PARTIAL)},
}


class Undecodable(Exception):
    """A value that is no record. ``code`` is a stable slug, ``detail`` a sentence without anything secret.

    ``partial`` holds what could still be read and is well formed of type, request_id, org_id and connector_id, so that
    a refusal can be addressed; it is a hint, nothing may be accepted because of it.
    """

    def __init__(self, code: str, detail: str, partial: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.partial = dict(partial or {})


def decode_command(value: bytes | None, *, registry: SchemaLookup | None = None) -> dict[str, Any]:
    """A command record as ``commands.parse`` takes it; ``type`` is filled in for Avro, where the schema tells it.

    Raises ``Undecodable`` and, from decoding, nothing else.
    """
    record, schema = _decode(value, registry)
    if schema is None:
        return record
    if schema.name not in COMMAND_RECORDS:
        raise Undecodable("unknown_schema", f"a {schema.name} is no command")
    return {"type": COMMAND_RECORDS[schema.name], **record}


def decode_event(value: bytes | None, *, registry: SchemaLookup | None = None) -> dict[str, Any]:
    """A ``ConnectorEvent`` in its plain JSON form, the same for every format: instants as text, absent ones None.

    Raises ``Undecodable``.
    """
    record, schema = _decode(value, registry)
    if schema is not None:
        if schema.name != EVENT_RECORD:
            raise Undecodable("unknown_schema", f"a {schema.name} is no event")
        record = _plain(record)
    if record.get("type") not in EVENT_TYPES or not isinstance(record.get("data"), dict):
        raise Undecodable("unknown_record", "this is no event of a known type")
    return record


def _decode(value: bytes | None, registry: SchemaLookup | None) -> tuple[dict[str, Any], Schema | None]:
    if not value:
        raise Undecodable("empty_record", "the record has no value" if value is None else "the record's value is empty")
    if len(value) > MAX_VALUE_BYTES:
        raise Undecodable("too_large", f"{len(value)} bytes, at most {MAX_VALUE_BYTES} are taken")
    if value[:1] == b"{":
        return parse_json(value), None
    if value[:2] == MAGIC:
        return _single_object(value)
    if value[:1] == b"\0" and registry is not None:
        return _confluent(value, registry)
    raise Undecodable("unknown_format", f"no format begins with the bytes {value[:2].hex(' ')}")


def _single_object(value: bytes) -> tuple[dict[str, Any], Schema]:
    if len(value) < 10:
        raise Undecodable("truncated", "the record ends within its header")
    schema = by_fingerprint().get(value[2:10].hex())
    if schema is None:
        raise Undecodable("unknown_schema", f"no schema has the fingerprint {value[2:10].hex()}")
    return _read_avro(value, 10, schema), schema


def _confluent(value: bytes, registry: SchemaLookup) -> tuple[dict[str, Any], Schema]:
    if len(value) < 5:
        raise Undecodable("truncated", "the record ends within its header")
    number = int.from_bytes(value[1:5], "big")
    text = registry(number)
    # Only schemas of this service, by fingerprint: bytes are never read by the rules of a text from elsewhere.
    schema = by_fingerprint().get(_fingerprint(text)) if text is not None else None
    if schema is None:
        raise Undecodable("unknown_schema", f"schema id {number} is none of this service's schemas")
    return _read_avro(value, 5, schema), schema


@lru_cache(maxsize=64)
def _fingerprint(text: str) -> str:
    try:
        return fingerprint_of(json.loads(text))
    except Exception:  # noqa: BLE001 - any text at all may be in a registry
        return ""


def _read_avro(value: bytes, start: int, schema: Schema) -> dict[str, Any]:
    try:
        whole(schema, value, start)
    except Malformed as wrong:
        raise Undecodable(wrong.code, str(wrong), _partial_avro(value, start, schema)) from None
    reader = current()[schema.name]
    stream = io.BytesIO(value)
    stream.seek(start)
    try:
        # Without a reader schema fastavro skips the resolution, which costs as much as the decoding.
        read = None if reader.fingerprint == schema.fingerprint else reader.parsed
        record = fastavro.schemaless_reader(stream, schema.parsed, read)
    except Exception as error:  # noqa: BLE001 - a decoder's errors are of many kinds and none may stop the stream
        # Well-formed bytes may still hold an instant outside the calendar, or be unreadable under today's schema.
        raise Undecodable("malformed_avro", *_unreadable(value, start, schema, error)) from None
    if not isinstance(record, dict):
        raise Undecodable("malformed_avro", "the value is no record")
    return record


def _unreadable(value: bytes, start: int, schema: Schema, error: Exception) -> tuple[str, dict[str, Any]]:
    # The kind alone: the texts of a decoder's errors quote the bytes they stumbled over.
    return f"a value cannot be read ({type(error).__name__})", _partial_avro(value, start, schema)


def _partial_avro(value: bytes, start: int, schema: Schema) -> dict[str, Any]:
    """The addresses of a command that is wrong in some later place; they are its first fields."""
    if schema.name not in COMMAND_RECORDS:
        return {}
    stream = io.BytesIO(value)
    stream.seek(start)
    try:
        record = fastavro.schemaless_reader(stream, schema.head, None)
    except Exception:  # noqa: BLE001 - the bytes are known to be broken, and this is only a try
        record = None
    if not isinstance(record, dict):
        record = {}
    return {"type": COMMAND_RECORDS[schema.name], **addresses(record)}


class _DuplicateError(ValueError):
    pass


def parse_json(value: bytes) -> dict[str, Any]:
    """One JSON object by strict rules: UTF-8 without lone surrogates, no key twice, finite numbers, at most 32 deep.

    Raises ``Undecodable`` with code ``malformed_json``.
    """
    try:
        # orjson is the strict one about text and numbers, json alone shows keys that come twice.
        orjson.loads(value)
        if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth_exceeded(value):
            raise ValueError(f"more than {MAX_DEPTH} levels deep")
        record = json.loads(value, object_pairs_hook=_pairs)
    except _DuplicateError as wrong:
        raise Undecodable("malformed_json", str(wrong), _partial_json(value)) from None
    except (ValueError, RecursionError) as wrong:
        raise Undecodable("malformed_json", _without_document(wrong), _partial_json(value)) from None
    if not isinstance(record, dict):
        raise Undecodable("malformed_json", "the value is no object")
    return record


def _without_document(wrong: Exception) -> str:
    # The text of a JSONDecodeError names place and rule and quotes nothing of the document.
    return f"not strict JSON: {wrong}" if isinstance(wrong, ValueError) else "not strict JSON: too deep"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _DuplicateError(f"not strict JSON: the key {shown(twice)} comes twice")
    return record


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[][{}]")


def _depth_exceeded(value: bytes) -> bool:
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", value)):
        depth += 1 if bracket.group() in b"{[" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _partial_json(value: bytes) -> dict[str, Any]:
    """Addresses in a text that is no JSON; a name that comes with two values addresses nobody."""
    found: dict[str, Any] = {}
    for name, pattern in _LOOSE.items():
        values = set(pattern.findall(value))
        if len(values) == 1:
            text = values.pop().decode()
            found[name] = int(text) if name == "org_id" else text
    return addresses(found)


def addresses(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of type, request_id, org_id and connector_id is there and well formed, ids in their one text form."""
    found: dict[str, Any] = {}
    if record.get("type") in COMMAND_RECORDS.values():
        found["type"] = record["type"]
    org_id = record.get("org_id")
    if isinstance(org_id, int) and not isinstance(org_id, bool) and 1 <= org_id < 2**31:
        found["org_id"] = org_id
    for name, prefix in _PARTIAL.items():
        value = record.get(name)
        canonical = normalise(prefix, value) if isinstance(value, str) else None
        if canonical is not None:
            found[name] = canonical
    return found


def encode_avro(record_name: str, record: Mapping[str, Any]) -> bytes:
    """One record, Avro single-object. Instants: aware datetime, ISO 8601 text or integer microseconds; ``type`` of a
    command is left out, the schema tells it. Raises ``ValueError`` for a missing, unknown or wrong field.
    """
    schema = current()[record_name]
    values = dict(record)
    if record_name in COMMAND_RECORDS:
        values.pop("type", None)
        if isinstance(values.get("deadline"), str):
            values["deadline"] = _micros(values["deadline"])
    return schema.header + avro_body(schema, values)


def avro_body(schema: Schema, values: Mapping[str, Any]) -> bytes:
    """The value alone, without a header. Raises ``ValueError`` for a missing, unknown or wrong field."""
    stream = io.BytesIO()
    try:
        fastavro.schemaless_writer(stream, schema.parsed, values, strict_allow_default=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"no {schema.name}: {error}") from error
    return stream.getvalue()


def encode_json(record_name: str, record: Mapping[str, Any]) -> bytes:
    """One command record as plain JSON; its ``type`` is written first. Instants: aware datetime or ISO 8601 text."""
    named = {"type": COMMAND_RECORDS[record_name], **record}
    return orjson.dumps(named, default=_json_value, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _json_value(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return moment_text(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _micros(text: str) -> int:
    millis = parse_instant(text)
    if millis is None:
        raise ValueError("deadline is no ISO 8601 instant with its zone")
    return millis * 1000


def instant_text(millis: int) -> str:
    """ISO 8601 with ``Z`` and three decimals, of ms since the epoch."""
    return moment_text(_EPOCH + timedelta(milliseconds=millis))


def moment_text(moment: datetime) -> str:
    """ISO 8601 with ``Z``, of an aware datetime; three decimals, six only where they say more."""
    utc = moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds" if utc.microsecond % 1000 else "milliseconds")[:-6] + "Z"


def schema_text(fingerprint: str) -> str | None:
    """The text of the schema with this fingerprint (16 lower-case hex digits), None if it is none of ours."""
    schema = by_fingerprint().get(fingerprint)
    return None if schema is None else schema.text


def _plain(value: Any) -> Any:
    # By exact type: fastavro makes no other, and a receipt may name two hundred requests.
    kind = type(value)
    if kind is dict:
        return {name: _plain(part) for name, part in value.items()}
    if kind is list:
        return value if all(type(part) is str for part in value) else [_plain(part) for part in value]
    return moment_text(value) if kind is datetime else value
