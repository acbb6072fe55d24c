"""Intake's shell: command records in, inbox messages out. Stateless; its offset passes only what the broker has taken.

Everything it needs to know it reads: connectors from the replica, on a miss from PostgreSQL; old request ids from
PostgreSQL. While PostgreSQL is away a command that needs it waits here (the offset does not pass it), it is not
refused.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from app.domain import commands, identity, intake
from app.domain.commands import CancelCommand, Command
from app.domain.errors import Fault
from app.domain.intake import Refused
from app.domain.messages import Accept
from app.domain.model import INBOX_PARTITION, UNTYPED_PARTITION, Catalogue, ConnectorFacts
from app.domain.tracing import traceparent_of
from app.streams import codecs, faust_touches, internal, pace, wire
from app.streams.crash import CrashPoint, die
from app.streams.kafka import Publisher, Record
from app.streams.pace import Pace
from app.streams.topics import Names
from app.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)
FindConnector = Callable[[str], Awaitable[ConnectorFacts | None]]
KnownBodies = Callable[[Sequence[str]], Awaitable[Mapping[str, str]]]
OLD_MS = 3_000_000
"""The planner's marks last an hour. What may be older, ten minutes left for clocks, is looked up in PostgreSQL before
it counts as new (R10): a UUIDv7 made that long ago, an id that tells no time, and a record read again after so long."""


PORTION_BYTES = 2**20
"""Command records that are decoded and judged in one go; a larger one is a portion of its own."""


@dataclass(frozen=True, slots=True)
class Received:
    """One command record, decoded as far as it goes."""

    record: Any
    at: int
    command: Command | None
    partial: Mapping[str, Any]
    refused: Refused | None
    code: str

    @property
    def request_id(self) -> str | None:
        """The command's own id, or the one its place on the topic makes; None where it could not be read."""
        own = getattr(self.command, "request_id", None) or self.partial.get("request_id")
        if own is not None or self.command is None:
            return None if own is None else str(own)
        r = self.record
        return identity.command_request_id(r.topic, r.partition, r.offset, self.at)


class IntakeShell:
    """Decodes, asks ``domain.intake``, forwards."""

    def __init__(
        self, *, names: Names, publisher: Publisher, catalogue: Catalogue, replica: Mapping[str, ConnectorFacts],
        find_connector: FindConnector, known_bodies: KnownBodies, known_here: Callable[[str], bool],
        now: Callable[[], int], pace: Pace, crash: CrashPoint, metrics: Metrics,
        writers: AbstractSet[str] = frozenset(),
    ) -> None:  # fmt: skip
        self._names, self._publisher, self._catalogue, self._replica = names, publisher, catalogue, replica
        self._find_connector, self._known_bodies, self._crash = find_connector, known_bodies, crash
        self._known_here, self._now = known_here, now
        self._pace, self._metrics, self._writers = pace, metrics, writers

    async def run(self, stream: Any) -> None:
        """The agent's body."""
        async for events in faust_touches.take(stream, most=pace.EVERY):
            try:
                await self.handle([event.message for event in events])
            except asyncio.CancelledError:
                raise
            except BaseException:  # noqa: BLE001 - whatever it was, the process must end before the record counts as handled
                traceback.print_exc()
                die("intake failed")

    async def handle(self, records: Sequence[Any]) -> None:
        """Forwards a batch of command records; returns when the broker has all that came of them."""
        for some in _portions(records):
            await self._forward(some)

    async def _forward(self, records: Sequence[Any]) -> None:
        received = [self._read(r) for r in records]
        for item in received:
            self._metrics.commands_total.labels(type(item.command).__name__ if item.command else "unreadable").inc()
        connectors = await self._connectors(received)
        known = await self._old_ids(received)
        out: list[Record] = []
        for item in received:
            out += self._decide(item, connectors, known)
        if out:
            await self._pace.room()
            await self._publisher.send([*out, *self._pace.milestones(out)])
            self._crash("in_inbox")

    def _read(self, record: Any) -> Received:
        at = round(record.timestamp * 1000)
        try:
            raw = wire.decode_command(record.value)
        except wire.Undecodable as exc:
            kind = intake.REFUSAL_KIND.get(str(exc.partial.get("type", "fetch")), "fetch_failed")
            return Received(
                record, at, None, exc.partial, intake.refused(kind, (Fault(exc.code, "", exc.detail),)), exc.code
            )
        parsed = commands.parse(raw)
        if isinstance(parsed, tuple):
            kind = intake.REFUSAL_KIND.get(str(raw.get("type", "fetch")), "fetch_failed")
            return Received(record, at, None, wire.addresses(raw), intake.refused(kind, parsed), parsed[0].code)
        return Received(record, at, parsed, {}, None, "")

    async def _connectors(self, received: Sequence[Received]) -> dict[str, ConnectorFacts]:
        """Facts of every connector named; what the replica lacks is asked of PostgreSQL, for as long as it is away."""
        wanted = {c for item in received if (c := self._connector_id(item)) is not None}
        found = {c: self._replica[c] for c in wanted if c in self._replica}
        for connector_id in wanted - set(found):
            facts = await self._patiently("connector", partial(self._find_connector, connector_id))
            if facts is not None:
                found[connector_id] = facts
        return found

    @staticmethod
    def _connector_id(item: Received) -> str | None:
        own = item.command.connector_id if item.command is not None else item.partial.get("connector_id")
        return None if own is None else str(own)

    async def _old_ids(self, received: Sequence[Received]) -> Mapping[str, str]:
        """Body hashes of requests whose ids are too old for the planner to know."""
        old = [i for item in received if (i := item.request_id) is not None and self._is_old(item, i)]
        if not old:
            return {}
        found: Mapping[str, str] = await self._patiently("request history", partial(self._known_bodies, old))
        return found

    def _is_old(self, item: Received, request_id: str) -> bool:
        if isinstance(item.command, CancelCommand):
            return False
        from_its_place = item.command is not None and getattr(item.command, "request_id", None) is None
        made = item.at if from_its_place else identity.uuid7_millis(request_id)
        return made is None or max(item.at, self._now()) - min(made, item.at) > OLD_MS

    async def _patiently(self, what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Asks until there is an answer: with PostgreSQL away a command waits, it is neither refused nor dropped."""
        delay = 0.2
        while True:
            try:
                return await ask()
            except asyncio.CancelledError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever keeps the answer away, the command waits for it
                log.warning("intake_waits", on=what, error=type(exc).__name__)
                await asyncio.sleep(delay)
                delay = min(5.0, delay * 2)

    def _decide(
        self, item: Received, connectors: Mapping[str, ConnectorFacts], known: Mapping[str, str]
    ) -> list[Record]:
        connector = connectors.get(self._connector_id(item) or "")
        request_id = item.request_id
        if item.refused is not None or item.command is None or request_id is None:
            reasons = item.refused or intake.refused(None, (Fault("unreadable", "", "The command could not be read."),))
            return self._refuse(item, reasons, connector, known)
        verdict = intake.judge(
            item.command,
            request_id=request_id,
            accepted_at=item.at,
            connector=connector,
            catalogue=self._catalogue,
            today=intake.today_at(item.at),
            writers=self._writers,
            traceparent=_traceparent(item.record),
            source=(item.record.topic, item.record.partition, item.record.offset),
        )
        if isinstance(verdict, Refused):
            return self._refuse(item, verdict, connector, known)
        if isinstance(verdict, Accept):
            return self._accept(item, verdict, known)
        return [Record(self._names.planner, internal.dump(verdict), None, _inbox_of(connector))]

    def _accept(self, item: Received, accept: Accept, known: Mapping[str, str]) -> list[Record]:
        body = known.get(accept.request_id)
        if body == accept.body_hash:
            return []
        if body is not None:
            fault = Fault("idempotency_mismatch", "/request_id", "This id belongs to another request; use a new one.")
            return [self._dead(item, intake.refused(None, (fault,)))]
        return [Record(self._names.planner, internal.dump(accept), None, _inbox_of(accept.connector))]

    def _refuse(
        self, item: Received, reasons: Refused, connector: ConnectorFacts | None, known: Mapping[str, str]
    ) -> list[Record]:
        """To the dead-letter topic, and one event if the id can be read and belongs to no accepted request."""
        out = [self._dead(item, reasons)]
        request_id = item.request_id
        # Views come a moment after the planner's step: a refusal read in between still gets its event.
        if request_id is None or request_id in known or self._known_here(request_id):
            return out
        message = intake.refusal(
            reasons,
            request_id=request_id,
            value=item.record.value or b"",
            now=item.at,
            org_id=item.command.org_id if item.command is not None else item.partial.get("org_id"),
            connector_id=self._connector_id(item),
            connector=connector,
            command=item.command,
            traceparent=_traceparent(item.record),
        )
        if message is not None:
            out.append(Record(self._names.planner, internal.dump(message), None, _inbox_of(connector)))
        return out

    def _dead(self, item: Received, reasons: Refused) -> Record:
        r = item.record
        self._metrics.commands_refused_total.labels(reasons.code).inc()
        self._metrics.dlq_total.labels(reasons.code).inc()
        key, value, original = codecs.dead_letter(r.key, r.value, _headers(r))
        headers = codecs.dlq_headers(
            error_code=reasons.code,
            error_detail=reasons.detail,
            topic=r.topic,
            partition=r.partition,
            offset=r.offset,
            failed_at=item.at,
            original=original,
        )
        return Record(self._names.dlq, value, key, None, headers)


def _portions(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """In order, so few at a time that others of this process get their turn in between: rows to write take up to 0.2 s
    a megabyte, and there may be two hundred."""
    some: list[Any] = []
    size = 0
    for record in records:
        size += len(record.value or b"")
        if some and size > PORTION_BYTES:
            yield some
            some, size = [], len(record.value or b"")
        some.append(record)
    if some:
        yield some


def _inbox_of(connector: ConnectorFacts | None) -> int:
    """A row of a type that is not known here has no planner; what is said about it goes where the untyped goes."""
    return UNTYPED_PARTITION if connector is None else INBOX_PARTITION.get(connector.connector_type, UNTYPED_PARTITION)


def _headers(record: Any) -> list[tuple[str, bytes]]:
    raw = record.headers or []
    return list(raw.items()) if isinstance(raw, Mapping) else list(raw)


def _traceparent(record: Any) -> str | None:
    for name, value in _headers(record):
        if name == "traceparent":
            return traceparent_of(value)
    return None
