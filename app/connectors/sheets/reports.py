"""What Google Sheets offers: one report type, ``table``, whose fields are ranges in A1 notation."""

from __future__ import annotations

from collections.abc import Mapping

from app.connectors import schemas
from app.domain.model import ReportType

# What was read answers nobody on another day; files are kept as long as the settings say.
RETENTION_DAYS = 1
SETTLING_DAYS = 0

# Our column -> what of the answer to ``values:batchGet`` it comes from.
_NAMES = {
    "range": "range",
    "row": "row",
    "sheet": "range",
    "first_column": "range",
    "account_id": "spreadsheetId",
    "cells": "values",
    "kinds": "values",
}

TABLE = schemas.offered("table", _NAMES, retention_days=RETENTION_DAYS, settling_days=SETTLING_DAYS)
REPORTS: Mapping[str, ReportType] = {TABLE.name: TABLE}
