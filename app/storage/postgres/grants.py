"""The table ``grants``: encrypted credentials, and who refreshes them.

A refresh is claimed by a committed compare-and-set of (version, refresh_started_at), then done without any lock or
connection, then finished by a second one. Time is PostgreSQL's own: the processes' clocks need not agree.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from app.storage.postgres.database import Database
from app.storage.postgres.queries import statements
from app.storage.postgres.rows import millis, moment, text_of, uuid_of

if TYPE_CHECKING:
    from asyncpg import Record

    from app.storage.postgres.database import Connection

_SQL: Final = statements("grants")


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One grant. ``kind`` is refresh_token, api_key or login; ``status`` active, reauthorise, revoked or replaced.

    ``generation`` counts credentials; ``refresh_age_s`` seconds since somebody claimed the refresh;
    ``access_expires_at`` ms.
    """

    org_id: int
    grant_id: str
    provider: str
    subject: str
    kind: str
    key_id: str
    ciphertext: bytes = field(repr=False)
    generation: int
    version: int
    status: str
    scopes: tuple[str, ...] = ()
    refresh_age_s: float | None = None
    access_expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to refresh one grant."""

    org_id: int
    grant_id: str
    version: int
    started_at: datetime


class PostgresGrantStore:
    """Grants. Raises ``StoreUnavailable`` when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, org_id: int, grant_id: str) -> GrantRow | None:
        """The grant; None when the organisation has none of this id."""
        key = uuid_of("grant", grant_id)
        row = await self._database.run(lambda c: c.fetchrow(_SQL["read"], key, org_id))
        return None if row is None else _grant(row)

    async def claim(self, org_id: int, grant_id: str, version: int, lease_s: float) -> Claim | None:
        """The right to refresh, unless the grant has moved on or somebody else has it for less than ``lease_s``.

        Not repeated when the answer is lost: the claim may stand, and then it ends with its lease.
        """
        key = uuid_of("grant", grant_id)
        started_at = await self._database.run(
            lambda c: c.fetchval(_SQL["claim"], key, org_id, version, lease_s), again=False
        )
        return None if started_at is None else Claim(org_id, grant_id, version, started_at)

    async def finish(
        self,
        claim: Claim,
        *,
        access_expires_at: int,
        sealed: tuple[str, bytes] | None = None,
        fingerprint: str | None = None,
    ) -> bool:
        """Ends a refresh that worked. ``access_expires_at`` ms; ``sealed`` (key id, ciphertext) of new credentials, if
        the provider sent some. False: the grant has moved on, and nothing was changed."""
        key_id, ciphertext = sealed or (None, None)
        arguments = (*_fence(claim), moment(access_expires_at), key_id, ciphertext, fingerprint)
        return await self._database.run(lambda c: c.fetchval(_SQL["finish"], *arguments), again=False) is not None

    async def release(self, claim: Claim) -> None:
        """Ends a refresh that did not work."""
        await self._database.run(lambda c: c.execute(_SQL["release"], *_fence(claim)))

    async def refuse(self, claim: Claim, status: str) -> bool:
        """Stops the grant and its connectors: ``revoked`` or ``reauthorise``. False: the grant has moved on."""

        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                key = await connection.fetchval(_SQL["refuse"], *_fence(claim), status)
                if key is not None:
                    await connection.execute(_SQL["stop_connectors"], key, status)
            return key is not None

        return await self._database.run(work, again=False)

    async def under_other_keys(self, key_id: str, after: str = "", limit: int = 500) -> Sequence[GrantRow]:
        """A page of grants that are encrypted with any other key, in order of id, after a grant id."""
        last = uuid_of("grant", after) or uuid.UUID(int=0)
        rows = await self._database.run(lambda c: c.fetch(_SQL["under_other_keys"], key_id, last, limit))
        return [
            GrantRow(row["org_id"], text_of("grant", row["id"]), "", "", "", row["key_id"], row["ciphertext"], 0, 0, "")
            for row in rows
        ]

    async def reseal(self, grant_id: str, old: bytes, key_id: str, ciphertext: bytes) -> bool:
        """Replaces a ciphertext by the same credentials under another key. False: it has changed meanwhile."""
        key = uuid_of("grant", grant_id)
        return await self._database.run(lambda c: c.fetchval(_SQL["reseal"], key, old, key_id, ciphertext)) is not None


def _fence(claim: Claim) -> tuple[Any, ...]:
    return uuid_of("grant", claim.grant_id), claim.org_id, claim.version, claim.started_at


def _grant(row: Record) -> GrantRow:
    return GrantRow(
        org_id=row["org_id"],
        grant_id=text_of("grant", row["id"]),
        provider=row["provider"],
        subject=row["subject"],
        kind=row["kind"],
        key_id=row["key_id"],
        ciphertext=row["ciphertext"],
        generation=row["generation"],
        version=row["version"],
        status=row["status"],
        scopes=tuple(row["scopes"]),
        refresh_age_s=row["refresh_age_s"],
        access_expires_at=millis(row["access_expires_at"]),
    )
