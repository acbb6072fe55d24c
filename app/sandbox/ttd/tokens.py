"""Who may call. A long-lived token is made in the UI for a year at most and revoked there; a login token is signed and
ends by itself. Both are sent bare in ``TTD-Auth``."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

PASSWORD_OF = "sandbox-{}"
"""The password of the user in braces; the login is ``<user>@sandbox``."""
LONGEST_MINUTES = 1_440

_KEY = re.compile(r"sandbox-ttd-(?P<user>[A-Za-z0-9]{1,40})(\.g(?P<generation>[0-9]{1,6}))?")
_LOGIN = re.compile(r"login\.(?P<user>[A-Za-z0-9]{1,40})\.(?P<until>[0-9]{1,12})\.(?P<number>[0-9]+)\.[0-9a-f]{64}")
_NAME = re.compile(r"(?P<user>[A-Za-z0-9]{1,40})@sandbox")


@dataclass(slots=True)
class Tokens:
    """``key`` signs login tokens; ``alive_from`` the lowest living generation of a user's long-lived tokens, 0 where
    absent; ``issued`` counts, so that no two are alike."""

    key: bytes = field(repr=False)
    alive_from: dict[str, int] = field(default_factory=dict)
    issued: int = 0


def new_tokens(seed: int) -> Tokens:
    """Nothing revoked; the signing key follows from the seed."""
    return Tokens(hashlib.sha256(f"sandbox ttd {seed}".encode()).digest())


def long_lived(tokens: Tokens, user: str) -> str:
    """The token that the user would make in the UI now."""
    generation = tokens.alive_from.get(user, 0)
    return f"sandbox-ttd-{user}" + (f".g{generation}" if generation else "")


def log_in(tokens: Tokens, login: str, password: str, minutes: int, now: float) -> tuple[str, int] | None:
    """(token, unix seconds of its end), None for a wrong login or password."""
    match = _NAME.fullmatch(login)
    if match is None or not hmac.compare_digest(password.encode(), PASSWORD_OF.format(match["user"]).encode()):
        return None
    tokens.issued += 1
    until = int(now) + min(minutes, LONGEST_MINUTES) * 60
    said = f"login.{match['user']}.{until}.{tokens.issued}"
    return f"{said}.{_signature(tokens, said)}", until


def user_of(tokens: Tokens, token: str) -> str | None:
    """Whose token it says to be, dead or alive; None for a text that is none of ours."""
    if key := _KEY.fullmatch(token):
        return key["user"]
    login = _LOGIN.fullmatch(token)
    said, _, signature = token.rpartition(".")
    return login["user"] if login and hmac.compare_digest(signature, _signature(tokens, said)) else None


def is_living(tokens: Tokens, token: str, now: float) -> bool:
    """Neither ended nor revoked."""
    if key := _KEY.fullmatch(token):
        return int(key["generation"] or 0) >= tokens.alive_from.get(key["user"], 0)
    login = _LOGIN.fullmatch(token)
    return login is not None and user_of(tokens, token) is not None and now < int(login["until"])


def revoke(tokens: Tokens, user: str) -> None:
    """The user withdraws every long-lived token so far. Login tokens cannot be revoked."""
    tokens.alive_from[user] = tokens.alive_from.get(user, 0) + 1


def _signature(tokens: Tokens, said: str) -> str:
    return hmac.new(tokens.key, said.encode(), hashlib.sha256).hexdigest()
