"""An answer for each row of the error table of CSV servers."""

from __future__ import annotations

from app.connectors.csv_https.errors import classify, read
from tests.connectors.examples.case import Case, by_status

__all__ = ["CASES", "classify", "read"]

CASES: tuple[Case, ...] = (Case("rate_limited", "file", 429), *by_status("file"))
