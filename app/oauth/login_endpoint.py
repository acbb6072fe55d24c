"""Logins at The Trade Desk: ``POST authentication`` makes a token of at most a day from a user's name and password.

There is nothing to refresh and nothing to revoke: when the token has ended, the login is made again. The endpoint is
rate limited itself, so tokens are cached and shared like those of any grant. No name, password or text of the answer
reaches an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import orjson

from app.domain.errors import ProviderError
from app.oauth.token_endpoint import (
    TOKEN,
    EndpointAway,
    GrantRefused,
    Issued,
    TokenEndpoint,
    authorisation,
    limited,
    odd,
    throttled,
)
from app.ports import Clock

MINUTES: Final = 1_440
"""The longest life of a token, which is asked for."""
_EXPIRY: Final = ("ExpirationDateUtc", "ExpirationDate")
"""Sources differ in the name; which zone the second is in is assumed."""


class LoginEndpoint(TokenEndpoint):
    """``TokenEndpoint`` whose secret is JSON of ``login`` and ``password``. ``url`` is that of the call itself."""

    def __init__(self, name: str, url: str, *, session: aiohttp.ClientSession, clock: Clock, **limits: Any) -> None:
        super().__init__(name, url, "", "", session=session, clock=clock, **limits)
        self._clock = clock

    async def _refresh(self, secret: str) -> Issued:
        body = _body(secret)
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                # The shared session does not decompress: ask for plain bytes.
                self._session.post(
                    self._url, json=body, headers={"Accept-Encoding": "identity"}, allow_redirects=False
                ) as response,
            ):
                content = await limited(response)
                _check(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EndpointAway(type(error).__name__) from None
        return _issued(content, self._clock.now())


def _body(secret: str) -> Mapping[str, Any]:
    """What is sent. A secret of another form can only be our own fault, and is not quoted."""
    try:
        parts = orjson.loads(secret)
        return {"Login": parts["login"], "Password": parts["password"], "TokenExpirationInMinutes": MINUTES}
    except (ValueError, KeyError, TypeError):
        message = "the stored credential is no login and password"
    raise ProviderError(authorisation("credential_unreadable", message, "none"))


def _check(response: aiohttp.ClientResponse) -> None:
    """Raises for what is no success. That 401 means a wrong name or password is assumed: it is the one refusal that
    ends the grant, any other leaves it as it is."""
    status = response.status
    if status == 401:
        raise GrantRefused
    if status == 429:
        raise throttled(response.headers.get("Retry-After", ""))
    if status >= 500:
        raise EndpointAway(f"status {status}")
    if status >= 400:
        raise ProviderError(authorisation("token_refused", f"the login is refused: status {status}", str(status)))
    if status != 200:
        raise odd(f"has status {status}")


def _issued(content: bytes, now: int) -> Issued:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = None
    token = answer.get("Token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise odd("holds no token")
    return Issued(token, _lifetime_s(answer, now))


def _lifetime_s(answer: Mapping[str, Any], now: int) -> float:
    """Until the end that is told, at most what was asked for; that, if none can be read."""
    told = next((answer[name] for name in _EXPIRY if name in answer), None)
    try:
        end = datetime.fromisoformat(str(told))
    except ValueError:
        return MINUTES * 60.0
    left_s = (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - now / 1000
    if left_s <= 0:
        raise odd("holds a token that has ended")
    return min(left_s, MINUTES * 60.0)
