"""The pool, and how long anything may take.

asyncpg waits without end by default: for a connection of the pool, for a server that accepts and says nothing. Every
step has a deadline here, and what PostgreSQL's absence looks like is one exception.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import orjson

if TYPE_CHECKING:
    from app.config_sections import Postgres

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")

_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.InternalClientError,
)
"""Server away, going away, full, silent, or somebody holds the lock: worth trying again later."""


class StoreUnavailable(ConnectionError):
    """PostgreSQL did not answer in time; for a write nothing is known. Also a builtin ``ConnectionError``."""


def to_json(value: Any) -> str:
    """JSON text that jsonb takes: it has no NUL, so the replacement character stands for it."""
    return _NUL.sub(rb"\1\\ufffd", orjson.dumps(value)).decode()


def plain(text: str | None) -> str | None:
    """Text that PostgreSQL takes."""
    return None if text is None else text.replace("\0", "\ufffd")


class Database:
    """A pool that opens its first connection when it is first needed. Close it at shutdown."""

    def __init__(self, settings: Postgres) -> None:
        self._settings = settings
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool. Raises ``StoreUnavailable``, also when PostgreSQL leaves while it is used."""
        try:
            pool = await self._opened()
            async with pool.acquire(timeout=self._settings.acquire_timeout_s) as connection:
                yield connection
        except _AWAY as error:
            raise StoreUnavailable(f"PostgreSQL is away ({type(error).__name__})") from error

    async def run(self, work: Callable[[Connection], Coroutine[Any, Any, T]], *, again: bool = True) -> T:
        """``work`` on a connection, within all deadlines together. ``again``: it may be repeated once, because a pooled
        connection may have died unnoticed. Raises ``StoreUnavailable``."""
        try:
            return await self._once(work)
        except StoreUnavailable as error:
            if not again or isinstance(error.__cause__, TimeoutError):
                raise
        return await self._once(work)

    async def check(self) -> None:
        """Raises ``StoreUnavailable`` unless PostgreSQL answers."""
        await self.run(lambda connection: connection.fetchval("SELECT 1"))

    async def close(self) -> None:
        """Ends the pool; connections in use have one command's time to come back."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), self._settings.command_timeout_s)
        except (*_AWAY, asyncpg.PostgresError):
            pool.terminate()

    async def _once(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        settings = self._settings
        limit = settings.acquire_timeout_s + settings.command_timeout_s
        try:
            async with asyncio.timeout(limit), self.connection() as connection:
                return await work(connection)
        except TimeoutError as error:
            raise StoreUnavailable("PostgreSQL took too long") from error

    async def _opened(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                settings = self._settings
                # min_size 0: a start without PostgreSQL succeeds, and later calls find it.
                self._pool = await asyncpg.create_pool(
                    settings.dsn.get_secret_value(),
                    min_size=0,
                    max_size=settings.pool_size,
                    timeout=settings.connect_timeout_s,
                    command_timeout=settings.command_timeout_s,
                    max_inactive_connection_lifetime=60.0,
                    init=_codecs,
                    server_settings=_limits(settings),
                )
            return self._pool


def _limits(settings: Postgres) -> dict[str, str]:
    """The server's own limits: it must not work on for a client that has given up."""
    limit_ms = str(int(settings.command_timeout_s * 1000))
    return {
        "application_name": "connector-service",
        "statement_timeout": limit_ms,
        "lock_timeout": limit_ms,
        "idle_in_transaction_session_timeout": limit_ms,
    }


async def _codecs(connection: Any) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=to_json, decoder=orjson.loads)
