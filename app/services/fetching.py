"""Runs one leased fetch step and says how it ended. No decision is made here: failures are classified by the
connector, and what follows from them is the planner's business.

Order (spec section 14, R6): a step that could write looks for its run's object before it calls anyone, so that a
fetch whose worker died after writing costs no call at all.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace

from app.domain.errors import ErrorClass, Failure, PermitDenied, ProviderError
from app.domain.messages import Offer, StepOutcome, StoredFile, Write
from app.domain.writes import rows_of
from app.ports import Calls, Clock, Connector, ResultStore, ResultsUnavailable, Running, Writer

log = logging.getLogger(__name__)


STORE_RETRY_S = 20.0
"""A step whose result cannot be stored is tried again after this long."""


async def run_step(
    offer: Offer,
    *,
    connector: Connector,
    calls: Calls,
    results: ResultStore,
    clock: Clock,
    worker: str,
    crash: Callable[[str], None] = lambda _point: None,
) -> StepOutcome | None:
    """One step, from offer to outcome. None: the lease is another's by now, and nothing is to be said.

    Raises nothing but cancellation. ``crash`` is told ``object_written``; the calls tell the crash points within a
    request.
    """
    outcome = StepOutcome(offer.batch_id, offer.epoch, offer.step_no, worker, calls=0)
    try:
        outcome = await _run(offer, outcome, connector, calls, results, crash)
    except PermitDenied as denied:
        if denied.reason == "stale":
            return None
        outcome = replace(outcome, released=True, not_before_s=denied.retry_in_s)
    except ResultsUnavailable as away:
        # The report is paid for and stays at the provider: it costs no attempt to wait until it can be stored.
        log.error("results_unavailable", extra={"batch_id": offer.batch_id, "error": str(away)})
        outcome = replace(outcome, released=True, not_before_s=STORE_RETRY_S)
    except ProviderError as error:
        outcome = replace(outcome, failure=error.failure)
        _report(offer, error.failure)
    except Exception as error:  # noqa: BLE001 - whatever it is, the planner must hear that the step has ended
        outcome = replace(outcome, failure=_internal(offer, error))
    return replace(outcome, calls=calls.made, first_call_at=calls.first_at, ended_at=clock.now())


async def _run(
    offer: Offer,
    outcome: StepOutcome,
    connector: Connector,
    calls: Calls,
    results: ResultStore,
    crash: Callable[[str], None],
) -> StepOutcome:
    if offer.write is not None:
        return replace(outcome, rows_written=await _write(offer, offer.write, connector, calls))
    if stored := await _already_stored(offer, connector, results):
        return replace(outcome, file=stored)
    answer = await connector.step(offer, calls)
    if isinstance(answer, Running):
        return replace(outcome, remote=dict(answer.remote), percent=answer.percent, poll_after_s=answer.poll_after_s)
    stored = await results.write(offer, connector.reports[offer.report_type], answer)
    crash("object_written")
    return replace(outcome, file=stored)


async def _write(offer: Offer, write: Write, connector: Connector, calls: Calls) -> int:
    if not isinstance(connector, Writer):
        # Accepted by a worker that can, taken by one that cannot: of another version, or its adapter is switched off.
        text = f"This worker cannot write to {offer.connector.connector_type}."
        raise ProviderError(Failure(ErrorClass.INTERNAL, "write_not_supported", text, retryable=True))
    return await connector.write(
        spreadsheet_id=offer.connector.account_id,
        request_id=write.request_id,
        target=write.target,
        mode=write.mode,
        rows=rows_of(write.rows),
        calls=calls,
    )


async def _already_stored(offer: Offer, connector: Connector, results: ResultStore) -> StoredFile | None:
    """Only a connector's last step can write, or those it names itself, so only there is the store asked."""
    if offer.step not in getattr(connector, "storing_steps", connector.steps[-1:]):
        return None
    return await results.find(offer)


def _report(offer: Offer, failure: Failure) -> None:
    log.warning(
        "fetch_step_failed",
        extra={"batch_id": offer.batch_id, "step": offer.step, "code": failure.code, "retryable": failure.retryable},
    )


def _internal(offer: Offer, error: Exception) -> Failure:
    """Where it happened goes to the log; what it said does not, since a foreign error's text may quote a URL or a
    header."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]
    name = type(error).__name__
    log.error("fetch_step_broke", extra={"batch_id": offer.batch_id, "step": offer.step, "error": name, "at": frames})
    return Failure(ErrorClass.INTERNAL, "internal", f"the step broke: {name}", retryable=True)
