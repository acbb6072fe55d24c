"""Consents, codes and tokens of Google users. Tokens describe and sign themselves, so they outlive a restart.

A consent has a generation: revoking a user's grant kills every token of the generations so far, a new consent by the
code flow starts the next one. ``now`` is unix seconds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

REPORTS_SCOPE = "https://www.googleapis.com/auth/doubleclickbidmanager"
ENTITIES_SCOPE = "https://www.googleapis.com/auth/display-video"
ADS_SCOPE = "https://www.googleapis.com/auth/adwords"
SHEETS_SCOPE = "https://www.googleapis.com/auth/spreadsheets"
SHEETS_READ_SCOPE = f"{SHEETS_SCOPE}.readonly"
ALL_SCOPES = f"{REPORTS_SCOPE} {ENTITIES_SCOPE} {ADS_SCOPE} {SHEETS_SCOPE}"
CODE_SECONDS = 600

_REFRESH = re.compile(r"1//sandbox-(?P<user>.+?)(?:\.g(?P<generation>\d+))?")
_ACCESS_PREFIX, _CODE_PREFIX = "ya29.", "4/"


class OAuthError(Exception):
    """The token endpoint's answer when it refuses: ``status`` HTTP, ``error`` and ``description`` of RFC 6749."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says of itself. ``expires_at`` unix seconds."""

    application: str
    user: str
    generation: int
    scope: str
    expires_at: float


@dataclass(slots=True)
class OAuthState:
    """``key`` signs tokens. ``alive_from`` the lowest living generation by (application, user), 0 where absent;
    ``scopes`` what the last code flow granted; ``issued`` counts, so that no two tokens are alike."""

    key: bytes = field(repr=False)
    clients: Mapping[str, str] = field(repr=False)
    expires_in: int
    alive_from: dict[tuple[str, str], int] = field(default_factory=dict)
    scopes: dict[tuple[str, str], str] = field(default_factory=dict)
    consented: set[tuple[str, str]] = field(default_factory=set)
    used_codes: set[str] = field(default_factory=set)
    issued: int = 0


def new_oauth(seed: int, clients: Mapping[str, str], expires_in: int) -> OAuthState:
    """A state with no revocations; the signing key follows from the seed."""
    key = hashlib.sha256(f"sandbox oauth {seed}".encode()).digest()
    return OAuthState(key, clients, expires_in)


def check_client(state: OAuthState, client_id: str, client_secret: str) -> None:
    """OAuthError ``invalid_client`` unless the application is known by this secret."""
    known = state.clients.get(client_id)
    if known is None or not hmac.compare_digest(known.encode(), client_secret.encode()):
        raise OAuthError(401, "invalid_client", "The provided client secret is invalid.")


def refresh(state: OAuthState, client_id: str, refresh_token: str, now: float) -> dict[str, Any]:
    """The token answer for a living consent; it holds no refresh token, as Google's does not."""
    grant = grant_of(refresh_token)
    if grant is None or grant[1] < state.alive_from.get((client_id, grant[0]), 0):
        raise OAuthError(400, "invalid_grant", "Token has been expired or revoked.")
    return _answer(state, client_id, grant[0], grant[1], now)


def grant_of(refresh_token: str) -> tuple[str, int] | None:
    """(user, generation) of a refresh token of our form, else None."""
    match = _REFRESH.fullmatch(refresh_token)
    return (match["user"], int(match["generation"] or 0)) if match else None


def make_code(state: OAuthState, query: Mapping[str, str], user: str, now: float) -> str:
    """A code that carries what the authorisation request said; usable once, for ten minutes."""
    state.issued += 1
    content: dict[str, Any] = {
        name: query.get(name, "") for name in ("client_id", "redirect_uri", "scope", "code_challenge", "prompt")
    }
    content |= {"user": user, "offline": query.get("access_type") == "offline"}
    return _CODE_PREFIX + sign(state, content | {"until": now + CODE_SECONDS, "n": state.issued})


def exchange(state: OAuthState, client_id: str, form: Mapping[str, str], now: float) -> dict[str, Any]:
    """The token answer for a code. A refresh token comes only with offline access, at the first consent or when asked
    for by ``prompt=consent``."""
    code = form.get("code", "")
    content = read_signed(state, code.removeprefix(_CODE_PREFIX))
    if content is None or code in state.used_codes or content["until"] < now or content["client_id"] != client_id:
        raise OAuthError(400, "invalid_grant", "Malformed auth code.")
    if content["redirect_uri"] != form.get("redirect_uri"):
        raise OAuthError(400, "redirect_uri_mismatch", "Bad Request")
    if not _verifies(content["code_challenge"], form.get("code_verifier", "")):
        raise OAuthError(400, "invalid_grant", "Invalid code verifier.")
    state.used_codes.add(code)
    return _consent(state, client_id, content, now)


def _consent(state: OAuthState, client_id: str, content: Mapping[str, Any], now: float) -> dict[str, Any]:
    who = (client_id, str(content["user"]))
    first = who not in state.consented
    state.consented.add(who)
    state.scopes[who] = content["scope"] or ALL_SCOPES
    generation = state.alive_from.get(who, 0)
    answer = _answer(state, client_id, who[1], generation, now)
    if content["offline"] and (first or "consent" in content["prompt"].split()):
        suffix = f".g{generation}" if generation else ""
        answer["refresh_token"] = f"1//sandbox-{who[1]}{suffix}"
    return answer


def _verifies(challenge: str, verifier: str) -> bool:
    if not challenge:
        return not verifier
    digest = hashlib.sha256(verifier.encode()).digest()
    return hmac.compare_digest(_encode(digest), challenge.rstrip("="))


def revoke(state: OAuthState, token: str) -> tuple[str, ...]:
    """Kill the grant behind an access or refresh token; for every application if it is a refresh token, which does not
    name one. The users struck; OAuthError ``invalid_token`` when it is dead already or was never ours."""
    access = read_access(state, token)
    if access is not None:
        pairs = [(access.application, access.user, access.generation)]
    else:
        grant = grant_of(token)
        pairs = [(client, *grant) for client in state.clients] if grant else []
    living = [pair for pair in pairs if pair[2] >= state.alive_from.get(pair[:2], 0)]
    if not living:
        raise OAuthError(400, "invalid_token", "Token expired or revoked")
    for application, user, _ in living:
        revoke_user(state, application, user)
    return tuple({user for _, user, _ in living})


def revoke_user(state: OAuthState, application: str, user: str) -> None:
    """The user withdraws the application's access: every token so far is dead."""
    state.alive_from[(application, user)] = state.alive_from.get((application, user), 0) + 1
    state.consented.discard((application, user))


def read_access(state: OAuthState, token: str) -> AccessToken | None:
    """What an access token says, expired or revoked or not; None when it is not one of ours."""
    content = read_signed(state, token.removeprefix(_ACCESS_PREFIX)) if token.startswith(_ACCESS_PREFIX) else None
    if content is None or "g" not in content:
        return None
    return AccessToken(content["c"], content["u"], content["g"], content["s"], content["e"])


def is_living(state: OAuthState, token: AccessToken, now: float) -> bool:
    """Neither expired nor revoked."""
    return now < token.expires_at and token.generation >= state.alive_from.get((token.application, token.user), 0)


def _answer(state: OAuthState, client_id: str, user: str, generation: int, now: float) -> dict[str, Any]:
    state.issued += 1
    scope = state.scopes.get((client_id, user), ALL_SCOPES)
    content = {"c": client_id, "u": user, "g": generation, "s": scope, "e": now + state.expires_in, "n": state.issued}
    return {
        "access_token": _ACCESS_PREFIX + sign(state, content),
        "expires_in": state.expires_in,
        "scope": scope,
        "token_type": "Bearer",
    }


def sign(state: OAuthState, content: Mapping[str, Any]) -> str:
    """Content that nobody else can make, as text."""
    body = _encode(orjson.dumps(content))
    return f"{body}.{_encode(hmac.digest(state.key, body.encode(), 'sha256'))}"


def read_signed(state: OAuthState, signed: str) -> dict[str, Any] | None:
    """The content of ``sign``; None for any other text."""
    body, _, signature = signed.partition(".")
    expected = _encode(hmac.digest(state.key, body.encode(), "sha256"))
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return None
    try:
        content = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
