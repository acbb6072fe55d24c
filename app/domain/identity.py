"""Ids: their one text form, and those that are computed so that a replay makes the same one.

Text form: ``conn_``, ``req_``, ``bat_``, ``evt_``, ``grant_`` + the 32 lower-case hex digits of the UUID.
Computed ids are UUIDv5 in the product's own namespace; the name is the parts joined by ``|``.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAMESPACE = uuid.UUID("37b22694-c4bb-4a5f-8bb6-aa29623407a0")
"""The product's namespace of UUIDv5. It never changes: every computed id would."""

PREFIXES = ("conn", "req", "bat", "evt", "grant")

_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BARE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def uuid5(*parts: str | int) -> uuid.UUID:
    """The product's UUIDv5 of the parts joined by ``|``."""
    return uuid.uuid5(NAMESPACE, "|".join(str(part) for part in parts))


def text_id(prefix: str, value: uuid.UUID) -> str:
    """The text form of an id: ``req_`` + 32 hex digits for prefix ``req``."""
    return f"{prefix}_{value.hex}"


def normalise(prefix: str, text: str) -> str | None:
    """The one text form of an id given as ``<prefix>_`` + 32 lower-case hex digits or as a bare lower-case UUID.

    None for anything else: two spellings of one id would be two keys, and so two partitions and two answers.
    """
    if text.startswith(f"{prefix}_") and _HEX.fullmatch(text, len(prefix) + 1):
        return text
    if _BARE.fullmatch(text):
        return f"{prefix}_{text.replace('-', '')}"
    return None


def terminal_event_id(connector_id: str, request_id: str) -> str:
    """Id of the one terminal event of a request."""
    return text_id("evt", uuid5("terminal", connector_id, request_id))


def refused_event_id(request_id: str, value: bytes) -> str:
    """Id of the event that refuses the command record with these bytes; another record has another one."""
    return text_id("evt", uuid5("refused", request_id, hashlib.sha256(value).hexdigest()))


def dataset_event_id(org_id: int, connector_id: str, report_type: str, version: int) -> str:
    """Id of ``dataset_updated`` for one version of one data set."""
    return text_id("evt", uuid5(org_id, connector_id, report_type, version))


def command_request_id(topic: str, partition: int, offset: int, append_ms: int) -> str:
    """Request id of a command without one: its place on the topic, with LogAppendTime against a topic made anew."""
    return text_id("req", uuid5(topic, partition, offset, append_ms))


def idempotent_request_id(org_id: int, key: str) -> str:
    """Request id of a command sent with an Idempotency-Key."""
    return text_id("req", uuid5(org_id, key))


def uuid7_millis(text: str) -> int | None:
    """The instant (ms) inside a UUIDv7 given in any form of ``normalise`` with any prefix; None: no UUIDv7."""
    digits = text.rpartition("_")[2].replace("-", "")
    if not _HEX.fullmatch(digits) or digits[12] != "7" or digits[16] not in "89ab":
        return None
    return int(digits[:12], 16)


def body_hash(command: DataclassInstance) -> str:
    """32 hex digits over all that a command asks, its request_id apart: the same in every wire format."""
    parts = {f.name: getattr(command, f.name) for f in fields(command) if f.name != "request_id"}
    text = json.dumps([type(command).__name__, parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
