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

from app.connectors.csv_text import BLOCK, LONGEST_ROW, first_line, last_row_end, names_of, number, truncated_report
from app.connectors.failures import bad_response

MOST_TRAILER = 256 * 1024
NO_DATA = "No data returned by the reporting service."
NULLS = ("", "-", "--", "Unknown", "< 1000", "<1000")
"""Cells that stand for a metric that is not told."""

_TRAILER = re.compile(rb',|"",|\n|\r|"?No data returned')
_TRAILER_LINE = re.compile(rb'\n(?:,|"",|\n|\r|"?No data returned)')
"""How a line begins that is no row; a row begins with its date."""
_MAYBE = re.compile(rb'\n[,"\n\rN]')
"""What the line above begins with: a search that costs half as much, and finds nothing in most blocks."""


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
        line = first_line(self._pending, at_end=at_end)
        if line is None:
            return
        if line.startswith(NO_DATA.encode()):
            self.header = ()
            return
        self.header = names_of(line)
        del self._pending[: len(line) + 1]

    def _cut(self) -> bytes:
        """Takes whole rows off the pending bytes, up to the trailer if it is there; empty when none is whole."""
        text = bytes(self._pending)
        start = _trailer_start(text)
        if start is not None:
            self._rows_ended = True
            self._pending = bytearray()
            self._extend_trailer(text[start:])
            return text[:start]
        end = last_row_end(text)
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


def _is_whole(lines: Sequence[Sequence[str]]) -> bool:
    """First line, blank line, and a footer line that ended."""
    return len(lines) >= 3 and not any(lines[1]) and bool(lines[2]) and lines[2][0].endswith(":")


def _trailer_start(text: bytes) -> int | None:
    """Offset of the first line that is no row, if it is there and outside quotes."""
    if _TRAILER.match(text):
        return 0
    if not _MAYBE.search(text):
        return None
    for found in _TRAILER_LINE.finditer(text):
        if text.count(b'"', 0, found.start()) % 2 == 0:
            return found.start() + 1
    return None
