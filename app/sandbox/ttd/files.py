"""Finished reports as files: behind a signed link of the second origin, or as the API's own view."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from aiohttp import web

from app.sandbox.bodies import send_blocks
from app.sandbox.call_log import Call
from app.sandbox.dv360.links import link_fault, signed_url
from app.sandbox.faults import FaultRule
from app.sandbox.ttd import state as ttd
from app.sandbox.ttd.report_csv import csv_blocks, row_count
from app.sandbox.ttd.state import Schedule
from app.sandbox.world import FAULT, WORLD, Route, World

WHOLE_ROWS = 20_000
"""Files of up to so many rows are sent whole with a Content-Length, longer ones in chunks as they are written."""


class StorageDialect:
    """A storage speaks XML."""

    def throttled(self, _world: World, _call: Call) -> web.Response:
        """Nobody counts here."""
        return _error(503, "SlowDown")

    def fault(self, _world: World, rule: FaultRule, _call: Call) -> web.Response | None:
        """Server errors and a refusal; no other fault is the storage's."""
        if rule.fault in ("500", "502", "503", "504"):
            return _error(int(rule.fault), "InternalError")
        return _error(403, "AccessDenied") if rule.fault == "403_permission" else None

    def unexpected(self, status: int, _reason: str) -> web.Response:
        """The XML error."""
        return _error(status, "NoSuchKey" if status == 404 else "InvalidRequest")


def routes() -> list[Route]:
    """The one call of the storage."""
    path = r"/ttd-reports/{schedule_id:\d+}.csv"
    return [Route("ttd.download", "GET", path, "ttd", "storage", download, StorageDialect(), _identify, None, _guard)]


def signed_link(world: World, schedule_id: int, expires_at: int) -> str:
    """The download URL, good until ``expires_at`` (unix seconds)."""
    return signed_url(world.storage_url, world.settings.seed, f"/ttd-reports/{schedule_id}.csv", expires_at)


def _identify(world: World, request: web.Request, call: Call) -> None:
    call.authorization = call.authorization or "TTD-Auth" in request.headers
    call.query_id = request.match_info["schedule_id"]
    made = world.ttd.schedules.get(int(call.query_id))
    if made is not None:
        call.title, call.user, call.account = made.name, made.user, f"adv{made.advertisers[0]}"


def _guard(world: World, request: web.Request) -> web.Response | None:
    """A token beside a signature is refused, and so is a link that has ended, as if it never had been one."""
    if "Authorization" in request.headers or "TTD-Auth" in request.headers:
        return _error(400, "InvalidArgument")
    fault = link_fault(world.settings.seed, request.path, request.query, world.now().unix)
    return _error(403, "AccessDenied") if fault else None


async def download(request: web.Request) -> web.StreamResponse:
    """GET the file of a complete report."""
    world = request.app[WORLD]
    made = world.ttd.schedules.get(int(request.match_info["schedule_id"]))
    if made is None or ttd.state_of(made, world.now().unix) != ttd.COMPLETE:
        return _error(404, "NoSuchKey")
    return await file_answer(world, request, made)


async def file_answer(world: World, request: web.Request, made: Schedule) -> web.StreamResponse:
    """The file itself."""
    blocks, rows = csv_blocks(made, world.settings.seed), row_count(made)
    headers = {"Content-Type": "text/csv"}
    if rows <= WHOLE_ROWS:
        return web.Response(body="".join(blocks).encode(), headers=headers)
    return await send_blocks(request, headers, _encoded(blocks), request.get(FAULT), expected=rows // 500 + 1)


def _encoded(blocks: Iterator[str]) -> Iterator[bytes]:
    return (block.encode() for block in blocks)


def _error(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{escape(code)}</Code></Error>"
    return web.Response(text=text, status=status, content_type="application/xml")
