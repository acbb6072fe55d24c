"""The arrival log: one record per call that reached either origin. It is what an outside checker counts from.

Never holds a header's value, a query string or a body, so no token, code or signature can get into it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from app.sandbox.clock import Instant

MEMORY_LIMIT = 500_000
"""Calls kept in memory; a log file keeps all."""


@dataclass(slots=True)
class Call:
    """One call. ``arrived_at`` unix seconds and ``monotonic`` seconds at arrival; ``took_s`` seconds until the answer
    was ready; ``status`` None while under way, 0 when the connection was dropped on purpose or the caller went away;
    ``days`` of the report that the call is about, as ``2026-11-01/2026-11-07``."""

    sequence: int
    arrived_at: float
    monotonic: float
    method: str
    path: str
    authorization: bool
    provider: str = "unknown"
    route: str = "unknown"
    quota_group: str = "none"
    application: str | None = None
    user: str | None = None
    account: str | None = None
    title: str | None = None
    query_id: str | None = None
    report_id: str | None = None
    days: str | None = None
    grant_type: str | None = None
    over_quota: bool = False
    over: tuple[str, ...] = ()
    fault: str | None = None
    status: int | None = None
    took_s: float | None = None


@dataclass(slots=True)
class CallLog:
    """Calls in order of arrival; with ``file``, each is also appended as a JSON line when it is answered. ``changed``
    is set whenever a call arrives or ends, for those who wait (they clear it)."""

    file: IO[bytes] | None = None
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=MEMORY_LIMIT))
    last_sequence: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


def open_log(path: Path | None) -> CallLog:
    """A log that appends to ``path`` and goes on numbering after the lines already there."""
    if path is None:
        return CallLog()
    earlier = 0
    if path.exists():
        with path.open("rb") as lines:
            earlier = max((orjson.loads(line)["sequence"] for line in lines if line.endswith(b"\n")), default=0)
    return CallLog(path.open("ab"), last_sequence=earlier)


def begin_call(log: CallLog, method: str, path: str, authorization: bool, now: Instant) -> Call:
    """Number and keep a call at the moment it arrives."""
    log.last_sequence += 1
    call = Call(log.last_sequence, now.unix, now.monotonic, method, path, authorization)
    log.calls.append(call)
    log.changed.set()
    return call


def end_call(log: CallLog, call: Call, status: int, now: Instant) -> None:
    """Complete a call and write its line out at once: the file must survive a kill of this process."""
    call.status = status
    call.took_s = now.monotonic - call.monotonic
    log.changed.set()
    if log.file is not None:
        log.file.write(orjson.dumps(call, option=orjson.OPT_APPEND_NEWLINE))
        log.file.flush()


def close_log(log: CallLog, now: Instant) -> None:
    """Write the calls still under way with status 0 and close the file."""
    if log.file is None:
        return
    for call in log.calls:
        if call.status is None:
            end_call(log, call, 0, now)
    log.file.close()
    log.file = None


def calls_since(log: CallLog, sequence: int) -> list[dict[str, Any]]:
    """Plain records of all calls numbered after ``sequence``, those under way included."""
    return [asdict(call) for call in log.calls if call.sequence > sequence]
