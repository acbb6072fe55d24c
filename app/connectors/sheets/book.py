"""What a spreadsheet says of itself: its sheets, and the stamps that appends have left in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.connectors.failures import bad_response
from app.connectors.sheets import errors
from app.connectors.sheets.quotas import READ
from app.domain.errors import ProviderError
from app.ports import Calls

STAMP_KEY = "connector.append."
"""What the keys of our stamps begin with; a number follows, which grows from append to append."""

_STAMP_KEY = re.compile(rf"{re.escape(STAMP_KEY)}([0-9]{{1,15}})")
_SHEETS = "sheets.properties(sheetId,title,sheetType)"
_STAMPS = "developerMetadata(metadataId,metadataKey,metadataValue)"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Developer metadata that an append has made: ``number`` tells its place among all."""

    metadata_id: int
    number: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Book:
    """``sheets``: title -> sheetId, in order, of those that have cells. ``stamps`` by number."""

    sheets: Mapping[str, int]
    stamps: tuple[Stamp, ...]


async def read(calls: Calls, url: str, *, stamps: bool = False) -> Book:
    """One call, without any cell. Raises ``ProviderError``."""
    fields = f"{_SHEETS},{_STAMPS}" if stamps else _SHEETS
    answer = await calls.request("GET", url, charge=READ, params={"fields": fields})
    if answer.status != 200:
        raise errors.refusal("metadata", answer.status, answer.headers, answer.body)
    content = content_of(answer.body)
    found = {}
    for entry in _objects(content, "sheets"):
        properties = entry.get("properties")
        if not isinstance(properties, dict):
            raise _unreadable()
        if properties.get("sheetType", "GRID") == "GRID":
            # A number of zero may be left out (proto3 JSON).
            found[_text(properties, "title")] = _number(properties, "sheetId", default=0)
    return Book(found, _stamps(content))


def content_of(body: bytes) -> dict[str, Any]:
    """The object that an answer is. Raises ``ProviderError`` unreadable_answer."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise _unreadable()
    return content


def _stamps(content: Mapping[str, Any]) -> tuple[Stamp, ...]:
    """Those of ours; others' may look like anything."""
    found = []
    for entry in _objects(content, "developerMetadata"):
        match = _STAMP_KEY.fullmatch(str(entry.get("metadataKey")))
        value = entry.get("metadataValue")
        if match and isinstance(value, str):
            found.append(Stamp(_number(entry, "metadataId"), int(match[1]), value))
    return tuple(sorted(found, key=lambda stamp: (stamp.number, stamp.metadata_id)))


def _objects(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = content.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unreadable()
    return entries


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise _unreadable()
    return value


def _number(entry: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = entry.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unreadable()
    return value


def _unreadable() -> ProviderError:
    return bad_response("unreadable_answer", "what the spreadsheet says of itself is not what it should be")
