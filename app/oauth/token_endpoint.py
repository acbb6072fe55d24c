"""Calls to an OAuth token endpoint (RFC 6749, section 6), and what their answers mean.

The protocol is authlib's; the transport is aiohttp. No token, secret or text of the answer reaches an error: only the
answer's error code does, and only if it looks like one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.client import OAuth2Client

from app.domain.errors import ErrorClass, Failure, ProviderError
from app.oauth.breaker import Breaker, CircuitOpen
from app.ports import Clock

_BODY_LIMIT: Final = 65_536
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}", re.ASCII)
"""What may stand in a header."""
_LONGEST_S: Final = 400 * 86_400
_UNSAID_S: Final = 300.0
"""Lifetime of a token whose answer tells none."""
_TEMPORARY: Final = frozenset({"temporarily_unavailable", "server_error", "internal_failure"})
"""Error codes that mean *later*: RFC 6749 section 4.1.2.1, and Google's own."""
_OURS: Final = frozenset({"invalid_client", "unauthorized_client"})
"""Our client id or secret is wrong: nobody's authorisation is lost."""


class GrantRefused(Exception):
    """The endpoint says that the grant is dead (``invalid_grant``)."""


class EndpointAway(Exception):
    """No answer, or one of a server in trouble. Counts against the circuit."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token. ``lifetime_s`` from when the answer came; ``refresh_token`` only if a new one was sent."""

    access_token: str = field(repr=False)
    lifetime_s: float
    refresh_token: str | None = field(default=None, repr=False)


class TokenEndpoint:
    """One provider's token endpoint behind one circuit."""

    def __init__(
        self,
        name: str,
        url: str,
        client_id: str,
        client_secret: str,
        *,
        session: aiohttp.ClientSession,
        clock: Clock,
        timeout_s: float = 25.0,
        failure_threshold: int = 5,
        recovery_s: float = 30.0,
        success_threshold: int = 2,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._url = url
        self._client = (client_id, client_secret)
        self._session = session
        self.breaker = Breaker(
            f"the token endpoint of {name}",
            clock,
            failure_threshold=failure_threshold,
            recovery_s=recovery_s,
            success_threshold=success_threshold,
            neutral=(ProviderError, GrantRefused),
        )

    async def refresh(self, refresh_token: str) -> Issued:
        """A new access token, within ``timeout_s``. Raises ``GrantRefused`` or ``ProviderError``."""
        try:
            return await self.breaker.guard(lambda: self._refresh(refresh_token))
        except CircuitOpen as refused:
            raise ProviderError(_away("its circuit is open", refused.retry_in_s)) from None
        except EndpointAway as away:
            raise ProviderError(_away(str(away))) from None

    async def ask(
        self, session: aiohttp.ClientSession, url: str, client: tuple[str, str], refresh_token: str
    ) -> Mapping[str, Any]:
        """The endpoint's answer to a refresh with ``client`` (id, secret), as RFC 6749 has it. Raises ``OAuth2Error``
        for a refusal, aiohttp's errors, ``ValueError`` for no JSON object, and what ``refresh`` raises."""
        answer: Mapping[str, Any] = await _AiohttpClient(session, *client).refresh_token(
            url, refresh_token=refresh_token
        )
        return answer

    async def _refresh(self, refresh_token: str) -> Issued:
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self.ask(self._session, self._url, self._client, refresh_token)
        except OAuth2Error as error:
            # The authlib error holds the answer's own sentence, which may hold anything: it is not chained.
            raise _refusal(error.error) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EndpointAway(type(error).__name__) from None
        except ValueError:
            raise odd("is no JSON object") from None
        return _issued(answer, refresh_token)


class _Answer:
    """An aiohttp answer as authlib reads one."""

    def __init__(self, status_code: int, body: bytes) -> None:
        self.status_code = status_code
        self._body = body

    def json(self) -> Any:
        return orjson.loads(self._body)

    def raise_for_status(self) -> None:
        if self.status_code >= 500:
            raise EndpointAway(f"status {self.status_code}")
        if self.status_code >= 300:
            raise odd(f"has status {self.status_code}")


class _AiohttpClient(OAuth2Client):  # type: ignore[misc]
    """authlib's client, its requests as coroutines. Made anew for each call, because it keeps the token it got."""

    def __init__(self, session: aiohttp.ClientSession, client_id: str, client_secret: str) -> None:
        # Google takes the client's secret in the form only.
        super().__init__(session, client_id, client_secret, token_endpoint_auth_method="client_secret_post")  # noqa: S106

    async def _refresh_token(
        self, url: str, refresh_token: str, body: str, headers: dict[str, str], auth: Any, **_options: Any
    ) -> Mapping[str, Any]:
        del refresh_token
        answer = await self._http_post(url, body, auth, headers)
        token: Mapping[str, Any] = self.parse_response_token(answer)
        return token

    async def _http_post(
        self,
        url: str,
        body: str | None = None,
        auth: Any = None,
        headers: dict[str, str] | None = None,
        **_options: Any,
    ) -> _Answer:
        # The shared session does not decompress: ask for plain bytes.
        asked = {**(headers or {}), "Accept-Encoding": "identity"}
        url, asked, body = auth.prepare("POST", url, asked, body)
        async with self.session.post(url, data=body, headers=asked, allow_redirects=False) as response:
            content = await limited(response)
            if response.status == 429:
                raise throttled(response.headers.get("Retry-After", ""))
        answer = _Answer(response.status, content)
        if response.status < 400 and b'"error"' in content:
            raise odd("is a success and an error at once")
        return answer


async def limited(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer that must be short. Raises ``ProviderError``."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _BODY_LIMIT:
            raise odd("is too long")
    return bytes(content)


def _issued(answer: Mapping[str, Any], old_refresh_token: str) -> Issued:
    """The answer's token. Raises ``ProviderError`` for what is none: it must not replace a token that works."""
    token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise odd("holds no access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise odd("holds a token of another type")
    renewed = answer.get("refresh_token")
    if renewed is not None and (not isinstance(renewed, str) or not TOKEN.fullmatch(renewed)):
        raise odd("holds a broken refresh token")
    return Issued(token, _lifetime(answer.get("expires_in")), None if renewed == old_refresh_token else renewed)


def _lifetime(said: Any) -> float:
    if said is None:
        return _UNSAID_S
    if isinstance(said, str) and said.isdecimal() and len(said) < 10:
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said <= _LONGEST_S:
        raise odd("holds an impossible lifetime")
    return float(said)


def _refusal(code: Any) -> Exception:
    shown = code if isinstance(code, str) and _CODE.fullmatch(code) else "unnamed"
    if shown == "invalid_grant":
        return GrantRefused()
    if shown in _TEMPORARY:
        return EndpointAway(shown)
    if shown in _OURS:
        message = "the token endpoint does not accept this service's client id and secret"
        return ProviderError(authorisation("client_refused", message, shown, retry_after_s=300.0))
    return ProviderError(authorisation("token_refused", f"the token endpoint refuses: {shown}", shown))


def authorisation(code: str, message: str, provider_code: str, retry_after_s: float | None = None) -> Failure:
    """A refusal that does not say that the grant is dead; retryable if it has a time."""
    return Failure(
        ErrorClass.AUTHORISATION,
        code,
        message,
        retryable=retry_after_s is not None,
        provider_code=provider_code,
        retry_after_s=retry_after_s,
    )


def _away(why: str, retry_in_s: float | None = None) -> Failure:
    """A call that was not made says nothing new about the provider: it is no system failure."""
    return Failure(
        ErrorClass.PROVIDER_SYSTEM,
        "token_endpoint_unavailable",
        f"the token endpoint is away: {why}",
        retryable=True,
        retry_after_s=retry_in_s,
        system=retry_in_s is None,
    )


def odd(what: str) -> ProviderError:
    """The answer is not what it should be; ``what`` goes on after *answer*."""
    message = f"the token endpoint's answer {what}"
    return ProviderError(Failure(ErrorClass.PROVIDER_RESPONSE, "token_answer_invalid", message, retryable=True))


def throttled(retry_after: str) -> ProviderError:
    """*Not now*, for as long as the header says."""
    wait_s = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else 60.0
    message = "the token endpoint asks to wait"
    failure = Failure(ErrorClass.QUOTA, "token_endpoint_throttled", message, retryable=True, retry_after_s=wait_s)
    return ProviderError(failure)
