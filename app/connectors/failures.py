"""Failures that do not depend on the provider: transport, limits, answers that are not what was promised."""

from __future__ import annotations

import re
from collections.abc import Iterator

import aiohttp

from app.connectors.session import AlreadyDeparted, RefusedAddress
from app.domain.errors import ErrorClass, Failure, PermitDenied, ProviderError

_SECRET = re.compile(
    r"(?i)(bearer\s+|ttd-auth:\s*|access_token=|refresh_token=|fb_exchange_token=|client_secret=|x-goog-signature=|signature=)"
    r"[^\s&\"']+|ya29\.[^\s\"']+|\bEAA[A-Za-z0-9._-]{16,}"
)
# Control characters, and those that reorder or hide text on a screen (Unicode bidi controls, zero width).
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def shown(text: str, limit: int = 300) -> str:
    """Text of a provider, fit for logs and events: one line, no hidden characters, no credentials, ``limit``
    characters."""
    plain = starred(_HIDDEN.sub(" ", text[: limit * 4]))
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def starred(text: str) -> str:
    """The text with stars where a credential is known by what stands before it or by how it begins."""
    return _SECRET.sub(lambda match: (match.group(1) or "") + "***", text)


class TokenRefused(ProviderError):
    """An answer that refuses the token in its body, whatever its status: as a 401 is."""


def bad_response(code: str, message: str, *, retryable: bool = True, system: bool = False) -> ProviderError:
    """The body is not what was promised."""
    return ProviderError(Failure(ErrorClass.PROVIDER_RESPONSE, code, message, retryable, system=system))


def too_large(message: str) -> ProviderError:
    """A body beyond a set limit; asking again would not make it smaller."""
    return ProviderError(Failure(ErrorClass.TOO_LARGE, "response_too_large", message, retryable=False))


def truncated(message: str) -> ProviderError:
    """The connection ended before the body did: counts against the breaker (spec section 8)."""
    return ProviderError(Failure(ErrorClass.PROVIDER_SYSTEM, "truncated_body", message, retryable=True, system=True))


def report_failed(word: str) -> ProviderError:
    """The provider gave up on a report, in its own ``word`` and without a reason. One lost report says nothing about
    its health, so the breaker does not count it."""
    message = "the provider could not make the report"
    return ProviderError(
        Failure(
            ErrorClass.PROVIDER_SYSTEM, "report_failed", message, retryable=True, provider_code=word, remote_lost=True
        )
    )


def interrupted(denied: PermitDenied, made: int, most_calls: int) -> Exception:
    """What ends the reading of a list of pages that found no permit for its call number ``made``. A step that is handed
    back begins anew with the first page: where half of the ``most_calls`` that there are at once was not enough, that
    could go on for ever, and counts as an attempt."""
    if denied.reason != "quota" or made <= most_calls // 2:
        return denied
    message = f"reading was interrupted after {made - 1} pages: the account has no more calls at once"
    failure = Failure(ErrorClass.QUOTA, "report_too_long", message, retryable=True, retry_after_s=denied.retry_in_s)
    return ProviderError(failure)


def not_allowed(message: str) -> ProviderError:
    """An address that may not be called. Never retried: it would be the same address."""
    return ProviderError(Failure(ErrorClass.PROVIDER_RESPONSE, "host_not_allowed", message, retryable=False))


_TRANSPORT: tuple[tuple[type[BaseException], str, str], ...] = (
    (aiohttp.ConnectionTimeoutError, "connect_timeout", "no connection in time"),
    (aiohttp.SocketTimeoutError, "read_timeout", "the provider fell silent"),
    (aiohttp.ClientConnectorDNSError, "dns_failure", "the provider's name does not resolve"),
    (aiohttp.ClientSSLError, "tls_failure", "no trusted TLS connection"),
    (aiohttp.ClientConnectorError, "connect_failure", "no connection to the provider"),
    (aiohttp.ClientPayloadError, "truncated_body", "the answer ended early"),
    (aiohttp.ServerDisconnectedError, "connection_reset", "the provider closed the connection"),
    (aiohttp.ClientResponseError, "malformed_http", "the answer is not valid HTTP"),
    (aiohttp.ClientOSError, "connection_reset", "the connection broke"),
    (ConnectionError, "connection_reset", "the connection broke"),
    (AlreadyDeparted, "connection_reset", "the provider closed the connection"),
    (TimeoutError, "call_timeout", "the call took longer than its deadline"),
)
"""(exception, code, message), first match wins; subclasses stand before their bases."""


def transport_failure(error: BaseException) -> ProviderError:
    """Classifies what aiohttp or the socket raised. The error's own text is dropped: it may hold a signed URL."""
    if any(isinstance(link, RefusedAddress) for link in _chain(error)):
        return not_allowed("the host leads to an address that is not global")
    for kind, code, message in _TRANSPORT:
        if isinstance(error, kind):
            return _system(code, message)
    return _system("transport_failure", f"the call failed: {type(error).__name__}")


def _system(code: str, message: str) -> ProviderError:
    return ProviderError(Failure(ErrorClass.PROVIDER_SYSTEM, code, message, retryable=True, system=True))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        inner = getattr(link, "os_error", None)
        link = inner if isinstance(inner, RefusedAddress) else link.__cause__ or link.__context__
