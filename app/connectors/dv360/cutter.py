"""Cuts a report file, as it arrives, into header, blocks of whole rows, and trailer. Plain state, no I/O, nothing
parsed.

The form (providers.md section 2): a header line; one line per row; a totals row whose first cells are empty, or the
sentence ``No data returned by the reporting service.``; a blank line; footer lines. Everything from the totals row on
is the trailer. A file that stops before its footer has begun was cut short, whatever its rows look like.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

from app.connectors.failures import bad_response, shown
from app.domain.errors import ProviderError

BLOCK = 1024 * 1024
"""Bytes collected before a block is cut: about 15,000 to 20,000 rows."""

LONGEST_ROW = 1024 * 1024
"""Bytes without the end of a row after which a quote must be missing."""

MOST_TRAILER = 256 * 1024
NO_DATA = "No data returned by the reporting service."
NULLS = ("", "-", "--", "Unknown", "< 1000", "<1000")
"""Cells that stand for a metric that is not told."""

_TRAILER = re.compile(rb',|"",|\n|\r|"?No data returned')
_TRAILER_LINE = re.compile(rb'\n(?:,|"",|\n|\r|"?No data returned)')
"""How a line begins that is no row; a row begins with its date."""
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?")


class Cutter:
    """Feed it pieces; it answers blocks of whole rows. ``header`` is set once known, ``trailer`` grows after the
    rows."""

    def __init__(self, block: int = BLOCK) -> None:
        self.header: tuple[str, ...] | None = None
        self.trailer = bytearray()
        self._block = self._cut_at = block
        self._pending = bytearray()
        self._rows_ended = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Blocks that became complete. Raises ``ProviderError`` provider_response when this is no report."""
        if self._rows_ended:
            self._extend_trailer(piece)
            return
        self._pending += piece
        if self.header is None:
            self._take_header()
        while self.header is not None and len(self._pending) >= self._cut_at and not self._rows_ended:
            block = self._cut()
            if not block:
                break
            yield block

    def finish(self) -> Iterator[bytes]:
        """The last block. Raises ``truncated_report`` when the file ended before its trailer began."""
        if self.header is None:
            self._take_header(at_end=True)
        if not self._rows_ended and self._pending and (block := self._cut()):
            yield block
        if not self._rows_ended:
            raise truncated_report("the file ended within its rows")

    def _take_header(self, *, at_end: bool = False) -> None:
        if self._pending.startswith(b"\xef\xbb\xbf"):
            del self._pending[:3]
        end = self._pending.find(b"\n")
        if not at_end and end < 0 and len(self._pending) <= LONGEST_ROW:
            return
        _refuse_other_formats(bytes(self._pending[:512]))
        if end < 0:
            raise truncated_report("the file ended within its header")
        if self._pending.startswith(NO_DATA.encode()):
            self.header = ()
            return
        self.header = _header(bytes(self._pending[:end]))
        del self._pending[: end + 1]

    def _cut(self) -> bytes:
        """Takes whole rows off the pending bytes, up to the trailer if it is there; empty when none is whole."""
        text = bytes(self._pending)
        start = _trailer_start(text)
        if start is not None:
            self._rows_ended = True
            self._pending = bytearray()
            self._extend_trailer(text[start:])
            return text[:start]
        end = _last_row_end(text)
        if end == 0 and self._cut_at > self._block:
            raise bad_response("malformed_csv", "a row of the report does not end", retryable=False)
        # Looked for once more when so much has come that a row must have ended, not with every piece.
        self._cut_at = self._block if end else self._block + LONGEST_ROW
        del self._pending[:end]
        return text[:end]

    def _extend_trailer(self, piece: bytes) -> None:
        self.trailer += piece
        if len(self.trailer) > MOST_TRAILER:
            raise bad_response("malformed_csv", "rows follow the report's totals", retryable=False)


def truncated_report(message: str) -> ProviderError:
    """The file stopped early: like any cut answer it is worth another try and counts against the breaker."""
    return bad_response("truncated_report", message, system=True)


def control_totals(trailer: bytes, header: Sequence[str], metrics: Sequence[str]) -> dict[str, str] | None:
    """Totals row of a whole trailer as header name -> decimal text, for ``metrics`` alone; None: the report has no
    data.

    Raises ``ProviderError`` provider_response ``truncated_report`` unless totals, blank line and footer are all there.
    """
    text = trailer.decode("utf-8", "replace")
    lines = list(csv.reader(io.StringIO(text, newline="")))
    if not _is_whole(lines):
        raise truncated_report("the file ended before its footer")
    first = lines[0]
    if first and first[0].strip() == NO_DATA:
        return None
    if len(first) != len(header) or any(first[index] for index, name in enumerate(header) if name not in metrics):
        raise truncated_report("the file has no totals row")
    cells = {name: cell for name, cell in zip(header, first, strict=True) if name in metrics}
    return {name: str(number(cell, name)) for name, cell in cells.items() if cell.strip() not in NULLS}


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


def _is_whole(lines: Sequence[Sequence[str]]) -> bool:
    """First line, blank line, and a footer line that ended."""
    return len(lines) >= 3 and not any(lines[1]) and bool(lines[2]) and lines[2][0].endswith(":")


def _header(line: bytes) -> tuple[str, ...]:
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


def _trailer_start(text: bytes) -> int | None:
    """Offset of the first line that is no row, if it is there and outside quotes."""
    if _TRAILER.match(text):
        return 0
    for found in _TRAILER_LINE.finditer(text):
        if text.count(b'"', 0, found.start()) % 2 == 0:
            return found.start() + 1
    return None


def _last_row_end(text: bytes) -> int:
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
