"""What the world must hear of connectors: their rows on ``connector.connectors``, and that an authorisation is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from app.domain import events
from app.domain.model import ConnectorFacts
from app.ports import BrokerUnavailable, Clock, EventSink
from app.streams import internal
from app.streams.kafka import Publisher, Record
from app.streams.topics import Names

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectorNews:
    """``of_grant`` gives the connectors of a grant as they are stored now; ``observe`` hears the type of each event
    that the broker has taken."""

    publisher: Publisher
    names: Names
    events: EventSink
    clock: Clock
    of_grant: Callable[[str], Awaitable[Sequence[ConnectorFacts]]]
    observe: Callable[[str], None] = lambda _type: None

    async def refused(self, org_id: int, grant_id: str, version: int) -> None:
        """The provider refuses a grant for good: intake must refuse its connectors' commands from now on, and their
        owners must hear that they have to sign in again. Once per ``version`` of the grant, however often it is told.

        What cannot be told now is logged and left: the store has it, each request that needs it fails with the reason.
        """
        records: list[Record] = []
        try:
            for facts in await self.of_grant(grant_id):
                records += [row(self.names, facts), self._revoked(facts, version)]
            await self.publisher.send(records)
            for _ in range(len(records) // 2):
                self.observe("oauth_revoked")
        except (BrokerUnavailable, OSError, TimeoutError) as exc:
            log.error("revocation_not_told", org_id=org_id, grant_id=grant_id, error=type(exc).__name__)

    def _revoked(self, facts: ConnectorFacts, version: int) -> Record:
        event = events.oauth_revoked(
            now=self.clock.now(), connector=facts, reason="invalid_grant", reconnect_url=None, occasion=version
        )
        key, value, headers = self.events.encode(event)
        return Record(self.names.events, value, key, None, headers)


def row(names: Names, facts: ConnectorFacts) -> Record:
    """A connector as workers follow it."""
    return Record(names.connectors, internal.dump_row(facts), facts.connector_id.encode())
