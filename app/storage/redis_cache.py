"""Redis as a cache: what it holds can be lost at any moment, and nobody waits for it.

Every command has one deadline, connecting included (the client's own limits stretch over its retries). After a failure
Redis is left alone for a second, so that a silent server costs one caller its deadline and not all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.ports import Clock

T = TypeVar("T")

_PAUSE_S: Final = 1.0


class CacheUnavailable(ConnectionError):
    """Redis did not answer in time. Also a builtin ``ConnectionError``."""


class RedisCache:
    """Bytes by key, each with its time to live. ``url`` may hold a password; it appears nowhere."""

    def __init__(self, url: str, clock: Clock, *, timeout_s: float = 1.0) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._away_until = 0.0
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=50,
        )

    async def get(self, key: str) -> bytes | None:
        """The value, or None: never put, over, or Redis away."""
        try:
            found = await self._within(lambda: self._redis.get(key))
        except CacheUnavailable:
            return None
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Keeps a value for ``ttl_s``. False: Redis is away, full or read-only, and nothing was kept."""
        if ttl_s <= 0:
            return False
        try:
            await self._within(lambda: self._redis.set(key, value, px=max(1, int(ttl_s * 1000))))
        except CacheUnavailable:
            return False
        return True

    async def drop(self, key: str) -> bool:
        """Forgets a value. False: Redis is away and it may still be there."""
        try:
            await self._within(lambda: self._redis.delete(key))
        except CacheUnavailable:
            return False
        return True

    async def check(self) -> None:
        """Raises ``CacheUnavailable`` unless Redis answers now."""
        self._away_until = 0.0
        await self._within(self._redis.ping)

    async def close(self) -> None:
        """Ends the connections."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.aclose()
        except (RedisError, OSError, TimeoutError):
            return

    async def _within(self, command: Callable[[], Awaitable[T]]) -> T:
        if self._clock.monotonic() < self._away_until:
            raise CacheUnavailable("Redis is away")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command()
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            # ValueError: the client's parser, for a peer that is no Redis.
            self._away_until = self._clock.monotonic() + _PAUSE_S
            # The client's text may hold the address with its password.
            raise CacheUnavailable(f"Redis is away ({type(error).__name__})") from None
