"""The writes of each spreadsheet in the order in which they may begin: an index over rows, memory only.

A spreadsheet is an account, whichever connectors name it. Its first write is the one that has begun and not ended, else
the one that was accepted first. Every operation is O(log n) in the number of its writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.ranked import Ranked
from app.domain.rate_limit import PermitRow
from app.domain.rows import Batch

WRITE = "write"
"""The charge of calls that change a spreadsheet."""
WRITE_CALLS: Mapping[str, int] = {WRITE: 1}
"""What every write takes at least. What it looks up first is charged ``read``, and asked for when it is known."""

Key = tuple[bool, int, int, int, str]
"""(not begun, accepted, partition, offset, batch id)."""


def key_of(batch: Batch) -> Key:
    """A write's place among those of its spreadsheet. One that has begun may have landed: nobody goes before it."""
    return (not batch.epoch, *(batch.place or (0, 0, 0)), batch.batch_id)


@dataclass(slots=True)
class Sheets:
    """Writes that have not ended, and calls of theirs that may still land, by account."""

    _of: dict[str, Ranked[Key]] = field(default_factory=dict)
    _placed: dict[str, tuple[str, Key]] = field(default_factory=dict)
    _out: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)
    """Account -> ask id of a call that is out -> (its batch, ms at which it has ended at the latest)."""

    def put(self, batch: Batch) -> None:
        """Takes a write in, or moves it to where it belongs now; a fetch is none of it."""
        if batch.place is None:
            return
        account, key = batch.connector.account_id, key_of(batch)
        if self._placed.get(batch.batch_id) == (account, key):
            return
        self.drop(batch.batch_id)
        self._placed[batch.batch_id] = account, key
        self._of.setdefault(account, Ranked()).add(key)

    def drop(self, batch_id: str) -> None:
        """Forgets a write; one that is not here is no error."""
        account, key = self._placed.pop(batch_id, ("", None))
        if key is None:
            return
        self._of[account].remove(key)
        if not self._of[account]:
            del self._of[account]

    def first(self, account: str) -> str | None:
        """The write of a spreadsheet whose turn it is."""
        key = self._of[account].first if account in self._of else None
        return None if key is None else key[-1]

    def ahead(self, batch: Batch) -> int:
        """How many writes of its spreadsheet go before it."""
        account = batch.connector.account_id
        return self._of[account].rank(key_of(batch)) if account in self._of else 0

    def left(self, row: PermitRow, latest_end: int) -> None:
        """A permit was granted; only those to write count."""
        if row.charge == WRITE and row.returned_at is None and not row.landed:
            self._out.setdefault(row.account_id, {})[row.ask_id] = row.batch_id, latest_end

    def ended(self, row: PermitRow) -> None:
        """Its call has ended, or is given up as lost; one that is not out is no error."""
        out = self._out.get(row.account_id, {})
        out.pop(row.ask_id, None)
        if not out:
            self._out.pop(row.account_id, None)

    def out(self, batch: Batch) -> tuple[str, ...]:
        """Ask ids of the calls of a write that may still land."""
        out = self._out.get(batch.connector.account_id, {})
        return tuple(ask_id for ask_id, (name, _) in out.items() if name == batch.batch_id)

    def landing_until(self, batch: Batch, now: int) -> int | None:
        """When the last call of another write to the same spreadsheet has ended at the latest; None: none is out."""
        out = self._out.get(batch.connector.account_id, {}).values()
        return max((until for name, until in out if name != batch.batch_id and until > now), default=None)

    def __bool__(self) -> bool:
        return bool(self._of or self._placed or self._out)
