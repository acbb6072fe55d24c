"""``spreadsheets.batchUpdate``: all requests are applied, or none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from app.sandbox.sheets.errors import SheetsError
from app.sandbox.sheets.ranges import Region
from app.sandbox.sheets.spreadsheets import MOST_METADATA, Metadata, Sheet, Spreadsheet
from app.sandbox.sheets.values import MOST_TEXT, grow

_KEYS = {"stringValue": str, "numberValue": (int, float), "boolValue": bool}


def apply(book: Spreadsheet, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The replies, one for each request; SheetsError, and nothing is changed."""
    if unknown := sorted(set(body) - {"requests", "includeSpreadsheetInResponse"}):
        raise SheetsError(f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
    requests = body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise SheetsError("Must specify at least one request.")
    trial = copied(book)
    replies = [_one(trial, at, request) for at, request in enumerate(requests)]
    book.sheets, book.metadata = trial.sheets, trial.metadata
    return replies


def copied(book: Spreadsheet) -> Spreadsheet:
    """One to try something on: what is refused in the middle must leave nothing behind."""
    return copy.deepcopy(book)


def _one(book: Spreadsheet, at: int, request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or len(request) != 1:
        raise SheetsError(f"Invalid requests[{at}]: No request set.")
    ((name, content),) = request.items()
    if name not in _REQUESTS or not isinstance(content, dict):
        raise SheetsError(f"Invalid JSON payload received. Unknown name \"{name}\" at 'requests[{at}]'.")
    try:
        return _REQUESTS[name](book, content)
    except SheetsError as refused:
        raise SheetsError(f"Invalid requests[{at}].{name}: {refused}") from None


def _append_cells(book: Spreadsheet, content: dict[str, Any]) -> dict[str, Any]:
    _only(content, {"sheetId", "rows", "fields"})
    sheet = book.sheet_of(content.get("sheetId", 0))
    if sheet is None:
        raise SheetsError(f"No grid with id: {content.get('sheetId')}")
    if content.get("fields") not in ("userEnteredValue", "*"):
        raise SheetsError("At least one field must be listed in 'fields'. (Use '*' to indicate all fields.)")
    rows = content.get("rows", [])
    top = sheet.last_row() + 1
    width = max((len(row.get("values", [])) for row in rows), default=0)
    grow(book, Region(sheet, 1, 1, 1, 1), top + len(rows) - 1, max(width, 1))
    for down, row in enumerate(rows):
        _only(row, {"values"})
        for across, cell in enumerate(row.get("values", [])):
            _set(sheet, top + down, 1 + across, cell)
    return {}


def _set(sheet: Sheet, row: int, column: int, cell: dict[str, Any]) -> None:
    _only(cell, {"userEnteredValue"})
    entered = cell.get("userEnteredValue", {})
    if not entered:
        return
    if len(entered) != 1 or set(entered) - set(_KEYS):
        raise SheetsError(f"a cell has exactly one of {', '.join(_KEYS)}; formulas are not simulated")
    ((name, value),) = entered.items()
    if not isinstance(value, _KEYS[name]) or (name == "numberValue" and isinstance(value, bool)):  # type: ignore[arg-type]
        raise SheetsError(f"Invalid value at '{name}'")
    if isinstance(value, str) and len(value) > MOST_TEXT:
        raise SheetsError("Your input contains more than the maximum of 50000 characters in a single cell.")
    if value != "":
        sheet.cells[(row, column)] = float(value) if name == "numberValue" else value


def _create_metadata(book: Spreadsheet, content: dict[str, Any]) -> dict[str, Any]:
    _only(content, {"developerMetadata"})
    made = content.get("developerMetadata", {})
    _only(made, {"metadataId", "metadataKey", "metadataValue", "location", "visibility"})
    if made.get("location") != {"spreadsheet": True}:
        raise SheetsError("only metadata of the whole spreadsheet is simulated")
    if made.get("visibility") not in ("DOCUMENT", "PROJECT") or not made.get("metadataKey"):
        raise SheetsError("Developer metadata must have a key and a visibility.")
    metadata_id = made.get("metadataId", 0) or max(book.metadata, default=0) + 1
    if not isinstance(metadata_id, int) or not 0 < metadata_id < 2**31:
        raise SheetsError("Invalid value at 'metadata_id' (TYPE_INT32)")
    if metadata_id in book.metadata:
        raise SheetsError(f"Developer metadata with ID {metadata_id} already exists.")
    new = Metadata(metadata_id, made["metadataKey"], made.get("metadataValue", ""), made["visibility"])
    if sum(one.size for one in book.metadata.values()) + new.size > MOST_METADATA:
        raise SheetsError("The developer metadata of this spreadsheet exceeds the limit of 30000 characters.")
    book.metadata[metadata_id] = new
    return {"createDeveloperMetadata": {"developerMetadata": metadata_json(new)}}


def _delete_metadata(book: Spreadsheet, content: dict[str, Any]) -> dict[str, Any]:
    _only(content, {"dataFilter"})
    lookup = content.get("dataFilter", {}).get("developerMetadataLookup", {})
    _only(lookup, {"metadataId", "metadataKey", "metadataValue"})
    if not lookup:
        raise SheetsError("A developer metadata lookup is required.")
    gone = [one for one in book.metadata.values() if _matches(one, lookup)]
    for one in gone:
        del book.metadata[one.metadata_id]
    return {"deleteDeveloperMetadata": {"deletedDeveloperMetadata": [metadata_json(one) for one in gone]}}


def _matches(one: Metadata, lookup: Mapping[str, Any]) -> bool:
    known = {"metadataId": one.metadata_id, "metadataKey": one.key, "metadataValue": one.value}
    return all(known[name] == value for name, value in lookup.items())


def _add_sheet(book: Spreadsheet, content: dict[str, Any]) -> dict[str, Any]:
    _only(content, {"properties"})
    asked = content.get("properties", {})
    _only(asked, {"title", "sheetId"})
    title = asked.get("title") or f"Sheet{len(book.sheets) + 1}"
    if book.sheet(title) is not None:
        raise SheetsError(f'A sheet with the name "{title}" already exists. Please enter another name.')
    sheet_id = asked.get("sheetId", 1 + max((one.sheet_id for one in book.sheets), default=0))
    if book.sheet_of(sheet_id) is not None:
        raise SheetsError(f"Sheet with id {sheet_id} already exists.")
    book.sheets.append(Sheet(sheet_id, title))
    return {"addSheet": {"properties": sheet_json(book, len(book.sheets) - 1)["properties"]}}


def _only(content: Mapping[str, Any], known: set[str]) -> None:
    if not isinstance(content, dict):
        raise SheetsError("an object is expected here")
    if unknown := sorted(set(content) - known):
        raise SheetsError(f'Unknown name "{unknown[0]}": Cannot find field.')


_REQUESTS: Mapping[str, Callable[[Spreadsheet, dict[str, Any]], dict[str, Any]]] = {
    "appendCells": _append_cells,
    "createDeveloperMetadata": _create_metadata,
    "deleteDeveloperMetadata": _delete_metadata,
    "addSheet": _add_sheet,
}


def sheet_json(book: Spreadsheet, index: int) -> dict[str, Any]:
    """A sheet without its cells; what is zero is left out, as proto3 JSON does."""
    sheet = book.sheets[index]
    properties: dict[str, Any] = {"sheetId": sheet.sheet_id, "title": sheet.title, "index": index, "sheetType": "GRID"}
    grid = {"rowCount": sheet.rows, "columnCount": sheet.columns}
    return {"properties": {name: value for name, value in properties.items() if value != 0} | {"gridProperties": grid}}


def metadata_json(one: Metadata) -> dict[str, Any]:
    """Developer metadata as answers have it, without a value that is none."""
    return {
        "metadataId": one.metadata_id,
        "metadataKey": one.key,
        **({"metadataValue": one.value} if one.value else {}),
        "location": {"locationType": "SPREADSHEET", "spreadsheet": True},
        "visibility": one.visibility,
    }
