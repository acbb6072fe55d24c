"""Which links may be called: the list decides, then the address, and no spelling gets around either."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from app.connectors.hosts import Hosts, checked
from app.connectors.session import CheckedResolver, RefusedAddress, Unpermitted, is_global, provider_session
from app.domain.errors import ProviderError
from tests.connectors.support import calling, server

REAL = Hosts(
    api=("https://doubleclickbidmanager.googleapis.com/v2/",),
    downloads=("storage.googleapis.com", "files.example.com:8443"),
)

PRIVATE = [
    "127.0.0.1", "0.0.0.1", "10.0.0.8", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_inside(address: str) -> None:
    assert not is_global(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "142.250.1.207", "2a00:1450:4003::1", "64:ff9b::808:808"])
def test_addresses_outside(address: str) -> None:
    assert is_global(address)


@pytest.mark.parametrize(
    "link",
    [
        "https://storage.googleapis.com/bucket/report.csv?X-Goog-Signature=ab%2Fcd",
        "https://storage.googleapis.com:443/bucket/report.csv",
        "https://files.example.com:8443/a",
        "https://doubleclickbidmanager.googleapis.com/v2/queries",
    ],
)
def test_listed_links_are_called_as_given(link: str) -> None:
    url = checked(link, REAL, authorised=False)
    assert str(url).replace(":443", "") == link.replace(":443", "")


@pytest.mark.parametrize(
    "link",
    [
        "http://storage.googleapis.com/a",
        "https://storage.googleapis.com:8443/a",
        "https://files.example.com/a",
        "https://files.example.com:443/a",
        "https://storage.googleapis.com.evil.example/a",
        "https://evil.example/storage.googleapis.com",
        "https://storage.googleapis.com@evil.example/a",
        "https://user:pass@storage.googleapis.com/a",
        "https://storage.googleapis.com\\@evil.example/a",
        "https://evil.example#@storage.googleapis.com/",
        "https://evil.example?storage.googleapis.com",
        "https://storage.googleapis.com%2eevil.example/a",
        "https://storage.googleapis.com\r\nHost: evil/a",
        "https://storage.googleapis.com/a b",
        "https://ſtorage.googleapis.com/a",
        "//storage.googleapis.com/a",
        "storage.googleapis.com/a",
        "file:///etc/passwd",
        "gopher://storage.googleapis.com/a",
        "https://storage.googleapis.com:99999/a",
        "https://storage.googleapis.com:x/a",
        "https:///a",
        "https://[::1]/a",
        "",
        "https://storage.googleapis.com/" + "a" * 9_000,
        *(f"https://{address}/a" for address in PRIVATE if ":" not in address),
        *(f"https://{spelling}/a" for spelling in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost")),
    ],
)
def test_everything_else_is_refused(link: str) -> None:
    for authorised in (True, False):
        with pytest.raises(ProviderError) as caught:
            checked(link, REAL, authorised=authorised)
        assert caught.value.failure.code == "host_not_allowed"
        assert not caught.value.failure.retryable
        assert "evil" not in caught.value.failure.message


def test_only_the_api_gets_a_token() -> None:
    with pytest.raises(ProviderError):
        checked("https://storage.googleapis.com/a", REAL, authorised=True)
    assert checked("https://doubleclickbidmanager.googleapis.com/v2/q", REAL, authorised=True).path == "/v2/q"


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
def test_a_listed_private_address_still_needs_permission(address: str) -> None:
    for allowed in (False, True):
        hosts = Hosts(api=(), downloads=(f"{address}:443",), allow_private=allowed)
        if allowed:
            assert checked(f"https://{address}/a", hosts, authorised=False).port == 443
        else:
            with pytest.raises(ProviderError):
                checked(f"https://{address}/a", hosts, authorised=False)


def test_private_names_are_none_unless_allowed() -> None:
    assert REAL.private_names() == ()
    local = Hosts(api=("http://sandbox:1/v2/",), downloads=("store:2", "[::1]:3"), allow_private=True)
    assert local.private_names() == ("sandbox", "store", "::1")


class Fixed(AbstractResolver):
    """A name server that always says the same."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for address in self.addresses
        ]

    async def close(self) -> None:
        return


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::ffff:127.0.0.1",)])
async def test_names_that_lead_inside_are_refused(addresses: tuple[str, ...]) -> None:
    with pytest.raises(RefusedAddress):
        await CheckedResolver(Fixed(*addresses), ()).resolve("storage.googleapis.com", 443)
    assert await CheckedResolver(Fixed(*addresses), ("Storage.googleapis.com",)).resolve("storage.googleapis.com", 443)


async def test_a_listed_name_that_leads_inside_is_never_connected_to() -> None:
    """The name is allowed, its address is this machine: no connection may arrive."""
    arrived: list[Any] = []
    listening = await asyncio.start_server(lambda reader, writer: arrived.append(writer), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    hosts = Hosts(api=(), downloads=(f"rebound.example:{port}",))
    async with (
        provider_session(resolver=Fixed("127.0.0.1")) as session,
        calling(not_called, session=session, hosts=hosts) as setting,
    ):
        link = f"https://rebound.example:{port}/"
        with pytest.raises(ProviderError) as caught:
            await setting.calls.request("GET", link, charge="downloads", authorised=False)
    listening.close()
    assert caught.value.failure.code == "host_not_allowed"
    assert not caught.value.failure.retryable
    assert arrived == []
    assert (setting.calls.made, setting.permits.outstanding) == (0, [])


async def not_called(request: web.Request) -> web.StreamResponse:
    raise AssertionError("nobody may call this")


async def test_the_session_lets_no_request_out_that_has_no_permit() -> None:
    async with server(not_called) as base, provider_session(["127.0.0.1"]) as session:
        with pytest.raises(Unpermitted):
            await session.get(base)
