"""The Avro schemas of the public records: parsed once, known by fingerprint; and a strict check of bytes against one.

A schema is known in its present form (``schemas/avro/*.avsc``) and in every released one (``released/<n>/``), so that
records of older writers stay readable. fastavro accepts bytes that no writer makes (trailing rest, negative index,
over-long number); ``whole`` is run before it and lets only well-formed bytes through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint as rabin
from fastavro.schema import to_parsing_canonical_form

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "avro"
MAGIC = b"\xc3\x01"
COMMAND_RECORDS: Mapping[str, str] = {"FetchCommand": "fetch", "WriteCommand": "write", "CancelCommand": "cancel"}
"""Record of a command -> its ``type`` in JSON."""

EVENT_RECORD = "ConnectorEvent"
ADDRESS_FIELDS = ("request_id", "org_id", "connector_id")
"""What an answer is addressed by; first in every command, so that they can be read of a broken one."""
_CAPITAL = re.compile(r"(?<=[a-z])([A-Z])")

Check = Callable[[bytes, int], int]
"""Steps over one value: buffer and position in, position after it out. Raises ``Malformed``."""


class Malformed(Exception):
    """These bytes are no value of the schema; ``code`` is ``truncated``, ``trailing_bytes`` or ``malformed_avro``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class Schema:
    """One form of one record. ``fingerprint`` is CRC-64-AVRO as hex in wire order; ``parsed`` is fastavro's form,
    ``head`` that of its first fields alone, up to the last that addresses an answer."""

    name: str
    version: int
    fingerprint: str
    text: str
    parsed: Any
    head: Any
    check: Check

    @property
    def header(self) -> bytes:
        """What a single-object record of this schema begins with."""
        return MAGIC + bytes.fromhex(self.fingerprint)


def load(text: str) -> Schema:
    """The schema in one ``.avsc`` text."""
    raw = json.loads(text)
    parsed = fastavro.parse_schema(raw, named_schemas={})
    check = _compile(raw, {}, "")
    return Schema(raw["name"], raw["version"], fingerprint_of(raw), text, parsed, _head(raw), check)


def _head(raw: dict[str, Any]) -> Any:
    ends = [place for place, field in enumerate(raw["fields"], start=1) if field["name"] in ADDRESS_FIELDS]
    short = {**raw, "fields": raw["fields"][: max(ends, default=0)]}
    return fastavro.parse_schema(short, named_schemas={})


def fingerprint_of(raw: Any) -> str:
    """CRC-64-AVRO of a schema's canonical form: 16 hex digits in the order of the bytes on the wire."""
    return str(rabin(to_parsing_canonical_form(fastavro.parse_schema(raw, named_schemas={})), "CRC-64-AVRO"))


@cache
def current() -> Mapping[str, Schema]:
    """Record name -> its present schema."""
    return {schema.name: schema for schema in map(_read, sorted(FOLDER.glob("*.avsc")))}


@cache
def by_fingerprint() -> Mapping[str, Schema]:
    """Fingerprint -> schema, released forms included; the present form wins where a release only differs in words."""
    released = [_read(path) for path in sorted(FOLDER.glob("released/*/*.avsc"))]
    return {schema.fingerprint: schema for schema in (*released, *current().values())}


def event_records(schema: Schema) -> Mapping[str, tuple[str, frozenset[str], tuple[str, ...]]]:
    """Event type -> (full name of its data record, names of the record's fields, those that are instants)."""
    data = next(field for field in json.loads(schema.text)["fields"] if field["name"] == "data")
    namespace = json.loads(schema.text)["namespace"]
    return {
        _CAPITAL.sub(r"_\1", record["name"]).lower(): (
            f"{namespace}.{record['name']}",
            frozenset(field["name"] for field in record["fields"]),
            tuple(field["name"] for field in record["fields"] if "timestamp-micros" in json.dumps(field["type"])),
        )
        for record in data["type"]
    }


def _read(path: Path) -> Schema:
    return load(path.read_text(encoding="utf-8"))


def whole(schema: Schema, data: bytes, start: int) -> None:
    """Raises ``Malformed`` unless ``data[start:]`` is exactly one value of the schema, well formed in every part."""
    end = schema.check(data, start)
    if end != len(data):
        raise Malformed("trailing_bytes", f"{len(data) - end} bytes after the end of the record")


def _compile(schema: Any, names: dict[str, Check], namespace: str) -> Check:
    if isinstance(schema, list):
        return _union([_compile(branch, names, namespace) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema) or names[schema if "." in schema else f"{namespace}.{schema}"]
    kind = schema["type"]
    if kind == "record":
        inside = schema.get("namespace", namespace)
        fields = [_compile(field["type"], names, inside) for field in schema["fields"]]
        names[f"{inside}.{schema['name']}"] = check = _record(fields)
        return check
    if kind == "array":
        return _blocks(_compile(schema["items"], names, namespace))
    if kind == "map":
        return _blocks(_record([_text, _compile(schema["values"], names, namespace)]))
    return _compile(kind, names, namespace)


def _number(bits: int) -> Check:
    longest = (bits + 6) // 7

    def check(data: bytes, at: int) -> int:
        return _varint(data, at, longest, bits)[1]

    return check


def _varint(data: bytes, at: int, longest: int = 10, bits: int = 64) -> tuple[int, int]:
    """A zig-zag number and the position after it; only its shortest spelling is a number."""
    raw = shift = 0
    for end in range(at, min(at + longest, len(data))):
        byte = data[end]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if raw >= 1 << bits or (byte == 0 and end > at):
                break
            return (raw >> 1) ^ -(raw & 1), end + 1
        shift += 7
    else:
        if at + longest > len(data):
            raise _truncated()
    raise Malformed("malformed_avro", f"over-long number at byte {at}")


def _truncated() -> Malformed:
    return Malformed("truncated", "the record ends too early")


def _fixed(size: int) -> Check:
    def check(data: bytes, at: int) -> int:
        if at + size > len(data):
            raise _truncated()
        return at + size

    return check


def _boolean(data: bytes, at: int) -> int:
    if at >= len(data):
        raise _truncated()
    if data[at] > 1:
        raise Malformed("malformed_avro", f"byte {at} is no boolean")
    return at + 1


def _text(data: bytes, at: int) -> int:
    # Short texts are nearly all of a record: one byte of length, told apart here to save a call.
    if at < len(data) and data[at] < 0x80 and not data[at] & 1:
        size, start = data[at] >> 1, at + 1
    else:
        size, start = _varint(data, at)
    if size < 0:
        raise Malformed("malformed_avro", f"negative length at byte {at}")
    if start + size > len(data):
        raise _truncated()
    # Whether it is UTF-8 is left to fastavro, which is strict about that.
    return start + size


def _union(branches: list[Check]) -> Check:
    def check(data: bytes, at: int) -> int:
        index, start = _varint(data, at)
        if not 0 <= index < len(branches):
            raise Malformed("malformed_avro", f"no branch {index} in the union at byte {at}")
        return branches[index](data, start)

    return check


def _record(fields: list[Check]) -> Check:
    def check(data: bytes, at: int) -> int:
        for field in fields:
            at = field(data, at)
        return at

    return check


def _blocks(item: Check) -> Check:
    """Arrays and maps: blocks of (count, items) up to a count of 0; after a negative count comes the block's size."""

    def check(data: bytes, at: int) -> int:
        while True:
            count, at = _varint(data, at)
            if count == 0:
                return at
            size, end = None, at
            if count < 0:
                size, end = _varint(data, at)
                at = end
            # An item takes a byte or more, so a count beyond what is left is wrong before anything is read.
            if abs(count) > len(data) - at:
                raise _truncated()
            for _ in range(abs(count)):
                end = item(data, end)
            if size is not None and size != end - at:
                raise Malformed("malformed_avro", f"the block at byte {at} is not as long as it says")
            at = end

    return check


def _null(_data: bytes, at: int) -> int:
    return at


_PRIMITIVES: Mapping[str, Check] = {
    "null": _null,
    "boolean": _boolean,
    "int": _number(32),
    "long": _number(64),
    "float": _fixed(4),
    "double": _fixed(8),
    "string": _text,
}
