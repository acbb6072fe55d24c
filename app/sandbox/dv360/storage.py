"""The second origin: files of finished reports behind signed links. A caller that shows a token here has leaked it."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from aiohttp import web

from app.sandbox.bodies import send_blocks
from app.sandbox.call_log import Call
from app.sandbox.dv360 import state as dv360
from app.sandbox.dv360.csv_report import csv_blocks, row_count
from app.sandbox.dv360.links import link_fault
from app.sandbox.google_errors import GoogleDialect
from app.sandbox.world import FAULT, WORLD, Route, World

WHOLE_ROWS = 20_000
"""Files of up to so many rows are sent whole with a Content-Length, longer ones in chunks as they are written."""


class StorageDialect(GoogleDialect):
    """Cloud Storage speaks XML."""

    def unexpected(self, status: int, _reason: str) -> web.Response:
        """The XML error."""
        return _error(status, "NoSuchKey" if status == 404 else "InvalidRequest")


def routes() -> list[Route]:
    """The one call of the storage origin."""
    path = r"/sandbox-reports/{query_id:\d+}/report-{report_id:\d+}.csv"
    return [
        Route("storage.download", "GET", path, "dv360", "storage", download, StorageDialect(), _identify, None, _guard)
    ]


def _identify(world: World, request: web.Request, call: Call) -> None:
    call.query_id, call.report_id = request.match_info["query_id"], request.match_info["report_id"]
    query = world.dv360.queries.get(int(call.query_id))
    if query is not None:
        call.title, call.user, call.account = query.title, query.user, str(query.advertisers[0])
        report = world.dv360.reports[query.query_id].get(int(call.report_id))
        call.days = f"{report.start}/{report.end}" if report is not None else None


def _guard(world: World, request: web.Request) -> web.Response | None:
    if "Authorization" in request.headers:
        return _error(403, "AccessDenied")
    fault = link_fault(world.settings.seed, request.path, request.query, world.now().unix)
    return _error(*fault) if fault else None


async def download(request: web.Request) -> web.StreamResponse:
    """GET the file of a finished report."""
    world, now = request.app[WORLD], request.app[WORLD].now().unix
    query = world.dv360.queries.get(int(request.match_info["query_id"]))
    report = world.dv360.reports[query.query_id].get(int(request.match_info["report_id"])) if query else None
    if query is None or report is None or dv360.state_of(report, now) != dv360.DONE:
        return _error(404, "NoSuchKey")
    blocks = csv_blocks(query, report, world.settings.seed, world.dv360.quirks, report.created_at)
    headers = {"Content-Type": "text/csv", "Cache-Control": "private, max-age=0"}
    rows = row_count(query, report)
    if rows <= WHOLE_ROWS:
        return web.Response(body="".join(blocks).encode(), headers=headers)
    return await send_blocks(request, headers, _encoded(blocks), request.get(FAULT), expected=rows // 500 + 2)


def _encoded(blocks: Iterator[str]) -> Iterator[bytes]:
    return (block.encode() for block in blocks)


def _error(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{escape(code)}</Code></Error>"
    return web.Response(text=text, status=status, content_type="application/xml")
