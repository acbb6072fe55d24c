"""Writes: one step, one member, one in flight per spreadsheet, in accepted order (docs/planner.md section 7)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from app.domain import identity
from app.domain.commands import Cell, WriteCommand
from app.domain.errors import ErrorClass, Failure, Fault
from app.domain.messages import Cancel, Write
from app.domain.rate_limit import PermitRow
from app.domain.rows import Batch, Request
from app.domain.sheets import WRITE
from app.domain.state import State, members_of

MAX_CELLS = 20_000
MAX_BYTES = 900_000
"""Of the rows as JSON. Google advises bodies of 2 MB, and a cell adds about 45 bytes to its value there; as Avro, where
a short number takes five bytes more, they still fit into a record of 1 MiB."""
MAX_LIVE_BYTES = 256_000_000
"""Of the rows of all writes of a connector type that have not ended: they are in the planner's memory."""
WAITS = "earlier_write"


def text_of(rows: Iterable[Sequence[Cell]]) -> str:
    """Rows as they are kept and travel: compact JSON, every cell of its own type."""
    return json.dumps([list(row) for row in rows], ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def rows_of(text: str) -> list[list[Cell]]:
    """The rows that ``text_of`` wrote."""
    rows: list[list[Cell]] = json.loads(text)
    return rows


def size_faults(command: WriteCommand) -> Iterable[Fault]:
    """What of a command's rows is more than one call should carry."""
    cells = sum(map(len, command.rows))
    if cells > MAX_CELLS:
        detail = f"at most {MAX_CELLS} cells in one write, not {cells}: send several"
        yield Fault("invalid_rows", "/rows", detail)
    size = len(text_of(command.rows).encode())
    if size > MAX_BYTES:
        detail = f"the rows are {size} bytes as JSON, at most {MAX_BYTES} in one write: send several"
        yield Fault("invalid_rows", "/rows", detail)


def write_of(command: WriteCommand, request_id: str) -> Write:
    """What a command wants written."""
    return Write(request_id, command.target, command.mode, len(command.rows), text_of(command.rows))


def overfull(state: State, write: Write) -> Failure | None:
    """Why no further write can be taken in, if it cannot."""
    if state.write_chars + len(write.rows) <= MAX_LIVE_BYTES:
        return None
    text = "The rows of the writes that wait are as many as may be kept; ask again when some have ended."
    return Failure(ErrorClass.QUOTA, "queue_full", text, retryable=True)


def plan(state: State, request: Request, write: Write) -> Request:
    """Keeps the rows and makes the write's batch, which nobody joins."""
    accept = request.accept
    state.put(f"w/{accept.request_id}", write)
    _, partition, offset = accept.source or ("", 0, 0)
    batch = Batch(
        batch_id=f"bat_{identity.uuid5('write', accept.request_id).hex}",
        connector=accept.connector,
        report_type="",
        window=accept.accepted_at // state.rules.window_ms,
        start=accept.start,
        end=accept.end,
        extras=(),
        priority_class=accept.priority_class,
        accepted_at=accept.accepted_at,
        members=(accept.request_id,),
        alone=True,
        traceparent=accept.traceparent,
        place=(accept.accepted_at, partition, offset),
    )
    state.put_batch(batch)
    return replace(request, parts=(batch.batch_id,), batches=(batch.batch_id,))


def kept(state: State, batch: Batch) -> dict[str, Any] | None:
    """Why a write may not begin yet; None for the first of its spreadsheet with no call of another one out, and for a
    fetch."""
    if batch.place is None:
        return None
    if state.sheets.first(batch.connector.account_id) != batch.batch_id:
        return {"reason": WAITS, "until": None}
    until = state.sheets.landing_until(batch, state.now)
    return None if until is None else {"reason": WAITS, "until": until}


def granted(state: State, batch: Batch, row: PermitRow) -> None:
    """A call of a write may leave; from the first one that writes, it may be in the sheet."""
    if batch.place is None or row.charge != WRITE:
        return
    state.sheets.left(row, state.latest_end(row))
    for request in members_of(state, batch):
        if not request.sent:
            state.put_request(replace(request, sent=True))


def ended(state: State, row: PermitRow) -> None:
    """A permit has come back, or was given up: the spreadsheet's next write may be free to begin."""
    if row.charge == WRITE:
        state.sheets.ended(row)
        state.wake_write(row.account_id)


def done(state: State, batch: Batch, members: Iterable[Request]) -> None:
    """The rows are in the sheet. An append carries its stamp and cannot happen twice, so what is still out of it, of a
    worker that died or froze, keeps nobody waiting; an update's could still undo the next one."""
    if not any(r.accept.write is not None and r.accept.write.mode == "append" for r in members):
        return
    for row in [state.permits[ask_id] for ask_id in state.sheets.out(batch) if ask_id in state.permits]:
        state.put(f"p/{row.ask_id}", replace(row, landed=True))
        state.sheets.ended(row)


def refuse_cancel(state: State, message: Cancel) -> None:
    """A cancel that comes too late: its record goes to the dead-letter topic, and the write goes on."""
    if message.source is not None:
        detail = "This write is under way: its call may have left, so that it cannot be cancelled."
        state.changes.dead.append((message.source, "already_running", detail))


def told(request: Request) -> dict[str, Any] | None:
    """What a view says of a write, without its rows."""
    write = request.accept.write
    if write is None:
        return None
    return facts_of(write, sent=request.sent)


def facts_of(write: Write, *, sent: bool) -> dict[str, Any]:
    """A write without its rows, as views have it."""
    return {"target": write.target, "mode": write.mode, "rows": write.count, "sent": sent}
