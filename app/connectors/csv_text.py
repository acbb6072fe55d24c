"""Report files as text: what header, rows and numbers of a CSV file are, whoever wrote it. Plain functions, no I/O."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from app.connectors.failures import bad_response, shown
from app.domain.errors import ProviderError

BLOCK = 1024 * 1024
"""Bytes collected before a block is cut: about 15,000 to 20,000 rows."""

LONGEST_ROW = 1024 * 1024
"""Bytes without the end of a row after which a quote must be missing."""

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?")


@dataclass(frozen=True, slots=True)
class Form:
    """How one provider writes: ``headers`` maps its name of a column to the header names it has used; ``day`` matches a
    date cell and has year, month and day as its groups; ``nulls`` are cells of a metric that is not told."""

    headers: Mapping[str, tuple[str, ...]]
    day: re.Pattern[str]
    nulls: tuple[str, ...]


def truncated_report(message: str) -> ProviderError:
    """The file stopped early: like any cut answer it is worth another try and counts against the breaker."""
    return bad_response("truncated_report", message, system=True)


def first_line(pending: bytearray, *, at_end: bool) -> bytes | None:
    """The header line at the start of ``pending``, without its newline; a byte order mark is taken off first. None:
    it has not come yet. Raises ``ProviderError`` provider_response when this is no report, or ended within the line."""
    if pending.startswith(b"\xef\xbb\xbf"):
        del pending[:3]
    end = pending.find(b"\n")
    if not at_end and end < 0 and len(pending) <= LONGEST_ROW:
        return None
    _refuse_other_formats(bytes(pending[:512]))
    if end < 0:
        raise truncated_report("the file ended within its header")
    return bytes(pending[:end])


def names_of(line: bytes) -> tuple[str, ...]:
    """The column names of a header line. Raises ``ProviderError`` provider_response."""
    try:
        names = next(csv.reader([line.decode("utf-8").rstrip("\r")]), [])
    except (UnicodeDecodeError, csv.Error):
        raise bad_response("bad_encoding", "the report's header is not UTF-8 text", retryable=False) from None
    cleaned = tuple(name.strip() for name in names)
    doubled = sorted({name for name in cleaned if cleaned.count(name) > 1})
    if doubled:
        message = f"the report names column {shown(doubled[0], 60)!r} twice"
        raise bad_response("duplicate_column", message, retryable=False)
    return cleaned


def _refuse_other_formats(start: bytes) -> None:
    text = start.lstrip()
    if not text:
        raise bad_response("empty_report", "the file is empty")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text:
        raise bad_response("bad_encoding", "the report is not UTF-8 text", retryable=False)
    if text.startswith((b"<", b"{", b"[")):
        raise bad_response("not_a_report", "the file is a page or a message, not a report")


def last_row_end(text: bytes) -> int:
    """Offset after the last newline that ends a row; 0 when there is none."""
    end = text.rfind(b"\n") + 1
    if b'"' not in text:
        return end
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        # The last quote opened a cell, so every newline behind it belongs to that cell.
        before = text.rfind(b"\n", 0, text.rfind(b'"', 0, end)) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end


def number(cell: str, column: str) -> Decimal:
    """A metric cell, thousands separators allowed. Raises ``ProviderError`` provider_response naming the column."""
    text = cell.strip()
    plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        if _NUMBER.fullmatch(plain):
            return Decimal(plain)
    except InvalidOperation:
        pass
    raise bad_value(column, cell)


def bad_value(column: str, cell: str) -> ProviderError:
    """A cell that is none of the values its column may hold."""
    message = f"column {shown(column, 60)!r} holds {shown(cell, 60)!r}"
    return bad_response("bad_value", message, retryable=False)
