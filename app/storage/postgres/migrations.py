"""Brings a database to the newest schema: plain ``.sql`` files in pogo's format, applied in order, each once.

Several processes may do so at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from pogo_core.migration import topological_sort
from pogo_core.util import migrate as pogo
from pogo_core.util import sql as pogo_sql

from app.storage.postgres.database import StoreUnavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FOLDER = Path(__file__).parent / "sql" / "migrations"

_LOCK = 0x636F6E6E
"""Any constant: two processes that migrate take the same advisory lock."""


async def migrate(dsn: str, *, timeout_s: float = 300.0) -> list[str]:
    """Applies what is pending and returns its names; waits for another process that migrates at this moment.

    Raises ``StoreUnavailable``, or pogo's ``BadMigrationError`` when a file cannot be applied.
    """
    async with _connection(dsn, timeout_s) as connection:
        # pogo takes no lock: two at once would both create its own tables, and one of them would fail.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        names = await _pending(connection)
        if names:
            await pogo.apply(connection, FOLDER, schema_name="public")
        return names


async def pending(dsn: str, *, timeout_s: float = 10.0) -> list[str]:
    """Names of the migrations that were not applied yet, in order. Changes nothing. Raises ``StoreUnavailable``."""
    async with _connection(dsn, timeout_s) as connection:
        return await _pending(connection)


async def _pending(connection: Connection) -> list[str]:
    begun = await connection.fetchval("SELECT to_regclass('public._pogo_migration') IS NOT NULL")
    done = await pogo_sql.get_applied_migrations(connection, schema_name="public") if begun else set()
    found = await pogo_sql.read_migrations(FOLDER, None, schema_name="public")
    return [m.id for m in topological_sort(m.load() for m in sorted(found, key=lambda m: m.id)) if m.id not in done]


@asynccontextmanager
async def _connection(dsn: str, timeout_s: float) -> AsyncIterator[Connection]:
    try:
        connection = await asyncpg.connect(dsn, timeout=min(timeout_s, 10.0), command_timeout=timeout_s)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"PostgreSQL is away ({type(error).__name__})") from None
    try:
        yield connection
    finally:
        # Ends the session, and with it the advisory lock.
        await connection.close(timeout=5.0)
