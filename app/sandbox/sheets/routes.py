"""HTTP of Google Sheets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from app.sandbox.call_log import Call
from app.sandbox.google_errors import google_error, json_answer
from app.sandbox.google_oauth import routes as google_oauth
from app.sandbox.google_oauth.state import SHEETS_READ_SCOPE, SHEETS_SCOPE
from app.sandbox.sheets import batch, masks, values
from app.sandbox.sheets.errors import SHEETS, SheetsError
from app.sandbox.sheets.quotas import READS, WRITES
from app.sandbox.sheets.ranges import Region, region
from app.sandbox.sheets.spreadsheets import Spreadsheet, spreadsheet
from app.sandbox.world import WORLD, Handler, Route, World

_BOOK = "/sheets/v4/spreadsheets/{spreadsheet_id:[^/:]+}"
_VALUES = _BOOK + "/values"
_RANGE = _VALUES + "/{range:[^/]+}"
_STRUCTURE = {"sheets", "properties", "developerMetadata", "spreadsheetId", "spreadsheetUrl", "*"}

Answer = Callable[[Spreadsheet, web.Request], Awaitable[dict[str, Any]]]


def routes() -> list[Route]:
    """The calls of Google Sheets that exist here. Those with a verb after a colon come before the ranges."""
    reading, writing = (SHEETS_SCOPE, SHEETS_READ_SCOPE), (SHEETS_SCOPE,)

    def route(name: str, method: str, path: str, answer: Answer, *, writes: bool = False) -> Route:
        scopes, group = (writing, WRITES) if writes else (reading, READS)
        return Route(
            f"sheets.{name}", method, path, "sheets", group, _refusing(answer), SHEETS, identify=_identify,
            guard=google_oauth.guard(*scopes),
        )  # fmt: skip

    return [
        route("batch_update", "POST", _BOOK + ":batchUpdate", batch_update, writes=True),
        route("values_batch_get", "GET", _VALUES + ":batchGet", batch_get),
        route("values_batch_update", "POST", _VALUES + ":batchUpdate", values_batch_update, writes=True),
        route("values_append", "POST", _RANGE + ":append", append, writes=True),
        route("values_get", "GET", _RANGE, get_values),
        route("values_update", "PUT", _RANGE, update, writes=True),
        route("metadata_get", "GET", _BOOK + "/developerMetadata/{metadata_id}", get_metadata),
        route("get", "GET", _BOOK, get_book),
    ]


def _identify(world: World, request: web.Request, call: Call) -> None:
    google_oauth.identify(world, request, call)
    call.account = request.match_info.get("spreadsheet_id")


def _refusing(answer: Answer) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return json_answer(await answer(_book(request), request))
        except SheetsError as refused:
            response = google_error(refused.status, str(refused))
            if refused.status == 412:
                error = {"code": 400, "message": str(refused), "status": "FAILED_PRECONDITION"}
                response = json_answer({"error": error}, 400)
            return response

    return handle


def _book(request: web.Request) -> Spreadsheet:
    world, name = request.app[WORLD], request.match_info["spreadsheet_id"]
    match name[:1]:
        case "0":
            raise SheetsError("Requested entity was not found.", 404)
        case "9":
            raise SheetsError("The caller does not have permission", 403)
        case "8":
            raise SheetsError("This operation is not supported for this document", 412)
    return spreadsheet(world.sheets, world.settings.seed, name)


async def get_book(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """GET {id}: everything but the cells."""
    if request.query.get("includeGridData", "false") != "false":
        raise SheetsError("grid data is not simulated")
    mask = masks.parse(request.query["fields"]) if "fields" in request.query else {}
    if set(mask) - _STRUCTURE:
        raise SheetsError(f"Error expanding 'fields' parameter. Cannot find matching fields for path '{min(mask)}'.")
    content = {
        "spreadsheetId": book.spreadsheet_id,
        "properties": {"title": book.title, "locale": "en_GB", "timeZone": "Europe/Madrid"},
        "sheets": [batch.sheet_json(book, at) for at in range(len(book.sheets))],
        "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{book.spreadsheet_id}/edit",
    }
    if book.metadata:
        content["developerMetadata"] = [batch.metadata_json(one) for one in book.metadata.values()]
    shown: dict[str, Any] = masks.shaped(content, mask)
    return shown


async def get_metadata(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """GET {id}/developerMetadata/{metadataId}."""
    text = request.match_info["metadata_id"]
    found = book.metadata.get(int(text)) if text.isdecimal() and len(text) < 12 else None
    if found is None:
        raise SheetsError(f"No developer metadata with ID {text}.", 404)
    return batch.metadata_json(found)


async def get_values(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """GET {id}/values/{range}."""
    return values.value_range(region(book, request.match_info["range"]), values.render_option(request.query))


async def batch_get(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """GET {id}/values:batchGet."""
    render = values.render_option(request.query)
    found = [values.value_range(region(book, name), render) for name in request.query.getall("ranges", [])]
    return {"spreadsheetId": book.spreadsheet_id} | ({"valueRanges": found} if found else {})


async def append(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """POST {id}/values/{range}:append."""
    option = request.query.get("valueInputOption")
    covered, cells = values.append(book, request.match_info["range"], await _body(request), option)
    return {"spreadsheetId": book.spreadsheet_id, "updates": _updated(book, covered, cells)}


async def update(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """PUT {id}/values/{range}."""
    option = request.query.get("valueInputOption")
    return _updated(book, *values.write(book, request.match_info["range"], await _body(request), option))


async def values_batch_update(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """POST {id}/values:batchUpdate."""
    body = await _body(request)
    if set(body) - {"valueInputOption", "data"} or not isinstance(body.get("data"), list):
        raise SheetsError("Invalid JSON payload received.")
    # What is wrong with any of it is wrong with all: tried before a cell is changed.
    _written(batch.copied(book), body)
    responses = _written(book, body)
    return {"spreadsheetId": book.spreadsheet_id, "responses": responses}


def _written(book: Spreadsheet, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    option = body.get("valueInputOption")
    return [_updated(book, *values.write(book, str(one.get("range")), one, option)) for one in body["data"]]


async def batch_update(book: Spreadsheet, request: web.Request) -> dict[str, Any]:
    """POST {id}:batchUpdate."""
    return {"spreadsheetId": book.spreadsheet_id, "replies": batch.apply(book, await _body(request))}


def _updated(book: Spreadsheet, covered: Region, cells: int) -> dict[str, Any]:
    return {
        "spreadsheetId": book.spreadsheet_id,
        "updatedRange": covered.text(),
        "updatedRows": covered.bottom - covered.top + 1,
        "updatedColumns": covered.right - covered.left + 1,
        "updatedCells": cells,
    }


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise SheetsError("Invalid JSON payload received.") from None
    if not isinstance(body, dict):
        raise SheetsError("Invalid JSON payload received. Expected an object.")
    return body
