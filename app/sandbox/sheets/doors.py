"""What the control doors say and change of Google Sheets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from app.sandbox.sheets.ranges import region
from app.sandbox.sheets.spreadsheets import spreadsheet
from app.sandbox.sheets.values import value_range
from app.sandbox.world import World


async def truth(world: World, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """``spreadsheet_id``, ``range``: its rows as they are now, ``{row, cells}``, formulas as their text."""
    book = spreadsheet(world.sheets, world.settings.seed, query["spreadsheet_id"])
    found = region(book, query["range"])
    rows = value_range(found, "FORMULA").get("values", [])
    return [{"row": found.top + at, "cells": cells} for at, cells in enumerate(rows)]


def restate_days(world: World, body: Mapping[str, Any], start: date, end: date) -> None:
    """``spreadsheet_id``, ``sheet``, ``value``: somebody types that into the sheet's first cell."""
    del start, end
    sheet = spreadsheet(world.sheets, world.settings.seed, body["spreadsheet_id"]).sheet(body["sheet"])
    if sheet is None:
        raise ValueError("there is no such sheet")
    sheet.cells[(1, 1)] = str(body["value"])


def figures(world: World, body: Mapping[str, Any], count: int) -> None:
    """How many leads the spreadsheets have that nobody has looked at yet."""
    del body
    world.sheets.leads = count
