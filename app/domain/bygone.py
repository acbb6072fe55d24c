"""Tables that nobody asks for any more. Data sets are as many as connectors, but tables as many as sets of ranges that
somebody thinks of: what is left of one is forgotten when its day is over everywhere (spec section 14, R10).

A table that is asked for again after that begins with version 1.
"""

from __future__ import annotations

from app.domain import tables
from app.domain.rows import Batch
from app.domain.state import State

KEPT_MS = 48 * 3_600_000
"""From the last reading, or from when it began, where it came to nothing."""


def begin(state: State, batch: Batch) -> None:
    """The data set of the batch is about to have a row. There is one reminder for each table, however often it is
    read."""
    key = batch.data_set
    if tables.is_table_key(key) and key not in state.data_sets:
        state.remind(state.now + KEPT_MS, "table", key)


def restored(state: State) -> None:
    """Comes back to all of them, once rows were read back."""
    for key in filter(tables.is_table_key, state.data_sets):
        state.remind(state.now + KEPT_MS, "table", key)


def due(state: State, key: str) -> None:
    """Forgets it, unless it was read since or is waited for."""
    data = state.data_sets.get(key)
    if data is None:
        return
    read_at = state.now if state.open_batches.get(key) else max((run.read_at for run in data.runs), default=0)
    if read_at + KEPT_MS > state.now:
        state.remind(read_at + KEPT_MS, "table", key)
    else:
        state.drop(f"c/{key}")
