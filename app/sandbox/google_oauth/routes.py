"""HTTP of ``/oauth2/auth``, ``/oauth2/token`` and ``/oauth2/revoke``; and the guard of Google's APIs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.faults import FaultRule
from app.sandbox.google_errors import GoogleDialect, json_answer, scope_missing, unauthenticated
from app.sandbox.google_oauth import state as oauth
from app.sandbox.google_oauth.state import AccessToken, OAuthError
from app.sandbox.world import CALL, FAULT, WORLD, Route, World

_FORM = "application/x-www-form-urlencoded"


class TokenDialect(GoogleDialect):
    """The token endpoint names errors as RFC 6749 does."""

    def fault(self, world: World, rule: FaultRule, call: Call) -> web.Response | None:
        """``revoked`` and ``token_expired`` are a dead grant here; server errors come as ``internal_failure``."""
        answer = super().fault(world, rule, call)
        if rule.fault in ("revoked", "token_expired"):
            return _refusal(OAuthError(400, "invalid_grant", "Token has been expired or revoked."))
        if rule.fault in ("500", "502", "503", "504"):
            return _refusal(OAuthError(int(rule.fault), "internal_failure", "Backend Error"))
        return answer


def routes() -> list[Route]:
    """The three calls; they spend from no quota of the APIs."""
    dialect = TokenDialect()
    return [
        Route("oauth.authorize", "GET", "/oauth2/auth", "google", "oauth", authorize, dialect),
        Route("oauth.token", "POST", "/oauth2/token", "google", "oauth", token, dialect, describe=describe),
        Route("oauth.revoke", "POST", "/oauth2/revoke", "google", "oauth", revoke, dialect, describe=describe),
    ]


async def describe(world: World, request: web.Request, call: Call) -> None:
    """Note whose token it is about. The token itself is never kept."""
    form = await _form(request)
    call.grant_type = form.get("grant_type")
    call.application = _credentials(request, form)[0] or None
    grant = oauth.grant_of(form.get("refresh_token") or form.get("token") or "")
    access = oauth.read_access(world.oauth, form.get("token", ""))
    call.user = grant[0] if grant else access.user if access else None
    call.application = call.application or (access.application if access else None)


async def authorize(request: web.Request) -> web.StreamResponse:
    """The consent page, already answered: redirects back at once, as the user in ``login_hint`` (else ``user``)."""
    world, query = request.app[WORLD], request.query
    if not _acceptable(world, query):
        return web.Response(status=400, text="Error 400: invalid_request", content_type="text/html")
    back = {"state": query["state"]} if "state" in query else {}
    fault = request.get(FAULT)
    if fault is not None and fault.fault == "access_denied":
        back["error"] = "access_denied"
    else:
        user = query.get("login_hint") or "user"
        request[CALL].user, request[CALL].application = user, query["client_id"]
        back |= {"code": oauth.make_code(world.oauth, query, user, world.now().unix), "scope": query["scope"]}
    joint = "&" if "?" in query["redirect_uri"] else "?"
    return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}{joint}{urlencode(back)}"})


def _acceptable(world: World, query: Mapping[str, str]) -> bool:
    return (
        query.get("response_type") == "code"
        and query.get("client_id") in world.oauth.clients
        and all(query.get(one) for one in ("redirect_uri", "scope"))
        and query.get("code_challenge_method", "S256") == "S256"
    )


async def token(request: web.Request) -> web.StreamResponse:
    """``refresh_token`` and ``authorization_code`` grants; forms only."""
    world = request.app[WORLD]
    form = await _form(request)
    try:
        if request.content_type != _FORM:
            raise OAuthError(400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded.")
        return json_answer(_grant(world, request, form))
    except OAuthError as refused:
        return _refusal(refused)


def _grant(world: World, request: web.Request, form: Mapping[str, str]) -> dict[str, object]:
    client_id, secret = _credentials(request, form)
    grant_type = form.get("grant_type")
    if not client_id or not grant_type:
        raise OAuthError(400, "invalid_request", "Missing required parameter.")
    oauth.check_client(world.oauth, client_id, secret)
    if grant_type == "refresh_token":
        return oauth.refresh(world.oauth, client_id, form.get("refresh_token", ""), world.now().unix)
    if grant_type == "authorization_code":
        return oauth.exchange(world.oauth, client_id, form, world.now().unix)
    raise OAuthError(400, "unsupported_grant_type", "Invalid grant_type")


async def revoke(request: web.Request) -> web.StreamResponse:
    """Kill a grant; a second time answers ``invalid_token``."""
    form = await _form(request)
    try:
        oauth.revoke(request.app[WORLD].oauth, form.get("token") or request.query.get("token", ""))
    except OAuthError as refused:
        return _refusal(refused)
    return json_answer({})


def bearer_of(world: World, request: web.Request) -> AccessToken | None:
    """The access token in the Authorization header, if it is one of ours; it may be dead."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return oauth.read_access(world.oauth, value.strip()) if scheme.lower() == "bearer" else None


def identify(world: World, request: web.Request, call: Call) -> None:
    """Note application and user; calls without a readable token are counted for nobody in particular."""
    access = bearer_of(world, request)
    call.application = access.application if access else "unauthenticated"
    call.user = access.user if access else "unauthenticated"


def guard(*scopes: str) -> Callable[[World, web.Request], web.Response | None]:
    """A check that the token lives and holds one of ``scopes``."""

    def check(world: World, request: web.Request) -> web.Response | None:
        access = bearer_of(world, request)
        if access is None or not oauth.is_living(world.oauth, access, world.now().unix):
            return unauthenticated()
        return scope_missing(request.path) if set(scopes).isdisjoint(access.scope.split()) else None

    return check


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != _FORM:
        return {}
    return dict(parse_qsl((await request.read()).decode("utf-8", "replace"), keep_blank_values=True))


def _credentials(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return client_id, secret


def _refusal(refused: OAuthError) -> web.Response:
    return json_answer({"error": refused.error, "error_description": refused.description}, refused.status)
