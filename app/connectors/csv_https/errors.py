"""The error table of CSV servers. The first row that matches decides; every row is tested by itself.

There is one call, ``file``. A refusal is a status, and its body is nothing that could be relied on.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.connectors.error_table import HTTP, Refusal, by_status, failure_of, header_delay_s
from app.connectors.error_table import PlainRow as Row
from app.domain.errors import ErrorClass, Failure

ROWS: tuple[Row, ...] = (
    Row((429, 429), ErrorClass.QUOTA, "rate_limited", "RFC 6585, section 4", retryable=True, throttle=True),
    *by_status(Row, HTTP),
)


def read(status: int, headers: Mapping[str, str], content: bytes) -> Refusal:
    """Reads a refusal; its body is left alone."""
    del content
    return Refusal(status, f"HTTP {status}", header_delay_s(headers))


def classify(call: str, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Status and headers (lower case) of an answer to ``call`` -> what the planner is told."""
    refused = read(status, headers, content)
    return failure_of(next(row for row in ROWS if row.matches(refused, call)), refused)
