"""The one aiohttp session all providers are called through, and its two locks.

*Addresses*: names resolve once and the checked addresses are the ones connected to; an address that is not global is
refused unless its host name was listed. *Permits*: a request that runs under a ``Departure`` asks it after the
connection is there and before the first byte is written, so that waiting for a name server or a handshake cannot
outlive a permit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class StalePermit(Exception):
    """The permit ran out while the request waited for its connection; nothing was sent."""


class AlreadyDeparted(Exception):
    """aiohttp wanted to send the request again on a new connection: that needs a permit of its own."""


class Unpermitted(Exception):
    """A request without a permit; a fault of ours."""


class RefusedAddress(OSError):
    """A host name led to an address that may not be called."""


class Departure:
    """One permitted request: it may leave once, before ``usable_until`` of ``monotonic``."""

    def __init__(
        self,
        usable_until: float,
        monotonic: Callable[[], float],
        on_leave: Callable[[], None],
        on_sent: Callable[[], None],
    ) -> None:
        self._usable_until = usable_until
        self._monotonic = monotonic
        self._on_leave = on_leave
        self.sent = on_sent
        self.reused = False
        self._left = False

    def leave(self, *, reused: bool) -> None:
        """The last line before the socket; ``reused`` tells of a connection that carried a request before. Raises
        ``AlreadyDeparted`` or ``StalePermit``."""
        if self._left:
            raise AlreadyDeparted
        if self._monotonic() >= self._usable_until:
            raise StalePermit
        self._left = True
        self.reused = reused
        self._on_leave()


_USED: WeakSet[object] = WeakSet()
"""Connections that have carried a request."""

DEPARTURE: ContextVar[Departure | None] = ContextVar("departure", default=None)


class PermittedRequest(aiohttp.ClientRequest):
    """Asks the current departure between connecting and writing. Without one nothing leaves: every call counts."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        departure = DEPARTURE.get()
        if departure is None:
            raise Unpermitted
        departure.leave(reused=conn.protocol in _USED)
        _USED.add(conn.protocol)
        response = await super().send(conn)
        # A body is written by a task that has not had its first turn yet (aiohttp, Python < 3.12).
        await asyncio.sleep(0)
        departure.sent()
        return response


def is_global(address: str) -> bool:
    """Whether an IP address text may be called: global unicast, also when an IPv4 address hides in an IPv6 one."""
    parsed = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _TRANSLATED:
            return ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF).is_global
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return inner.is_global
    return parsed.is_global and not parsed.is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64 (RFC 6052): the last 32 bits are the IPv4 address that is really called."""


class CheckedResolver(AbstractResolver):
    """Resolves with ``inner`` and refuses a name unless every address of it is global, or the name is listed."""

    def __init__(self, inner: AbstractResolver, private_hosts: Collection[str]) -> None:
        self._inner = inner
        self._private_hosts = frozenset(host.lower() for host in private_hosts)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host.lower() in self._private_hosts:
            return found
        if not all(is_global(result["host"]) for result in found):
            raise RefusedAddress("the name leads to an address that is not global")
        return found

    async def close(self) -> None:
        await self._inner.close()


def provider_session(
    private_hosts: Collection[str] = (), *, resolver: AbstractResolver | None = None, connections: int = 200
) -> aiohttp.ClientSession:
    """The shared session; call it inside the running loop, close it at shutdown.

    ``private_hosts`` are the host names of providers with ALLOW_PRIVATE_HOSTS; only these may lead to private
    addresses. No proxy or netrc from the environment, no cookies, bodies left as they come (``body`` decodes within
    limits).
    """
    connector = aiohttp.TCPConnector(
        resolver=CheckedResolver(resolver or aiohttp.ThreadedResolver(), private_hosts),
        limit=connections,
        limit_per_host=0,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=PermittedRequest,
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )
