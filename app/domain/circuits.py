"""The planner's circuits: rows, events and wake-ups around ``breaker``, which decides (R9, docs/planner.md section 5).

An inbox partition is one connector type, so that an account names its circuit. Permits are exact: one probe at a time
in the cluster. Around them one step at a time is offered while the circuit is half open, so that the others need not be
handed back; which one that is lives in memory, and a new owner may offer one more.
"""

from __future__ import annotations

from typing import Any

from app.domain import breaker, events
from app.domain.breaker import CLOSED, Circuit, Result
from app.domain.errors import Failure
from app.domain.lanes import Topic
from app.domain.messages import Ask
from app.domain.model import ConnectorFacts
from app.domain.rate_limit import PermitRow
from app.domain.rows import Batch
from app.domain.state import State

MAX_SPARED = 240
"""Failures of one batch that are no attempts because the circuit is open: two hours of probes. A report that alone
makes the provider fail must come to an end."""
_GIVE_WAY_MS = 1_000
"""Who failed as the probe lets anybody else be the next one."""
_RESULTS = {0: Result.FAILED, 1: Result.OK}


def topic(account_id: str) -> Topic:
    """What lanes wait for whose account's circuit is open."""
    return ("circuit", account_id)


def is_open(state: State, connector: ConnectorFacts) -> bool:
    """Open or half open."""
    return state.circuits.get(connector.account_id, CLOSED).open


def keeps(state: State, account_id: str, at: int | None = None) -> int | None:
    """None if a step of this account may begin now (``at``: an estimated now), else when to look again at the latest.
    While half open one step at a time may."""
    now = state.now if at is None else at
    until = breaker.blocked(state.circuits, account_id, now)
    if until is None and state.circuits.get(account_id, CLOSED).open and _chosen(state, account_id):
        return now + state.rules.lease_ms
    return until


def wake(state: State) -> None:
    """Lanes whose account may begin a step again are looked at."""
    for account_id, circuit in state.circuits.items():
        if circuit.open and keeps(state, account_id) is None:
            state.queue.wake(topic(account_id))


def reason(state: State, connector: ConnectorFacts, at: int | None = None) -> dict[str, Any] | None:
    """The typed reason of whoever is kept."""
    until = keeps(state, connector.account_id, at)
    return None if until is None else {"reason": "circuit_open", "until": until}


def leased(state: State, batch: Batch) -> None:
    """A step was offered; while its account's circuit is half open it is the one that may probe."""
    if is_open(state, batch.connector):
        state.probing[batch.connector.account_id] = (batch.batch_id, batch.epoch)


def denies(state: State, connector: ConnectorFacts) -> tuple[bool, int | None]:
    """Whether an ask of this account cannot be granted now, and when it is worth asking again: not soon if a time is
    given, else as soon as the probe that is out has ended."""
    until = breaker.blocked(state.circuits, connector.account_id, state.now)
    if until is None:
        return False, None
    soon = state.circuits[connector.account_id].retry_at <= state.now
    return True, None if soon else until


def permit(state: State, facts: ConnectorFacts, batch_id: str, message: Ask, keys: tuple[str, ...]) -> PermitRow:
    """The row of a permit that is granted now; with an open circuit it is the probe."""
    probe = is_open(state, facts)
    row = PermitRow(
        message.ask_id,
        batch_id,
        message.charge,
        keys,
        state.now,
        connector_id=facts.connector_id,
        connector_type=facts.connector_type,
        account_id=facts.account_id,
        probe=probe,
    )
    if probe:
        until = state.latest_end(row)
        state.put(
            f"k/{facts.account_id}",
            breaker.probing(state.circuits[facts.account_id], row.ask_id, batch_id, until),
        )
        state.remind(until, "circuit", facts.account_id)
    return row


def returned(state: State, row: PermitRow, verdict: int | None, error: str) -> None:
    """A permit came back: ``verdict`` as in ``messages.Returned``, None for a call that never left."""
    if not row.account_id:
        return  # granted by an older release
    circuit = state.circuits.get(row.account_id, CLOSED)
    result = Result.NEUTRAL if verdict is None else _RESULTS.get(verdict, Result.NEUTRAL)
    new = breaker.ended(
        circuit, result, ask_id=row.ask_id, granted_at=row.granted_at, now=state.now, policy=state.rules.breaker,
        error=error or "system_failure",
    )  # fmt: skip
    _becomes(state, row.account_id, row.connector_type, circuit, new)


def due(state: State, account_id: str) -> None:
    """A time of a circuit has come: the end of its recovery time, the latest end of its probe, or the moment from which
    no call is out that began before it closed."""
    circuit = state.circuits.get(account_id)
    if circuit is None:
        return
    new = circuit
    if circuit.probe is not None and state.now >= circuit.probe_until:
        new = breaker.lost(circuit, circuit.probe, state.now, state.rules.breaker)
    _becomes(state, account_id, "", circuit, new)
    if not new.open and not new.failures and new.since + _longest_ms(state) <= state.now:
        state.drop(f"k/{account_id}")


def restored(state: State) -> None:
    """The first step over rows that were read back."""
    for account_id, circuit in state.circuits.items():
        _remind(state, account_id, circuit)
        if circuit.open:
            _look_for_stale(state, account_id)


def spares(state: State, batch: Batch, failure: Failure) -> int | None:
    """None if a failure is an attempt. A system failure while the circuit is open is none: then the time before which
    the batch is not tried again."""
    circuit = state.circuits.get(batch.connector.account_id, CLOSED)
    if not circuit.open or not failure.system or batch.spared >= MAX_SPARED:
        return None
    # Its permit may come back after its outcome, so that the new recovery time is not known yet.
    again = state.now + state.rules.breaker.recovery_ms + _GIVE_WAY_MS
    return again if circuit.prober == batch.batch_id else state.now


def _becomes(state: State, account_id: str, connector_type: str, old: Circuit, new: Circuit) -> None:
    if new == old:
        return
    if new.open or new.failures or new.since:
        state.put(f"k/{account_id}", new)
    else:
        state.drop(f"k/{account_id}")
    if old.open:
        # Its probe has ended, so another step may be the next one to probe; and who waits is told the new time.
        state.probing.pop(account_id, None)
        state.queue.wake(topic(account_id))
    if new.open or old.open:
        _remind(state, account_id, new)
    if new.open and not old.open:
        _look_for_stale(state, account_id)
        state.changes.events.append(
            events.circuit_opened(
                now=state.now,
                connector_type=connector_type,
                account_id=account_id,
                failures=new.failures,
                last_error=new.last_error,
                retry_at=new.retry_at,
            )
        )
    elif old.open and not new.open:
        state.changes.events.append(
            events.circuit_closed(
                now=state.now, connector_type=connector_type, account_id=account_id, opened_at=old.since
            )
        )


def _remind(state: State, account_id: str, circuit: Circuit) -> None:
    """Comes back to a circuit at its next time, if it has one. Those of an heir may be over."""
    if not circuit.open:
        state.remind(circuit.since + _longest_ms(state), "circuit", account_id)
    elif circuit.probe is not None:
        state.remind(circuit.probe_until, "circuit", account_id)
    elif circuit.retry_at > state.now:
        state.remind(circuit.retry_at, "circuit", account_id)


def _longest_ms(state: State) -> int:
    """How long after its grant a permit's call may still end, at most."""
    rules = state.rules
    return rules.permit_valid_ms + max(rules.call_timeout_ms, rules.stream_timeout_ms)


def _chosen(state: State, account_id: str) -> bool:
    """The step that may probe is still with a worker."""
    batch_id, epoch = state.probing.get(account_id, ("", 0))
    batch = state.batches.get(batch_id)
    return batch is not None and batch_id in state.leases and batch.epoch == epoch


def _look_for_stale(state: State, account_id: str) -> None:
    """Waiting requests of the account may be answered from what is held (``stale``)."""
    for batch_id in state.queue:
        if state.batches[batch_id].connector.account_id == account_id:
            state.stale[batch_id] = None
