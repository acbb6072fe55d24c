"""Asks a server, in its own protocol, whether it serves. A port that is merely open does not count."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import redis

from deploy.local import databases

_CALL_LIMIT_S: Final = 2.0
_FIND_COORDINATOR: Final = 10
_GROUP, _TRANSACTION = 0, 1


class NotReady(Exception):
    """The server does not serve yet; the text is its own reason."""


def kafka(address: str) -> None:
    """Ready when the broker names coordinators for groups and for transactions, whose topics it creates on the way.

    Raises:
        NotReady: it does not answer, or has no coordinator yet.
    """
    host, _, port = address.split(",", maxsplit=1)[0].strip().rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _CALL_LIMIT_S) as connection:
            connection.settimeout(_CALL_LIMIT_S)
            for kind in (_GROUP, _TRANSACTION):
                error = _coordinator_error(connection, kind)
                if error:
                    raise NotReady(f"no coordinator yet (Kafka error {error})")
    except (OSError, struct.error) as error:
        raise NotReady(str(error) or type(error).__name__) from error


def _coordinator_error(connection: socket.socket, kind: int) -> int:
    """Kafka's FindCoordinator, version 2; returns the error code of the answer, 0 for none."""
    client, key = b"ready", b"ready"
    header = struct.pack(">hhih", _FIND_COORDINATOR, 2, kind, len(client)) + client
    body = header + struct.pack(">h", len(key)) + key + struct.pack(">b", kind)
    connection.sendall(struct.pack(">i", len(body)) + body)
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    _correlation, _throttle_ms, error = struct.unpack_from(">iih", _exactly(connection, size))
    return int(error)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError("the connection was closed")
        parts += part
    return parts


def postgres(dsn: str) -> None:
    """Ready when a query is answered.

    Raises:
        NotReady: it does not answer, or refuses.
    """

    async def ask() -> None:
        connection = await asyncpg.connect(dsn, timeout=_CALL_LIMIT_S)
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close(timeout=_CALL_LIMIT_S)

    _translated(lambda: databases.run_apart(ask()))


def postgres_with_database(dsn: str) -> None:
    """As ``postgres``, and creates the database of the DSN where it is missing.

    Raises:
        NotReady: it does not answer, or refuses.
    """
    _translated(lambda: databases.ensure(dsn))


def _translated(act: Callable[[], None]) -> None:
    try:
        act()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady(str(error) or type(error).__name__) from error


def redis_server(url: str) -> None:
    """Ready when a PING is answered.

    Raises:
        NotReady: it does not answer, or is still loading its data.
    """
    client = redis.Redis.from_url(url, socket_timeout=_CALL_LIMIT_S, socket_connect_timeout=_CALL_LIMIT_S)
    try:
        client.ping()
    except redis.RedisError as error:
        raise NotReady(f"{urlsplit(url).hostname} does not answer: {type(error).__name__}") from error
    finally:
        client.close()
