"""``POST /api/v1/connectors/fetch?dry_run=true``: what a command would do. Nothing is published, no call is spent."""

from __future__ import annotations

from aiohttp import web

from api.rest.peers import forwarded
from api.rest.problem import Problem
from api.rest.services import SERVICES, json_response
from app.domain.messages import Accept

_PATH = "/api/v1/connectors/fetch?dry_run=true"


async def plan(request: web.Request, accept: Accept) -> web.Response:
    """200 with the plan of a command that passed every check, from the planner here or at its owner; 503 while neither
    answers: a plan is never guessed."""
    boards, kind = request.app[SERVICES].boards, accept.connector.connector_type
    board = boards.here(kind)
    if board is not None:
        return json_response(board.dry_run(accept))
    owner = boards.owner(kind)
    if owner is not None and not forwarded(request):
        told = await request.app[SERVICES].peers.ask(request, owner, _PATH, await request.read())
        if told is not None and told.body.get("dry_run") is True:
            return web.Response(body=told.raw, content_type="application/json")
    raise Problem("view_unavailable", retry_after_s=1)
