"""Facebook's sign-in: dialog, code, exchange for a long-lived token, and withdrawal. There are no refresh tokens.

``EAAsandbox-<user>`` is a token that somebody has from elsewhere: it works as it is and never expires, as a system
user's does, and may be exchanged. All others describe and sign themselves, so they outlive a restart. A consent has a
generation, as in ``google_oauth.state``; what is dead there is dead here by the same rules, in a book of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.google_oauth.state import (
    CODE_SECONDS,
    AccessToken,
    OAuthError,
    OAuthState,
    check_client,
    is_living,
    read_signed,
    revoke_user,
    sign,
)
from app.sandbox.meta.errors import META, TOKEN_EXPIRED, TOKEN_INVALID, TOKEN_REVOKED, json_answer, refusal
from app.sandbox.world import CALL, WORLD, Route, World

ROOT = "/graph/v26.0"
SCOPE = "ads_read"
SHORT_SECONDS = 5_000
"""How long the token of a code lives."""

_GIVEN = re.compile(r"EAAsandbox-(?P<user>[^.]+?)(?:\.g(?P<generation>\d+))?")
_PREFIX = "EAA"


def routes() -> list[Route]:
    """The calls of the sign-in; they spend from no quota."""
    return [
        Route("oauth.meta_dialog", "GET", f"{ROOT}/dialog/oauth", "meta", "oauth", dialog, META),
        Route(
            "oauth.meta_token", "GET", f"{ROOT}/oauth/access_token", "meta", "oauth", token, META, identify=_identify
        ),
        Route(
            "oauth.meta_revoke", "DELETE", f"{ROOT}/me/permissions", "meta", "oauth", revoke, META,
            identify=identify, guard=guard,
        ),
    ]  # fmt: skip


def read_token(state: OAuthState, text: str) -> AccessToken | None:
    """What a token says of itself, dead or alive; None when it is none of ours. One that was given has no application
    of its own and is taken for whoever's it is used for."""
    given = _GIVEN.fullmatch(text)
    if given:
        return AccessToken("", given["user"], int(given["generation"] or 0), SCOPE, math.inf)
    content = read_signed(state, text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
    if content is None or "g" not in content:
        return None
    return AccessToken(content["c"], content["u"], content["g"], content["s"], content["e"])


def bearer_of(world: World, request: web.Request) -> AccessToken | None:
    """The token of a call: in the header or, as in links to next pages, in the query."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    text = value.strip() if scheme.lower() == "bearer" else request.query.get("access_token", "")
    found = read_token(world.meta_oauth, text)
    if found is not None and not found.application:
        # A given token is the sandbox's own application's.
        return AccessToken(next(iter(world.meta_oauth.clients)), *_rest(found))
    return found


def _rest(token: AccessToken) -> tuple[str, int, str, float]:
    return token.user, token.generation, token.scope, token.expires_at


def identify(world: World, request: web.Request, call: Call) -> None:
    """Note application and user."""
    access = bearer_of(world, request)
    call.application = access.application if access else "unauthenticated"
    call.user = access.user if access else "unauthenticated"


def guard(world: World, request: web.Request) -> web.Response | None:
    """Code 190 unless the token lives. The status is 400 and no 401."""
    access = bearer_of(world, request)
    why = TOKEN_INVALID if access is None else _fault(world, access)
    return refusal(*why) if why else None


def _fault(world: World, access: AccessToken) -> tuple[int, int, str] | None:
    now = world.now().unix
    if is_living(world.meta_oauth, access, now):
        return None
    return TOKEN_EXPIRED if now >= access.expires_at else TOKEN_REVOKED


async def dialog(request: web.Request) -> web.StreamResponse:
    """The consent page, already answered, as the user in ``login_hint`` (else ``user``; the real one has no hint)."""
    world, query = request.app[WORLD], request.query
    known = query.get("client_id") in world.meta_oauth.clients and query.get("response_type") == "code"
    if not known or not query.get("redirect_uri"):
        return web.Response(status=400, text="Invalid request", content_type="text/html")
    state = world.meta_oauth
    state.issued += 1
    content = {"code": query["client_id"], "to": query["redirect_uri"], "user": query.get("login_hint") or "user"}
    code = sign(state, content | {"until": world.now().unix + CODE_SECONDS, "n": state.issued})
    back = {"code": code} | ({"state": query["state"]} if "state" in query else {})
    joint = "&" if "?" in query["redirect_uri"] else "?"
    return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}{joint}{urlencode(back)}"})


def _identify(world: World, request: web.Request, call: Call) -> None:
    call.application = request.query.get("client_id")
    call.grant_type = request.query.get("grant_type", "authorization_code")
    given = read_token(world.meta_oauth, request.query.get("fb_exchange_token", ""))
    call.user = given.user if given else None


async def token(request: web.Request) -> web.StreamResponse:
    """A code for a token of an hour or two, or a living token for one of 60 days."""
    world, query = request.app[WORLD], request.query
    client_id = query.get("client_id", "")
    try:
        check_client(world.meta_oauth, client_id, query.get("client_secret", ""))
    except OAuthError:
        # The code of this refusal is not in what the simulation is made after.
        return refusal(101, None, "Error validating application. Cannot get application info.")
    if query.get("grant_type") == "fb_exchange_token":
        return _exchanged(world, client_id, query.get("fb_exchange_token", ""))
    return _for_code(world, request.query, client_id)


def _exchanged(world: World, client_id: str, text: str) -> web.Response:
    given = read_token(world.meta_oauth, text)
    if given is None or given.application not in ("", client_id):
        return refusal(*TOKEN_INVALID)
    access = AccessToken(client_id, *_rest(given))
    why = _fault(world, access)
    if why:
        return refusal(*why)
    return _answer(world, client_id, access.user, access.generation, world.meta_oauth.expires_in)


def _for_code(world: World, query: Mapping[str, str], client_id: str) -> web.Response:
    state, code = world.meta_oauth, query.get("code", "")
    content = read_signed(state, code)
    good = content is not None and content.get("code") == client_id and code not in state.used_codes
    if content is None or not good or content["until"] < world.now().unix or content["to"] != query.get("redirect_uri"):
        return refusal(100, None, "This authorization code has been used, has expired, or is for another address.")
    state.used_codes.add(code)
    generation = state.alive_from.get((client_id, content["user"]), 0)
    return _answer(world, client_id, content["user"], generation, SHORT_SECONDS)


def _answer(world: World, client_id: str, user: str, generation: int, lifetime_s: int) -> web.Response:
    state = world.meta_oauth
    state.issued += 1
    until = world.now().unix + lifetime_s
    content = {"c": client_id, "u": user, "g": generation, "s": SCOPE, "e": until, "n": state.issued}
    return json_answer(
        {"access_token": _PREFIX + sign(state, content), "token_type": "bearer", "expires_in": lifetime_s}
    )


async def revoke(request: web.Request) -> web.StreamResponse:
    """DELETE me/permissions: the user withdraws the application's access."""
    call: Call = request[CALL]
    if call.application and call.user:
        revoke_user(request.app[WORLD].meta_oauth, call.application, call.user)
    return json_answer({"success": True})
