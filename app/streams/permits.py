"""Asking the planner for permits, and telling it that their calls have ended (R2).

A permit is the answer to an ask that was appended to the inbox. It is usable until ask-sent + ``valid_s`` on *this*
process's monotonic clock, so a worker that was stopped in between finds its permit stale, whoever's clock is off.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from app.domain.errors import PermitDenied
from app.domain.messages import Answer, Ask, Offer, Returned, Told
from app.domain.model import INBOX_PARTITION, ConnectorFacts
from app.ports import BrokerUnavailable, Clock, Ended, Permit
from app.streams import internal
from app.streams.kafka import Publisher, Record

log = structlog.get_logger(__name__)
_COALESCE_S = 0.02
_GIVE_UP_S = 60.0


@dataclass(slots=True)
class PermitDesk:
    """All asks of this worker. ``worker`` is its name in the group."""

    publisher: Publisher
    inbox: str
    worker: str
    clock: Clock
    valid_s: float
    broker_now: Callable[[], int]
    _open: dict[str, tuple[asyncio.Future[Answer], int]] = field(default_factory=dict)
    _abandoned: dict[str, int] = field(default_factory=dict)
    _returns: dict[int, list[tuple[str, Ended | None]]] = field(default_factory=dict)
    _flusher: asyncio.Task[None] | None = None

    def of(self, offer: Offer) -> BoundPermits:
        """``ports.Permits`` bound to one leased step."""
        partition = INBOX_PARTITION[offer.connector.connector_type]

        def ask(ask_id: str, charge: str, data: bool) -> Ask:
            return Ask(ask_id, self.worker, offer.batch_id, offer.epoch, offer.step_no, charge, data)

        return BoundPermits(self, partition, ask)

    def without_fetch(self, connector: ConnectorFacts) -> BoundPermits:
        """``ports.Permits`` for calls that belong to no fetch, with a connector's grant and account. Of a connector
        that is yet to be made only type, grant and subject need to be known."""
        partition = INBOX_PARTITION[connector.connector_type]

        def ask(ask_id: str, charge: str, data: bool) -> Ask:
            return Ask(ask_id, self.worker, None, 0, 0, charge, data, connector)

        return BoundPermits(self, partition, ask)

    def on_answer(self, answer: Answer) -> None:
        """Called by the follower for every answer on ``connector.permits``."""
        if answer.worker != self.worker:
            return
        waiting = self._open.pop(answer.ask_id, None)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(answer)
            return
        partition = self._abandoned.pop(answer.ask_id, None)
        if partition is not None and answer.denied is None:
            self.give_back(answer.ask_id, partition)

    async def ask(self, partition: int, make: Callable[[str], Ask]) -> Permit:
        """One permit for what ``make`` makes of an ask id. Asks again when an answer stays away (the planner may have
        moved); gives up after a minute."""
        started = self.clock.monotonic()
        while self.clock.monotonic() - started < _GIVE_UP_S:
            sent = self.clock.monotonic()
            answer = await self._once(partition, make)
            if answer is None:
                continue
            if answer.denied in ("quota", "circuit"):
                raise PermitDenied(answer.denied, max(0.2, self._wait_ms(answer) / 1000))
            if answer.denied is not None:
                raise PermitDenied(answer.denied)
            return Permit(answer.ask_id, sent + self.valid_s)
        raise PermitDenied("quota", 5.0)

    def _wait_ms(self, answer: Answer) -> int:
        """By the planner's own reckoning; this machine's clock, which may be off, only where an older one gave none."""
        if answer.retry_in_ms is not None:
            return answer.retry_in_ms
        return (answer.retry_at or 0) - self.broker_now()

    async def _once(self, partition: int, make: Callable[[str], Ask]) -> Answer | None:
        ask_id = uuid.uuid4().hex
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[ask_id] = (future, partition)
        try:
            async with asyncio.timeout(self.valid_s):
                await self.publisher.send([Record(self.inbox, internal.dump(make(ask_id)), None, partition)])
                return await future
        except (TimeoutError, BrokerUnavailable):
            self._abandon(ask_id, partition)
            return None
        except BaseException:
            self._abandon(ask_id, partition)
            raise

    def _abandon(self, ask_id: str, partition: int) -> None:
        """An answer may still come: its permit must then go back unused."""
        if self._open.pop(ask_id, None) is not None:
            self._abandoned[ask_id] = partition
            while len(self._abandoned) > 10_000:
                self._abandoned.pop(next(iter(self._abandoned)))

    def give_back(self, ask_id: str, partition: int, ended: Ended | None = None) -> None:
        """Notes that a permit's call has ended; told to the planner within a few hundredths of a second."""
        self._returns.setdefault(partition, []).append((ask_id, ended))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self.flush())

    async def flush(self) -> None:
        """Sends what was given back. What cannot be told costs room until the permit's latest end, never more."""
        # What comes back while a record is being sent is told as well: nobody else would, until the next comes back.
        while True:
            await asyncio.sleep(_COALESCE_S)
            returns, self._returns = self._returns, {}
            if not returns:
                return
            records = [Record(self.inbox, internal.dump(_returned(ends)), None, p) for p, ends in returns.items()]
            try:
                await self.publisher.send(records)
            except BrokerUnavailable:
                log.warning("permits_not_returned", count=sum(map(len, returns.values())))


@dataclass(frozen=True, slots=True)
class BoundPermits:
    """``ports.Permits`` for one purpose: ``made`` makes its asks of ask id, charge and whether the answer is data."""

    desk: PermitDesk
    partition: int
    made: Callable[[str, str, bool], Ask]

    async def take(self, charge: str, *, data: bool = False) -> Permit:
        return await self.desk.ask(self.partition, lambda ask_id: self.made(ask_id, charge, data))

    def give_back(self, permit: Permit, ended: Ended | None = None) -> None:
        self.desk.give_back(permit.ask_id, self.partition, ended)


def _returned(ends: Sequence[tuple[str, Ended | None]]) -> Returned:
    known = [(ask_id, ended) for ask_id, ended in ends if ended is not None]
    return Returned(
        tuple(ask_id for ask_id, _ in ends),
        tuple((name, e.latency_ms, 2 if e.neutral else int(e.ok)) for name, e in known if e.ok is not None),
        tuple(name for name, ended in known if ended.left),
        tuple(Told(name, usage) for name, ended in known for usage in ended.usage),
        tuple((name, ended.error) for name, ended in known if ended.error),
    )
