"""Events as Kafka records: key, value in the configured format, CloudEvents 1.0 binary headers; dead-letter headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.domain.messages import Event
from app.streams.avro_schemas import EVENT_RECORD, current, event_records
from app.streams.wire import Undecodable, avro_body, decode_event, instant_text

__all__ = ["FORMATS", "EventCodec", "Undecodable", "dead_letter", "decode_event", "dlq_headers"]

FORMATS = ("avro", "confluent", "json")
SOURCE = b"/connector-service"
MAX_DETAIL_CHARACTERS = 4_000
MAX_DEAD_VALUE_BYTES = 15 * 2**20
MAX_DEAD_KEY_BYTES = MAX_DEAD_HEADER_BYTES = 256 * 2**10
"""Of a dead letter: together, with our own headers, less than the topic takes. Compressed records may be larger."""
_HEADER_BYTES = 10
"""What a header takes beside its name and value, at most."""

Headers = list[tuple[str, bytes]]


class EventCodec:
    """``ports.EventSink``: writes public events.

    ``format`` is ``avro`` (single-object), ``confluent`` or ``json``; ``schema_id`` is the registry's id of
    ``ConnectorEvent``, needed for ``confluent`` alone. Schemas are read once, here.
    """

    def __init__(self, format: str = "avro", *, schema_id: int | None = None) -> None:  # noqa: A002 - the setting's own word
        if format not in FORMATS:
            raise ValueError(f"event format must be one of {', '.join(FORMATS)}")
        if format == "confluent" and (schema_id is None or not 0 <= schema_id < 2**32):
            raise ValueError("the confluent format needs the registry's schema id")
        self.format = format
        self._schema = current()[EVENT_RECORD]
        self._branches = event_records(self._schema)
        self._head = self._schema.header if format == "avro" else b"\0" + (schema_id or 0).to_bytes(4, "big")
        self._fixed: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_source", SOURCE),
            ("ce_dataschema", f"/schemas/{self._schema.fingerprint}".encode()),
            ("content-type", b"application/json" if format == "json" else b"application/avro"),
        ]

    def encode(self, event: Event) -> tuple[bytes | None, bytes, Headers]:
        """(key, value, headers). Raises ``ValueError`` for an event whose data is not exactly its record."""
        key = event.connector_id or event.connector_type
        value = self._json(event) if self.format == "json" else self._head + self._avro(event)
        return (None if key is None else key.encode()), value, self._headers(event, key)

    def _headers(self, event: Event, key: str | None) -> Headers:
        subject = event.request_id or event.connector_id
        headers = [
            *self._fixed,
            ("ce_id", event.event_id.encode()),
            ("ce_type", f"connector.{event.type}".encode()),
            ("ce_time", instant_text(event.occurred_at).encode()),
        ]
        if subject is not None:
            headers.append(("ce_subject", subject.encode()))
        if key is not None:
            headers.append(("ce_partitionkey", key.encode()))
        if event.traceparent is not None:
            headers.append(("traceparent", event.traceparent.encode()))
        return headers

    def _avro(self, event: Event) -> bytes:
        branch, instants = self._branch(event)
        data = dict(event.data)
        for name in instants:
            data[name] = None if data[name] is None else data[name] * 1000
        # A named branch spares fastavro the search through eleven records for one that fits.
        return avro_body(self._schema, _envelope(event, event.occurred_at * 1000, (branch, data)))

    def _json(self, event: Event) -> bytes:
        _, instants = self._branch(event)
        data = dict(event.data)
        for name in instants:
            data[name] = None if data[name] is None else instant_text(data[name])
        return orjson.dumps(_envelope(event, instant_text(event.occurred_at), data))

    def _branch(self, event: Event) -> tuple[str, tuple[str, ...]]:
        known = self._branches.get(event.type)
        if known is None:
            raise ValueError(f"there is no event type {event.type!r}")
        branch, names, instants = known
        if event.data.keys() != names:
            raise ValueError(f"the data of {event.type} differs from its record in {sorted(event.data.keys() ^ names)}")
        return branch, instants


def _envelope(event: Event, occurred_at: Any, data: Any) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "occurred_at": occurred_at,
        "org_id": event.org_id,
        "connector_id": event.connector_id,
        "connector_type": event.connector_type,
        "request_id": event.request_id,
        "labels": event.labels,
        "data": data,
    }


def dead_letter(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> tuple[bytes | None, bytes | None, Headers]:
    """A record's key, value and headers as the dead-letter topic can take them: whole, unless they are larger than any
    command. What was cut is told in ``key_truncated``, ``value_truncated`` and ``headers_dropped`` (how many)."""
    kept: list[tuple[str, Any]] = []
    left = MAX_DEAD_HEADER_BYTES
    for name, content in headers:
        size = len(name.encode()) + len(content or b"") + _HEADER_BYTES
        if size <= left:
            left -= size
            kept.append((name, content))
    if len(kept) < len(headers):
        kept.append(("headers_dropped", str(len(headers) - len(kept)).encode()))
    if key is not None and len(key) > MAX_DEAD_KEY_BYTES:
        key = key[:MAX_DEAD_KEY_BYTES]
        kept.append(("key_truncated", b"true"))
    if value is not None and len(value) > MAX_DEAD_VALUE_BYTES:
        value = value[:MAX_DEAD_VALUE_BYTES]
        kept.append(("value_truncated", b"true"))
    return key, value, kept


def dlq_headers(
    *,
    error_code: str,
    error_detail: str,
    topic: str,
    partition: int,
    offset: int,
    failed_at: int,
    original: Sequence[tuple[str, bytes]] = (),
) -> Headers:
    """Headers of a dead-letter record: the original ones untouched, then why, where from and when (ms, as ISO 8601).

    Ours come last, so that a record that dies again after a replay is read by its newest reason. The detail is cut at
    4,000 characters; key and value of the record stay as they are.
    """
    return [
        *original,
        ("error_code", error_code.encode()),
        ("error_detail", error_detail[:MAX_DETAIL_CHARACTERS].encode("utf-8", "replace")),
        ("source_topic", topic.encode()),
        ("source_partition", str(partition).encode()),
        ("source_offset", str(offset).encode()),
        ("failed_at", instant_text(failed_at).encode()),
    ]
