"""Running offered steps: one task per lease, heartbeats while any is held, the outcome back into the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from app.domain.messages import Heartbeat, Offer, StepOutcome
from app.domain.model import INBOX_PARTITION
from app.ports import BrokerUnavailable
from app.streams import faust_touches, internal
from app.streams.crash import CrashPoint
from app.streams.kafka import Publisher, Record
from app.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)
RunStep = Callable[[Offer], Awaitable[StepOutcome | None]]
_OUTCOME_TRIES_S = 60.0


class FetchShell:
    """The steps this worker holds. A newer epoch of a batch ends the task of the older one."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        inbox: str,
        worker: str,
        run_step: RunStep,
        most: int,
        heartbeat_s: float,
        crash: CrashPoint,
        metrics: Metrics,
    ) -> None:
        self._publisher, self._inbox, self._worker = publisher, inbox, worker
        self._run_step, self._heartbeat_s, self._crash = run_step, heartbeat_s, crash
        self._slots, self._metrics = asyncio.Semaphore(most), metrics
        self._tasks: dict[str, tuple[Offer, asyncio.Task[None]]] = {}
        self.closing = False

    @property
    def held(self) -> int:
        return len(self._tasks)

    async def run(self, stream: Any) -> None:
        """The agent's body: offers are acknowledged as soon as their task runs; a lost task is the lease's business."""
        async for events in faust_touches.take(stream):
            for event in events:
                self.start(event.message.value)

    def start(self, value: bytes | None) -> None:
        """Begins an offered step, unless this worker holds it already or has held a newer one."""
        try:
            offer = internal.load(value)
        except internal.Unreadable:
            log.error("unreadable_offer")
            self._metrics.unreadable_records_total.labels("fetches").inc()
            return
        if not isinstance(offer, Offer):
            return
        known = self._tasks.get(offer.batch_id)
        if known is not None:
            if (known[0].step_no, known[0].epoch) >= (offer.step_no, offer.epoch):
                return
            known[1].cancel()
        task = asyncio.get_running_loop().create_task(self._hold(offer))
        self._tasks[offer.batch_id] = (offer, task)

    async def _hold(self, offer: Offer) -> None:
        try:
            if self.closing:
                await self._report(offer, self._handed_back(offer, 1.0))
                return
            outcome = await self._in_slot(offer)
            if outcome is not None:
                await self._report(offer, outcome)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # the step's own failures are outcomes; what arrives here is a fault of ours
            log.exception("step_failed", batch_id=offer.batch_id, error=type(exc).__name__)
        finally:
            known = self._tasks.get(offer.batch_id)
            if known is not None and known[0] is offer:
                del self._tasks[offer.batch_id]

    async def _in_slot(self, offer: Offer) -> StepOutcome | None:
        """Runs the step once one of this worker's slots is free."""
        kind = offer.connector.connector_type
        with self._metrics.runnable_fetches.labels(kind).track_inprogress():
            await self._slots.acquire()
        try:
            with self._metrics.fetch_steps_running.labels(kind).track_inprogress():
                return await self._run_step(offer)
        finally:
            self._slots.release()

    async def _report(self, offer: Offer, outcome: StepOutcome) -> None:
        """The outcome must arrive: with the broker away it is sent again for a minute, then the lease runs out."""
        partition = INBOX_PARTITION[offer.connector.connector_type]
        loop = asyncio.get_running_loop()
        ends = loop.time() + _OUTCOME_TRIES_S
        while True:
            try:
                await self._publisher.send([Record(self._inbox, internal.dump(outcome), None, partition)])
                self._crash("outcome_sent")
                return
            except BrokerUnavailable:
                if loop.time() > ends:
                    log.error("outcome_not_sent", batch_id=offer.batch_id)
                    return
                await asyncio.sleep(1.0)

    async def heartbeats(self) -> None:
        """Renews the leases held here, per connector type; silent while nothing is held. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            by_partition: dict[int, list[tuple[str, int]]] = {}
            for offer, _ in self._tasks.values():
                partition = INBOX_PARTITION[offer.connector.connector_type]
                by_partition.setdefault(partition, []).append((offer.batch_id, offer.epoch))
            if not by_partition:
                continue
            try:
                await self._publisher.send(
                    Record(self._inbox, internal.dump(Heartbeat(self._worker, tuple(held))), None, p)
                    for p, held in by_partition.items()
                )
            except BrokerUnavailable:
                log.warning("heartbeat_not_sent")

    async def stop(self, limit_s: float) -> None:
        """Hands new offers back, lets running steps end for a while, then hands back the rest too."""
        self.closing = True
        tasks = {task: offer for offer, task in self._tasks.values()}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in late:
            await self._report(tasks[task], self._handed_back(tasks[task], 0.1))

    def _handed_back(self, offer: Offer, not_before_s: float) -> StepOutcome:
        """This worker is going; somebody else will run the step."""
        return StepOutcome(
            offer.batch_id, offer.epoch, offer.step_no, self._worker, 0, released=True, not_before_s=not_before_s
        )
