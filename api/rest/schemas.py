"""``/schemas/{fingerprint}``: what ``ce_dataschema`` of an event points to; ``/problems/{slug}``: what ``type``
points to."""

from __future__ import annotations

from aiohttp import web

from api.rest.problem import CATALOGUE, Problem
from api.rest.services import SERVICES, json_response

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


async def schema(request: web.Request) -> web.Response:
    """The Avro schema with this CRC-64-AVRO fingerprint (16 lower-case hex digits)."""
    text = request.app[SERVICES].schema(request.match_info["fingerprint"])
    if text is None:
        raise Problem("not_found")
    return web.Response(text=text, content_type="application/json", headers=FOREVER)


async def problem(request: web.Request) -> web.Response:
    """What one type of problem means and what to do about it."""
    kind = CATALOGUE.get(request.match_info["slug"])
    if kind is None:
        raise Problem("not_found")
    return json_response({"type": kind.slug, "status": kind.status, "title": kind.title, "advice": kind.advice})
