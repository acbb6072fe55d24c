"""Internal records as compact JSON: ``{"k": <class>, "v": {...}}`` for messages, bare objects for rows and views.

Internal topics are nobody else's business, but two versions of the service meet on them during an upgrade: unknown
fields of a newer writer are ignored, missing ones of an older take their defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson

from app.domain import messages
from app.domain.ledger import Entry, LedgerRecord, WindowCount
from app.domain.messages import RequestView
from app.domain.model import ConnectorFacts
from app.domain.state import KINDS

_MESSAGES: Mapping[str, type] = {
    name: getattr(messages, name)
    for name in (
        "Accept", "Refuse", "Cancel", "Ask", "Answer", "Returned", "Heartbeat", "Members", "Tick", "Milestone",
        "StepOutcome", "Offer",
    )
}  # fmt: skip
_LEDGER: Mapping[str, type] = {cls.__name__: cls for cls in (Entry, WindowCount)}
_OPTIONS = orjson.OPT_NON_STR_KEYS


class Unreadable(Exception):
    """Bytes on an internal topic that this version cannot read."""


def dump(message: Any) -> bytes:
    """A message as it travels between planner and workers."""
    return orjson.dumps({"k": type(message).__name__, "v": message}, option=_OPTIONS)


def load(value: bytes | None) -> Any:
    """The message. Raises ``Unreadable``."""
    return _load(_MESSAGES, value)


def load_ledger(value: bytes | None) -> LedgerRecord:
    """A record of ``connector.usage``, written by ``dump``. Raises ``Unreadable``."""
    record: LedgerRecord = _load(_LEDGER, value)
    return record


def _load(classes: Mapping[str, type], value: bytes | None) -> Any:
    try:
        raw = orjson.loads(value or b"")
        return read(classes[raw["k"]], raw["v"])
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreadable(f"{type(exc).__name__} in an internal record") from None


def dump_row(row: Any) -> bytes | None:
    """A planner row or a view; None stays None (a tombstone)."""
    return None if row is None else orjson.dumps(row, option=_OPTIONS)


def load_row(key: str, value: bytes) -> Any:
    """A planner row by its key's prefix."""
    raw = orjson.loads(value)
    kind = key.partition("/")[0]
    if kind == "d":
        return {int(day): count for day, count in raw.items()}
    return read(KINDS[kind], raw) if kind in KINDS else raw


def load_view(value: bytes) -> RequestView:
    """A row of ``connector.requests``."""
    view: RequestView = read(RequestView, orjson.loads(value))
    return view


def heading_of(value: bytes) -> tuple[int, int, str, str]:
    """Of a row of ``connector.requests`` the organisation, when it was accepted (ms), its state and its connector,
    without building the rest."""
    raw = orjson.loads(value)
    return int(raw["org_id"]), int(raw["accepted_at"]), str(raw["state"]), str(raw["connector_id"])


def load_connector(value: bytes) -> ConnectorFacts:
    """A row of ``connector.connectors``."""
    facts: ConnectorFacts = read(ConnectorFacts, orjson.loads(value))
    return facts


def read(cls: type, raw: Mapping[str, Any]) -> Any:
    """Builds a dataclass from plain values, by its annotations. Raises ``TypeError`` for what is no object."""
    if not isinstance(raw, Mapping):
        raise TypeError(f"{cls.__name__} is an object")
    names, converters = _plan(cls)
    values = {k: v for k, v in raw.items() if k in names}
    for name, convert in converters:
        if values.get(name) is not None:
            values[name] = convert(values[name])
    return cls(**values)


@cache
def _plan(cls: type) -> tuple[frozenset[str], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    found = [(name, convert) for name in names if (convert := _converter(hints[name])) is not None]
    return frozenset(names), tuple(found)


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """What turns a JSON value into a field of this type; None: it is one already."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = [a for a in args if a is not type(None)]
        return _converter(inner[0]) if len(inner) == 1 else None
    if origin is tuple:
        return _tuple_of(args)
    if origin is dict and args[0] is int:
        return lambda raw: {int(k): v for k, v in raw.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda raw: read(hint, raw)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return None


def _tuple_of(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    inner = _converter(args[0]) if len(args) == 2 and args[1] is Ellipsis else None
    if inner is None:
        return tuple
    return lambda raw: tuple(inner(item) for item in raw)
