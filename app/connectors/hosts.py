"""Which URLs a provider's connector may call, and which of them may see its token."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from yarl import URL

from app.connectors.failures import not_allowed
from app.connectors.session import is_global
from app.domain.errors import ProviderError

_DEFAULT_PORT = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Hosts:
    """``api`` base URLs (the only ones that get a token); ``downloads`` entries ``host`` or ``host:port`` (without a
    port only the scheme's own); ``allow_private`` permits http and private addresses, for the sandbox.
    ``token_header`` carries the bare token where the provider wants that in place of ``Authorization: Bearer``."""

    api: tuple[str, ...]
    downloads: tuple[str, ...] = ()
    allow_private: bool = False
    token_header: str = ""

    def credentials(self, token: str) -> dict[str, str]:
        """The header that a call with a token has."""
        return {self.token_header: token} if self.token_header else {"Authorization": f"Bearer {token}"}

    def private_names(self) -> tuple[str, ...]:
        """Host names that ``session.provider_session`` must let resolve to private addresses; none unless allowed."""
        if not self.allow_private:
            return ()
        names = [URL(base).host for base in self.api] + [_split(entry)[0] for entry in self.downloads]
        return tuple(name for name in names if name)


def same_origin(link: str, base: str) -> bool:
    """Whether a link leads to where ``base`` does; False for a text that is no URL."""
    try:
        return _origin(_parsed(link)) == _origin(URL(base))
    except ProviderError:
        return False


def checked(text: str, hosts: Hosts, *, authorised: bool) -> URL:
    """The URL to call, exactly as given. Raises ``ProviderError`` host_not_allowed; the message names no part of it."""
    url = _parsed(text)
    schemes = ("https", "http") if hosts.allow_private else ("https",)
    if url.scheme not in schemes or not url.host:
        raise not_allowed("only absolute https links may be called")
    if url.user is not None or url.password is not None:
        raise not_allowed("a link may not carry a user or password")
    if not _listed(url, hosts, authorised):
        raise not_allowed("the link leads to a host that is not listed for this provider")
    if not hosts.allow_private and not _literal_is_global(url.host):
        raise not_allowed("the link leads to an address that is not global")
    return url


def _parsed(text: str) -> URL:
    if len(text) > 8192 or not text.isascii() or any(character <= " " or character in "\\\x7f" for character in text):
        raise not_allowed("the link holds characters that no link has")
    try:
        # Encoded as it is: quoting it again would break the signature of a signed link.
        url = URL(text, encoded=True)
        _ = url.port
    except ValueError:
        raise not_allowed("the link is no URL") from None
    return url


def _listed(url: URL, hosts: Hosts, authorised: bool) -> bool:
    if any(_origin(url) == _origin(URL(base)) for base in hosts.api):
        return True
    return not authorised and _matches(url, hosts.downloads)


def _matches(url: URL, entries: Iterable[str]) -> bool:
    for host, port in map(_split, entries):
        wanted = _DEFAULT_PORT.get(url.scheme) if port is None else port
        if url.host == host and url.port == wanted:
            return True
    return False


def _split(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.strip().lower().rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return host.strip("[]"), int(port)
    return entry.strip().lower().strip("[]"), None


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


def _literal_is_global(host: str) -> bool:
    """True for names: those are judged when they resolve. aiohttp asks no resolver for addresses, so they are judged
    here."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return is_global(host)
