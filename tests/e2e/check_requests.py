"""F1: one terminal event for every accepted command, none for anybody else; refusals; views that agree."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.identity import NAMESPACE, normalise
from app.streams.wire import Undecodable, decode_command
from tests.e2e.evidence import CommandRecord, Dead, Evidence, Source, Told
from tests.e2e.findings import Report

TERMINAL = frozenset({"data_fetched", "fetch_failed", "fetch_cancelled", "data_written", "write_failed"})
STATE_OF = {
    "data_fetched": "completed",
    "data_written": "completed",
    "fetch_failed": "failed",
    "write_failed": "failed",
    "fetch_cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An accepted command: the first record with its id that was not put aside."""

    request_id: str
    connector_id: str
    org_id: int
    source: Source
    at: int
    body: Mapping[str, Any]


@dataclass(slots=True)
class Sorted:
    """The command topic, sorted out. ``refused``: request id -> hex digest of each value that was put aside -> (ms,
    offset) of its first record."""

    accepted: dict[str, Wanted] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    refused: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    repeats: int = 0


def name_id(prefix: str, *parts: object) -> str:
    """A computed id of spec section 13: UUIDv5 of the parts joined by ``|``."""
    return f"{prefix}_{uuid.uuid5(NAMESPACE, '|'.join(str(part) for part in parts)).hex}"


def sort_commands(records: Sequence[CommandRecord], dead: Sequence[Dead], report: Report) -> Sorted:
    """Tells accepted commands, repeats, cancels and refused ones apart."""
    aside = Counter(one.source for one in dead)
    found = Sorted()
    for record in records:
        try:
            body = decode_command(record.value)
        except Undecodable as wrong:
            _undecodable(record, wrong, aside, found, report)
            continue
        _sort_one(record, body, record.source in aside, found, report)
    places = {record.source for record in records}
    for one in dead:
        if one.source not in places:
            report.add("DLQ without a command", f"{one.code} names {one.source}")
        if not one.code or not one.detail:
            report.add("DLQ without a reason", str(one.source))
    repeated = sum(count - 1 for count in aside.values())
    if repeated:
        report.notes.append(f"{repeated} records were put aside more than once (intake is redelivered after a kill)")
    return found


def _undecodable(
    record: CommandRecord, wrong: Undecodable, aside: Mapping[Source | None, int], found: Sorted, report: Report
) -> None:
    if record.source not in aside:
        report.add("bad command vanished", f"{record.source} ({wrong.code}) is not in the DLQ")
    known = wrong.partial.get("request_id")
    if known is not None and wrong.partial.get("type", "fetch") != "cancel":
        _put_aside(known, record, found)


def _put_aside(request_id: str, record: CommandRecord, found: Sorted) -> None:
    digest = hashlib.sha256(record.value or b"").hexdigest()
    place = (record.at, record.source[2])
    known = found.refused.setdefault(request_id, {})
    known[digest] = min(place, known.get(digest, place))


def _sort_one(record: CommandRecord, body: Mapping[str, Any], dead: bool, found: Sorted, report: Report) -> None:
    given = body.get("request_id")
    known = normalise("req", given) if isinstance(given, str) else None
    request_id = known or name_id("req", *record.source, record.at)
    if body.get("type", "fetch") == "cancel":
        found.cancelled.add(request_id)
        return
    if dead:
        _put_aside(request_id, record, found)
        return
    first = found.accepted.get(request_id)
    if first is None:
        connector_id = normalise("conn", str(body["connector_id"])) or str(body["connector_id"])
        found.accepted[request_id] = Wanted(
            request_id, connector_id, int(body["org_id"]), record.source, record.at, _plain(body)
        )
        return
    found.repeats += 1
    if first.body != _plain(body):
        report.add("imposter not refused", f"{request_id} at {record.source} has another body than at {first.source}")


def _plain(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a command asks, the same for every wire format: absent values and the id left out."""
    return {name: value for name, value in body.items() if name not in ("request_id", "type") and _said(name, value)}


def _said(name: str, value: Any) -> bool:
    absent = value is None or value is False or value in ([], {})
    return not absent and (name, value) != ("priority", "scheduled")


def check(evidence: Evidence, report: Report, *, refusals: int | None = None) -> dict[str, tuple[Wanted, Told]]:
    """Runs all checks of requests; the accepted ones with their one terminal event are handed on."""
    found = sort_commands(evidence.commands, evidence.dead, report)
    ended: dict[str, list[Told]] = defaultdict(list)
    for event in evidence.events:
        if event.kind in TERMINAL and not event.refused:
            ended[event.request_id or ""].append(event)
    answered = _check_accepted(found, ended, report)
    for request_id, events in ended.items():
        if request_id not in found.accepted:
            report.add("F1 ended but never accepted", f"{request_id or 'no id'}: {events[0].kind}")
    _check_refused(found, evidence.events, report)
    _check_views(evidence.views, found, answered, report)
    put_aside = len({one.source for one in evidence.dead})
    if refusals is not None and put_aside != refusals:
        report.add("refusals", f"{put_aside} commands are in the DLQ, {refusals} should be")
    kinds = Counter(event.kind for _, event in answered.values())
    report.figures |= {
        "commands": len(evidence.commands),
        "accepted requests": len(found.accepted),
        "repeats of a request": found.repeats,
        "put aside": put_aside,
        "terminal events": sum(map(len, ended.values())),
        **{f"  {kind}": count for kind, count in sorted(kinds.items())},
    }
    return answered


def _check_accepted(
    found: Sorted, ended: Mapping[str, Sequence[Told]], report: Report
) -> dict[str, tuple[Wanted, Told]]:
    answered: dict[str, tuple[Wanted, Told]] = {}
    for request_id, wanted in found.accepted.items():
        events = ended.get(request_id, ())
        if not events:
            report.add("F1 lost", f"{request_id} at {wanted.source} has no terminal event")
            continue
        kinds = {event.kind for event in events}
        if len(events) > 1:
            kind = "F1 two kinds" if len(kinds) > 1 else "F1 ended twice"
            report.add(kind, f"{request_id}: {', '.join(event.kind for event in events)}")
        _check_terminal(wanted, events[0], found, report)
        answered[request_id] = (wanted, events[0])
    return answered


def _check_terminal(wanted: Wanted, event: Told, found: Sorted, report: Report) -> None:
    request_id = wanted.request_id
    if (event.connector_id, event.org_id) != (wanted.connector_id, wanted.org_id):
        report.add("wrong address", f"{request_id} was answered to {event.org_id}, {event.connector_id}")
    if event.event_id != name_id("evt", "terminal", wanted.connector_id, request_id):
        report.add("wrong event id", f"{event.event_id} of {request_id}")
    if dict(event.labels) != dict(wanted.body.get("labels") or {}):
        report.add("wrong labels", request_id)
    if event.kind == "fetch_cancelled" and request_id not in found.cancelled:
        report.add("cancelled unasked", request_id)


def _check_refused(found: Sorted, events: Sequence[Told], report: Report) -> None:
    expected = {
        name_id("evt", "refused", request_id, digest)
        for request_id, digests in found.refused.items()
        if request_id not in found.accepted
        for digest in digests
    }
    told = Counter(event.event_id for event in events if event.refused)
    for event_id, count in told.items():
        if count > 1:
            report.add("refused twice", event_id)
    possible = {
        name_id("evt", "refused", name, digest) for name, digests in found.refused.items() for digest in digests
    }
    for event in events:
        if event.refused and event.request_id in found.accepted and not _came_first(event, found):
            report.add("refused though accepted", f"{event.request_id}: {event.event_id}")
    for event_id in told.keys() - possible:
        report.add("refused but not put aside", event_id)
    for event_id in expected - told.keys():
        report.add("refusal not told", event_id)


def _came_first(event: Told, found: Sorted) -> bool:
    """Whether the refused record stood before the one that was accepted: then its id was nobody's yet."""
    wanted = found.accepted[event.request_id or ""]
    return any(
        event.event_id == name_id("evt", "refused", wanted.request_id, digest) and place < (wanted.at, wanted.source[2])
        for digest, place in found.refused.get(wanted.request_id, {}).items()
    )


def _check_views(
    views: Mapping[str, str], found: Sorted, answered: Mapping[str, tuple[Wanted, Told]], report: Report
) -> None:
    for request_id, (_, event) in answered.items():
        state = views.get(request_id)
        if state != STATE_OF[event.kind]:
            report.add("view and event disagree", f"{request_id}: {state or 'no view'}, but {event.kind}")
    for request_id in views.keys() - found.accepted.keys():
        report.add("view of nobody's request", request_id)
