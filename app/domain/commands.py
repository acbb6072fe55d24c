"""Commands, and how a decoded record becomes one: every value is checked again here, whatever format it came in.

A decoder proves only that bytes fit a schema. ``parse`` finds everything that is wrong at once, each fault with a JSON
pointer; what needs a connector or a date of today to judge is left to ``intake``.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from app.domain.errors import Fault
from app.domain.identity import normalise
from app.domain.model import Priority

MAX_FIELDS = 100
MAX_FIELD_LENGTH = 200
MAX_LABELS = 16
MAX_LABEL_KEY_LENGTH = 64
MAX_LABEL_LENGTH = 256
MAX_CELL_LENGTH = 50_000
MAX_ROWS = 10_000
MAX_AGE_S = 10 * 366 * 86_400
MAX_FAULTS = 50

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class FetchCommand:
    """Asks for a report. ``start`` and ``end`` are day ordinals (None: a Sheets table), ``deadline_at`` ms since the
    epoch; empty ``fields`` means the standard columns; ``request_id`` None: the record's place on the topic makes one.
    """

    request_id: str | None
    org_id: int
    connector_id: str
    report_type: str
    start: int | None = None
    end: int | None = None
    fields: tuple[str, ...] = ()
    priority: str = Priority.SCHEDULED.value
    deadline_at: int | None = None
    max_age_s: int | None = None
    force: bool = False
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteCommand:
    """Asks for rows to be written at ``target`` (``Sheet!A1``); ``mode`` is ``append`` or ``update``."""

    request_id: str | None
    org_id: int
    connector_id: str
    target: str
    mode: str
    rows: tuple[tuple[Cell, ...], ...]
    priority: str = Priority.SCHEDULED.value


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """Withdraws a request, which may not have arrived yet."""

    request_id: str
    org_id: int
    connector_id: str


Command = FetchCommand | WriteCommand | CancelCommand

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_YEAR = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND  # an offset may lead out of the calendar
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_REPORT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}(@v[0-9]{1,3})?", re.ASCII)
_TARGET = re.compile(
    r"[^!\x00-\x1f][^\x00-\x1f]{0,199}![A-Za-z]{1,3}[1-9]\d{0,7}(:[A-Za-z]{1,3}([1-9]\d{0,7})?)?", re.ASCII
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse_day(text: object) -> int | None:
    """Ordinal of a real date written ``YYYY-MM-DD``, else None."""
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        return None


def parse_instant(value: object) -> int | None:
    """Milliseconds since the epoch of an aware datetime or an ISO 8601 text with zone, else None; finer parts go."""
    if isinstance(value, str):
        if not _INSTANT.fullmatch(value):
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return (value - _EPOCH) // _MILLISECOND


def shown(text: object) -> str:
    """A short quotation of an outsider's text that can hold no control or direction characters."""
    quoted = ascii(str(text)[:60])
    return quoted if len(str(text)) <= 60 else f"{quoted}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name most like this one, or nothing."""
    close = difflib.get_close_matches(name[:MAX_FIELD_LENGTH], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _clean(name: object) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(name)[:100])


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) to a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


class _Reader:
    """Takes values out of one record and collects what is wrong with them; a faulty value reads as a stand-in."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.faults: list[Fault] = []

    def fault(self, code: str, where: str, detail: str) -> None:
        if not self.full:
            self.faults.append(Fault(code, where, detail))

    @property
    def full(self) -> bool:
        """Whether enough is known to be wrong: a megabyte of wrong cells must not become as many sentences."""
        return len(self.faults) >= MAX_FAULTS

    def get(self, name: str, *, required: bool) -> Any:
        """The value; None and absent are the same thing, because a null of Avro is an absent key of JSON."""
        value = self.record.get(name)
        if value is not None:
            return value
        if required:
            self.fault("missing_field", pointer(name), f"{name} is required")
        return None

    def only(self, known: Sequence[str]) -> None:
        for name in self.record:
            if name not in known and not self.full:
                place = pointer(_clean(name))
                self.fault("unknown_field", place, f"there is no field {shown(name)}{nearest(name, known)}")

    def id(self, prefix: str, name: str, *, required: bool = True) -> str | None:
        value = self.get(name, required=required)
        if value is None:
            return None
        canonical = normalise(prefix, value) if isinstance(value, str) else None
        if canonical is None:
            wanted = f"{name} must be {prefix}_ and 32 lower-case hex digits, or a lower-case UUID"
            self.fault("invalid_id", pointer(name), wanted)
        return canonical

    def organisation(self) -> int:
        value = self.get("org_id", required=True)
        if value is None:
            return 0
        if not _is_integer(value) or not 1 <= value < 2**31:
            self.fault("invalid_value", "/org_id", "org_id must be an integer from 1 to 2147483647")
            return 0
        return int(value)

    def choice(self, name: str, allowed: Sequence[str], default: str | None, code: str) -> str:
        value = self.get(name, required=default is None)
        if value is None:
            return default or ""
        if not isinstance(value, str) or value not in allowed:
            self.fault(code, pointer(name), f"{name} must be one of {', '.join(allowed)}, not {shown(value)}")
            return allowed[0]
        return value

    def matching(self, name: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = self.get(name, required=True)
        if value is None:
            return ""
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fault("invalid_value", pointer(name), f"{name} must be {wanted}")
            return ""
        return value

    def priority(self) -> str:
        return self.choice("priority", [p.value for p in Priority], Priority.SCHEDULED.value, "invalid_priority")

    def flag(self, name: str) -> bool:
        value = self.get(name, required=False)
        if value is not None and not isinstance(value, bool):
            self.fault("invalid_value", pointer(name), f"{name} must be true or false")
        return value is True


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object, longest: int, *, empty: bool = False) -> bool:
    return isinstance(value, str) and (empty or value != "") and len(value) <= longest and not _CONTROL.search(value)


def _range(reader: _Reader) -> tuple[int | None, int | None]:
    value = reader.get("date_range", required=False)
    if value is None:
        return None, None
    if not isinstance(value, Mapping):
        reader.fault("invalid_date_range", "/date_range", "date_range must hold start and end")
        return None, None
    for name in value:
        if name not in ("start", "end") and not reader.full:
            detail = f"date_range has no field {shown(name)}{nearest(name, ('start', 'end'))}"
            reader.fault("unknown_field", pointer("date_range", _clean(name)), detail)
    return _day(reader, value, "start"), _day(reader, value, "end")


def _day(reader: _Reader, value: Mapping[str, Any], name: str) -> int | None:
    day = parse_day(value.get(name))
    if day is None:
        reader.fault("invalid_date_range", pointer("date_range", name), f"{name} must be a real date, YYYY-MM-DD")
    return day


def _field_names(reader: _Reader) -> tuple[str, ...]:
    value = reader.get("fields", required=False)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        reader.fault("invalid_value", "/fields", "fields must be a list of names")
        return ()
    if len(value) > MAX_FIELDS:
        reader.fault("invalid_fields", "/fields", f"at most {MAX_FIELDS} fields, not {len(value)}")
        return ()
    seen: set[str] = set()
    for place, name in enumerate(value):
        if not _is_text(name, MAX_FIELD_LENGTH):
            wanted = f"a field is a name of 1 to {MAX_FIELD_LENGTH} characters"
            reader.fault("invalid_fields", pointer("fields", place), wanted)
        elif name in seen:
            reader.fault("invalid_fields", pointer("fields", place), f"{shown(name)} is asked for twice")
        else:
            seen.add(name)
    return tuple(name for name in value if isinstance(name, str))


def _deadline(reader: _Reader) -> int | None:
    value = reader.get("deadline", required=False)
    instant = parse_instant(value)
    if value is not None and (instant is None or instant >= _LAST_YEAR):
        wanted = "deadline must be an ISO 8601 instant with its zone, before the year 9999"
        reader.fault("invalid_value", "/deadline", wanted)
    return instant


def _max_age(reader: _Reader) -> int | None:
    value = reader.get("max_age_s", required=False)
    if value is None:
        return None
    if not _is_integer(value) or not 0 <= value <= MAX_AGE_S:
        reader.fault("invalid_value", "/max_age_s", f"max_age_s must be an integer from 0 to {MAX_AGE_S}")
        return None
    return int(value)


def _labels(reader: _Reader) -> dict[str, str]:
    value = reader.get("labels", required=False)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reader.fault("invalid_labels", "/labels", "labels must map names to text")
        return {}
    if len(value) > MAX_LABELS:
        reader.fault("invalid_labels", "/labels", f"at most {MAX_LABELS} labels, not {len(value)}")
        return {}
    for name, text in value.items():
        if not _is_text(name, MAX_LABEL_KEY_LENGTH) or not _is_text(text, MAX_LABEL_LENGTH, empty=True):
            place = pointer("labels", _clean(name))
            limits = f"{MAX_LABEL_KEY_LENGTH} and {MAX_LABEL_LENGTH} characters, none of them a control character"
            reader.fault("invalid_labels", place, f"a label is a name and a text of at most {limits}")
    return {str(name): str(text) for name, text in value.items()}


def _rows(reader: _Reader) -> tuple[tuple[Cell, ...], ...]:
    value = reader.get("rows", required=True)
    if value is None:
        return ()
    if not _is_list(value) or not 1 <= len(value) <= MAX_ROWS:
        reader.fault("invalid_rows", "/rows", f"rows must be a list of 1 to {MAX_ROWS} rows")
        return ()
    for number, row in enumerate(value):
        if reader.full:
            return ()
        if not _is_list(row) or not row:
            reader.fault("invalid_rows", pointer("rows", number), "a row is a list of at least one cell")
            continue
        for column, cell in enumerate(row):
            if not _is_cell(cell) and not reader.full:
                wanted = f"a cell is null, text of at most {MAX_CELL_LENGTH} characters, a finite number, true or false"
                reader.fault("invalid_rows", pointer("rows", number, column), wanted)
    return tuple(tuple(row) if _is_list(row) else () for row in value)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_cell(cell: object) -> bool:
    if isinstance(cell, str):
        return len(cell) <= MAX_CELL_LENGTH
    if isinstance(cell, float):
        return math.isfinite(cell)
    return cell is None or isinstance(cell, bool) or (isinstance(cell, int) and -(2**63) <= cell < 2**63)


def _fetch(reader: _Reader) -> FetchCommand:
    reader.only(FETCH_FIELDS)
    start, end = _range(reader)
    return FetchCommand(
        request_id=reader.id("req", "request_id", required=False),
        org_id=reader.organisation(),
        connector_id=reader.id("conn", "connector_id") or "",
        report_type=reader.matching(
            "report_type", _REPORT_TYPE, "the name of a report, for example campaign_performance"
        ),
        start=start,
        end=end,
        fields=_field_names(reader),
        priority=reader.priority(),
        deadline_at=_deadline(reader),
        max_age_s=_max_age(reader),
        force=reader.flag("force"),
        labels=_labels(reader),
    )


def _write(reader: _Reader) -> WriteCommand:
    reader.only(WRITE_FIELDS)
    return WriteCommand(
        request_id=reader.id("req", "request_id", required=False),
        org_id=reader.organisation(),
        connector_id=reader.id("conn", "connector_id") or "",
        target=reader.matching("target", _TARGET, "a sheet and a cell, for example Sheet1!A1"),
        mode=reader.choice("mode", ("append", "update"), None, "invalid_value"),
        rows=_rows(reader),
        priority=reader.priority(),
    )


def _cancel(reader: _Reader) -> CancelCommand:
    reader.only(CANCEL_FIELDS)
    return CancelCommand(
        request_id=reader.id("req", "request_id") or "",
        org_id=reader.organisation(),
        connector_id=reader.id("conn", "connector_id") or "",
    )


_HEAD = ("type", "request_id", "org_id", "connector_id")
FETCH_FIELDS = (
    *_HEAD,
    *("report_type", "date_range", "fields", "priority", "deadline", "max_age_s", "force", "labels"),
)
WRITE_FIELDS = (*_HEAD, "target", "mode", "rows", "priority")
CANCEL_FIELDS = _HEAD
_KINDS: Mapping[str, Callable[[_Reader], Command]] = {"fetch": _fetch, "write": _write, "cancel": _cancel}


def parse(record: Mapping[str, Any]) -> Command | tuple[Fault, ...]:
    """The command in a decoded record, or all that is wrong with it (at most 50 faults, unknown fields first).

    ``record`` is what ``app.streams.wire.decode_command`` gives or a JSON body; ``type`` picks the command.
    """
    kind = record.get("type")
    if kind is None:
        kind = "fetch"
    build = _KINDS.get(kind) if isinstance(kind, str) else None
    if build is None:
        return (Fault("unknown_type", "/type", f"type must be one of {', '.join(_KINDS)}, not {shown(kind)}"),)
    reader = _Reader(record)
    command = build(reader)
    return tuple(reader.faults) if reader.faults else command
