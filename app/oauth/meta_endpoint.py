"""Meta's token endpoint, which has no refresh: a long-lived user token is exchanged for a new one while it is valid.

The token in the vault is the one that is sent, so that what the answer holds is both, the access token and the
credential that follows. An expired token cannot be exchanged, nor one that the user has withdrawn: then the grant has
ended. That the old token goes on working after an exchange is assumed; nothing depends on it but workers that still
hold it, and those get the new one at their first refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson
from authlib.oauth2.base import OAuth2Error

from app.oauth.token_endpoint import EndpointAway, TokenEndpoint, limited, throttled

_DAY_S: Final = 86_400
_DEAD: Final = frozenset({190, 102})
"""Expired, password changed, application removed, invalid."""
_THROTTLED: Final = frozenset({4, 17, 32, 613})
_LATER: Final = frozenset({1, 2})


class MetaTokenEndpoint(TokenEndpoint):
    """``oauth/access_token`` with ``grant_type=fb_exchange_token``."""

    async def ask(
        self, session: aiohttp.ClientSession, url: str, client: tuple[str, str], refresh_token: str
    ) -> Mapping[str, Any]:
        """The exchange, in the words of RFC 6749."""
        # Documented as a GET only. So secrets stand in this URL, and it is told to nobody: the error of a call that
        # fails is replaced by its type's name.
        query = {
            "grant_type": "fb_exchange_token",
            "client_id": client[0],
            "client_secret": client[1],
            "fb_exchange_token": refresh_token,
        }
        plain = {"Accept-Encoding": "identity"}  # the shared session does not decompress
        async with session.get(url, params=query, headers=plain, allow_redirects=False) as response:
            content = await limited(response)
            if response.status == 429:
                raise throttled(response.headers.get("Retry-After", ""))
        found = _object(content)
        _refuse(found.get("error") if found else None, response.status)
        if found is None or response.status != 200:
            raise ValueError("no JSON object")
        token = found.get("access_token")
        # A lifetime is in every documented answer; without one the token is renewed daily.
        return {"expires_in": _DAY_S, **found, "refresh_token": token}


def _refuse(error: Any, status: int) -> None:
    """Raises what an error means; the codes are those of every Graph call."""
    code = error.get("code") if isinstance(error, dict) else None
    if code in _DEAD:
        raise OAuth2Error(error="invalid_grant")
    if code in _THROTTLED:
        raise throttled("")
    if status >= 500 or code in _LATER or (isinstance(error, dict) and error.get("is_transient") is True):
        raise EndpointAway(f"status {status}")
    if error is not None:
        raise OAuth2Error(error=f"meta_{code}" if isinstance(code, int) and code >= 0 else "unnamed")


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
