"""Runs one worker until it is told to stop: Faust's consumer and agents, and beside them what else the worker is."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any

import faust
import structlog
from mode import Service

from api.rest.server import RestServer, serve
from app import bootstrap
from app.bootstrap import Worker
from app.config import Settings
from app.streams.crash import die
from app.telemetry import logging as telemetry

STOP_S = 20.0
"""How long running fetch steps may take to end after SIGTERM before they are handed back."""
COMMIT_S = 5.0
"""How long the broker may take to note how far a leaving worker has read."""
LEAVE_S = 28.0
"""A worker that is told to stop is gone by then, whoever does not answer: leases and the group cover what it held."""

log = structlog.get_logger(__name__)


class Companions(Service):
    """Everything of a worker that is not a Faust agent. Started before the consumer joins its group."""

    def __init__(self, worker: Worker, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._worker = worker
        self._running: list[asyncio.Task[None]] = []
        self._rest: RestServer | None = None

    async def on_start(self) -> None:
        worker = self._worker
        self._rest = await serve(worker.rest, worker.settings.http.host, worker.settings.http.port)
        await self._start_publisher()
        for work in (
            worker.follower.run(), worker.projector.run(), worker.planner.tick(), worker.fetches.heartbeats(),
            worker.readiness.watch_broker(), self._announce_ready(),
        ):  # fmt: skip
            self._run(work)

    async def on_stop(self) -> None:
        worker = self._worker
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await worker.ownership.give_up(set(worker.ownership.owners))
        if self._rest is not None:
            await self._rest.stop()
        await worker.publisher.stop()
        await worker.fetching.close()
        await worker.database.close()
        await worker.cache.close()

    async def _start_publisher(self) -> None:
        """The broker may come up later than this worker."""
        while True:
            try:
                await self._worker.publisher.start()
                return
            except Exception as exc:  # noqa: BLE001 - whatever keeps the broker away, it is asked again
                log.warning("broker_not_there_yet", error=type(exc).__name__)
                await asyncio.sleep(1.0)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._running.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A companion that ends by itself has failed; a worker without it would only look alive."""
        if task.cancelled() or self.should_stop:
            return
        error = task.exception()
        log.error("companion_failed", task=str(task.get_coro()), error=repr(error))
        die("a companion task failed")

    async def _announce_ready(self) -> None:
        while True:
            checks = await self._worker.readiness.checks()
            if all(check.state != "failed" for check in checks):
                log.info("worker_ready", worker=self._worker.settings.http.port)
                break
            await asyncio.sleep(0.2)
        await asyncio.Event().wait()


async def _leave(worker: Worker) -> None:
    """Ends or hands back what runs, then notes how far this worker has read while its streams still flow. Faust's own
    commit on the way out may miss what was acknowledged since the last regular one; the next owner would run those
    finished steps again, and load Arrow for it (38 MB resident)."""
    await worker.fetches.stop(STOP_S)
    try:
        async with asyncio.timeout(COMMIT_S):
            await worker.topology.app.consumer.commit()
    except Exception as exc:  # noqa: BLE001 - what is not noted is read again, and every reader stands that
        log.warning("offsets_not_committed", error=type(exc).__name__)


async def _leave_in_time(worker: Worker) -> None:
    """Ends the process for good after ``LEAVE_S``, whatever hangs; so it is no part of ``_leave``, which returns."""
    watchdog = threading.Timer(LEAVE_S, os._exit, (os.EX_TEMPFAIL,))
    watchdog.daemon = True
    watchdog.start()
    await _leave(worker)


def run(settings: Settings) -> None:
    """Blocks until SIGTERM or SIGINT. Exits the process with Faust's own code."""
    telemetry.configure(settings.log.level, json={"auto": None, "json": True, "text": False}[settings.log.format])
    # Building DEBUG records that nobody sees costs a tenth of the CPU per event.
    logging.getLogger("faust").setLevel(logging.INFO)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    worker = bootstrap.build(settings)
    app = worker.topology.app
    app.finalize()
    app.conf.web_enabled = False
    companions = Companions(worker)
    app.before_leave = lambda: _leave_in_time(worker)
    runner = faust.Worker(
        app,
        companions,
        loglevel=settings.log.level.lower(),
        quiet=True,
        redirect_stdouts=False,
        override_logging=False,
        logging_config=None,
    )
    # It would write a control sequence into the log, also where no terminal is.
    runner.spinner = None
    runner.execute_from_commandline()
