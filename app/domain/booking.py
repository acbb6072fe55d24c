"""Writes the ledger: what a grant, a return and the time that passes mean for it (values: ``ledger``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from app.domain import closing, ledger, loose
from app.domain.ledger import Member, Payers
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import Bucket, PermitRow
from app.domain.rows import Batch
from app.domain.state import State, members_of


def charge_to_members(state: State, batch: Batch, row: PermitRow) -> PermitRow:
    """A new permit with the name of the row that says whom its call is for; made if no row of the batch says so."""
    live = members_of(state, batch)
    wanted = Payers(
        batch_id=batch.batch_id,
        org_id=batch.connector.org_id,
        connector_id=batch.connector.connector_id,
        connector_type=batch.connector.connector_type,
        priority_class=batch.priority_class,
        members=tuple(Member(r.accept.request_id, r.accept.labels) for r in live),
    )
    books = state.books
    known = books.of_batch.setdefault(batch.batch_id, set())
    found = next((name for name in known if books.payers[name] == wanted), None)
    if found is None:
        found = row.ask_id
        while found in books.payers:  # an ask that was granted before: what its first permit named may still be named
            found += "+"
        state.put(f"a/{found}", wanted)
    for name in sorted(known - {found}):
        if not books.out[name]:
            known.discard(name)
            state.drop(f"a/{name}")
    known.add(found)
    books.out[found] += 1
    return replace(row, payers=found, org_id=wanted.org_id)


def charge_to_organisation(state: State, connector: ConnectorFacts, row: PermitRow) -> PermitRow:
    """The same for a call without a fetch: nobody's request, and as what class it goes (``loose``)."""
    payers = Payers(
        batch_id=loose.NO_BATCH,
        org_id=connector.org_id,
        connector_id=connector.connector_id,
        connector_type=connector.connector_type,
        priority_class=loose.CLASS,
        members=(),
    )
    state.put(f"a/{row.ask_id}", payers)
    state.books.out[row.ask_id] += 1
    return replace(row, payers=row.ask_id, org_id=payers.org_id)


def book(state: State, row: PermitRow, outcome: str | None, *, ended_at: int | None) -> PermitRow:
    """Writes a permit's one entry, or none for one that came back unused (``outcome`` None). The permit as it goes on:
    it names no payers any longer, so nothing is written twice. One granted before there was a ledger has none."""
    payers = state.books.payers.get(row.payers)
    if payers is not None:
        if outcome is not None:
            shares = closing.share(ledger.WHOLE, (m.request_id for m in payers.members))
            state.changes.ledger.append(ledger.entry(row, payers, shares, outcome, ended_at))
        _release(state, row.payers, payers.batch_id)
    return replace(row, payers="")


def _release(state: State, name: str, batch_id: str) -> None:
    books = state.books
    books.out[name] -= 1
    if books.out[name] <= 0:
        del books.out[name]
        if name not in books.of_batch.get(batch_id, ()):
            state.drop(f"a/{name}")


def lost(state: State, row: PermitRow) -> PermitRow:
    """A permit whose call must have ended by now, and that never came back: the call may have left. The permit as it
    goes on; a return that comes after all changes nothing here."""
    if not row.payers or row.returned_at is not None or state.latest_end(row) > state.now:
        return row
    row = book(state, row, "unknown", ended_at=None)
    state.put(f"p/{row.ask_id}", row)
    return row


def count(state: State, row: PermitRow, buckets: Iterable[Bucket]) -> None:
    """Counts a granted permit in the windows that will be told."""
    for at, key in state.books.count(row, buckets, state.now):
        state.remind(at, "window", key)


def close_windows(state: State, key: str) -> None:
    """Tells the windows of a bucket that are over."""
    bucket = next((limits.buckets[key] for limits in state.limits.values() if key in limits.buckets), None)
    for start, window in state.books.close(key, state.now):
        if bucket is not None:
            state.changes.ledger.append(ledger.told(bucket, start, window))
