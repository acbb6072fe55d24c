"""The table ``connectors``: which accounts are connected, and with which grant."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from app.domain.model import INBOX_PARTITION, ConnectorFacts
from app.domain.zones import zone_of
from app.storage.postgres.database import Database
from app.storage.postgres.queries import statements
from app.storage.postgres.rows import text_of, uuid_of

if TYPE_CHECKING:
    from asyncpg import Record

    from app.storage.postgres.database import Connection

STATUSES: Final = frozenset({"pending", "connected", "paused", "reauthorise", "revoked", "error"})
_PAGE: Final = 5_000
_SQL: Final = statements("connectors")


class UnknownOrganization(LookupError):
    """There is no such organisation, and none may be made."""


class PostgresConnectorStore:
    """``ports.ConnectorStore``, and what changes connectors. Raises ``StoreUnavailable`` when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, connector_id: str) -> ConnectorFacts | None:
        """The connector, also a deleted one (``deleted``); None for an unknown id or text that is none."""
        key = uuid_of("conn", connector_id)
        if key is None:
            return None
        row = await self._database.run(lambda c: c.fetchrow(_SQL["find"], key))
        return None if row is None else _facts(row)

    async def list_for(self, org_id: int) -> Sequence[ConnectorFacts]:
        """The organisation's connectors that are not deleted, oldest first."""
        return await self._many("list_for", org_id)

    async def of_grant(self, grant_id: str) -> Sequence[ConnectorFacts]:
        """The connectors that use a grant, deleted ones left out."""
        return await self._many("of_grant", uuid_of("grant", grant_id))

    async def all_facts(self) -> list[ConnectorFacts]:
        """Every connector, deleted ones marked: the first filling of a replica."""
        found: list[ConnectorFacts] = []
        last = uuid.UUID(int=0)
        while True:
            page = await self._database.run(lambda c, last=last: c.fetch(_SQL["page"], last, _PAGE))  # type: ignore[misc]
            found += map(_facts, page)
            if len(page) < _PAGE:
                return found
            last = page[-1]["id"]

    async def set_status(self, connector_id: str, status: str) -> ConnectorFacts | None:
        """Changes the status and returns the connector; None for an unknown or deleted one."""
        if status not in STATUSES:
            raise ValueError(f"no status of a connector: {status}")
        key = uuid_of("conn", connector_id)
        await self._database.run(lambda c: c.execute(_SQL["set_status"], key, status))
        found = await self.find(connector_id)
        return None if found is None or found.deleted else found

    async def delete(self, org_id: int, connector_id: str) -> ConnectorFacts | None:
        """Deletes softly, and wipes its grant unless others use it. None: not a connector of this organisation."""
        key = uuid_of("conn", connector_id)

        async def work(connection: Connection) -> Record | None:
            async with connection.transaction():
                await connection.execute(_SQL["lock_organization"], org_id)
                await connection.execute(_SQL["delete"], key, org_id)
                row = await connection.fetchrow(_SQL["find"], key)
                if row is not None and row["deleted"]:
                    await connection.execute(_SQL["wipe_unused"], row["grant_id"])
                return row

        row = await self._database.run(work)
        return None if row is None or row["org_id"] != org_id else _facts(row)

    async def add(
        self,
        *,
        org_id: int,
        connector_type: str,
        account_id: str,
        provider: str,
        kind: str,
        subject: str | None,
        fingerprint: str,
        seal: Callable[[str], tuple[str, bytes]],
        scopes: Sequence[str] = (),
        time_zone: str = "UTC",
        currency: str | None = None,
        manager_id: str | None = None,
        create_organization: bool = True,
    ) -> list[ConnectorFacts]:
        """Stores grant and connector of an account in one transaction; a second time updates both.

        ``seal`` encrypts the credentials for a grant id: (key id, ciphertext). Without ``subject`` the grant is found
        by the credential's ``fingerprint``, else the account's own is updated if nobody shares it, else one is made.
        Returns the connector first, then those that go on because their shared grant was renewed.
        Raises ``UnknownOrganization``.
        """

        async def work(connection: Connection) -> list[ConnectorFacts]:
            async with connection.transaction():
                await _enter(connection, org_id, create=create_organization)
                former = await connection.fetchval(_SQL["grant_of_account"], org_id, connector_type, account_id)
                held = await connection.fetchrow(
                    _SQL["grant_for"], org_id, provider, subject, fingerprint, connector_type, account_id
                )
                grant = held["id"] if held else uuid.uuid4()
                known_as = held["subject"] if held else subject or fingerprint
                sealed = (fingerprint, *seal(text_of("grant", grant)))
                await connection.execute(
                    _SQL["put_grant"], grant, org_id, provider, known_as, kind, list(scopes), *sealed
                )
                pointer = {"grant_id": text_of("grant", grant)}
                key = await connection.fetchval(
                    _SQL["put_connector"], org_id, connector_type, account_id, grant, pointer, time_zone, currency,
                    manager_id,
                )  # fmt: skip
                await connection.execute(_SQL["revive"], grant)
                await connection.execute(_SQL["wipe_unused"], former)
                facts = [_facts(row) for row in await connection.fetch(_SQL["of_grant"], grant)]
            return sorted(facts, key=lambda one: one.connector_id != text_of("conn", key))

        return await self._database.run(work)

    async def _many(self, name: str, *arguments: Any) -> list[ConnectorFacts]:
        return [_facts(row) for row in await self._database.run(lambda c: c.fetch(_SQL[name], *arguments))]


async def _enter(connection: Connection, org_id: int, *, create: bool) -> None:
    if create:
        await connection.execute(_SQL["create_organization"], org_id)
    elif not await connection.fetchval(_SQL["organization_exists"], org_id):
        raise UnknownOrganization(f"there is no organisation {org_id}")
    await connection.execute(_SQL["lock_organization"], org_id)


def _facts(row: Record) -> ConnectorFacts:
    """A row with what we do not know, written by somebody else or a newer version, is a connector in error."""
    known = row["type"] in INBOX_PARTITION and zone_of(row["time_zone"]) is not None
    sound = known and row["status"] in STATUSES and row["grant_id"] is not None
    return ConnectorFacts(
        connector_id=text_of("conn", row["id"]),
        org_id=row["org_id"],
        connector_type=row["type"],
        account_id=row["account_id"] or "",
        grant_id=text_of("grant", row["grant_id"]),
        subject=row["subject"] or "",
        status=row["status"] if sound else "error",
        time_zone=row["time_zone"],
        currency=row["currency"],
        plan=row["plan"],
        deleted=row["deleted"],
        manager_id=row["manager_id"],
    )
