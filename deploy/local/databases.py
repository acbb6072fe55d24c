"""Makes and drops databases on a PostgreSQL server, for its first start and for tests that want one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_LIMIT_S = 20.0
_MAINTENANCE = "postgres"


def with_database(dsn: str, name: str) -> str:
    """The same server and user, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def ensure(dsn: str) -> None:
    """Creates the database that the DSN names unless it exists.

    Raises:
        OSError, asyncpg.PostgresError: the server does not answer or refuses.
    """
    name = urlsplit(dsn).path.lstrip("/")

    async def act(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')

    _on_server(dsn, act)


def create(dsn: str, name: str) -> str:
    """Creates an empty database beside the DSN's own; returns the DSN of the new one."""
    _on_server(dsn, lambda connection: connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    return with_database(dsn, name)


def drop(dsn: str, name: str) -> None:
    """Drops a database and throws out whoever is still connected to it."""
    _on_server(dsn, lambda connection: connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def _on_server(dsn: str, act: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[object]]) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(with_database(dsn, _MAINTENANCE), timeout=_LIMIT_S)
        try:
            await act(connection)
        finally:
            await connection.close(timeout=_LIMIT_S)

    run_apart(run())


def run_apart(work: Coroutine[object, object, object]) -> None:
    """Runs a coroutine to its end on a thread of its own: the caller's may have a running or a prepared event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
