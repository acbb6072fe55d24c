"""Cuts a report file, as it arrives, into header and blocks of whole rows. Plain state, no I/O, nothing parsed.

The form: a header line and one line per row, nothing else. No source shows a totals row, a footer or a count of rows,
so what tells a whole file from one that was cut is the transport: the length that was announced, or the end of a
chunked body. Where no length was announced, the last row must have ended as well. A provider that itself ends a body
between two rows, and says that this is all, cannot be told from one that has no more rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.connectors.csv_text import BLOCK, LONGEST_ROW, first_line, last_row_end, names_of, truncated_report
from app.connectors.failures import bad_response


class Cutter:
    """Feed it pieces; it answers blocks of whole rows. ``header`` is set once known."""

    def __init__(self, block: int = BLOCK) -> None:
        self.header: tuple[str, ...] | None = None
        self._block = self._cut_at = block
        self._pending = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Blocks that became complete. Raises ``ProviderError`` provider_response when this is no report."""
        self._pending += piece
        if self.header is None:
            self._take_header(at_end=False)
        while self.header is not None and len(self._pending) >= self._cut_at:
            block = self._cut()
            if not block:
                break
            yield block

    def finish(self, *, announced: bool) -> Iterator[bytes]:
        """The last block. ``announced``: the file has the length that was told before, so that its last line is whole
        though no newline ends it. Raises ``truncated_report`` when the file ended within a row."""
        if announced and self._pending and not self._pending.endswith(b"\n"):
            self._pending += b"\n"
        if self.header is None:
            self._take_header(at_end=True)
        if self._pending and (block := self._cut()):
            yield block
        if self._pending and announced:
            raise bad_response("malformed_csv", "the last row of the report does not end", retryable=False)
        if self._pending:
            raise truncated_report("the file ended within its rows")

    def _take_header(self, *, at_end: bool) -> None:
        line = first_line(self._pending, at_end=at_end)
        if line is not None:
            self.header = names_of(line)
            del self._pending[: len(line) + 1]

    def _cut(self) -> bytes:
        """Takes whole rows off the pending bytes; empty when none is whole."""
        text = bytes(self._pending)
        end = last_row_end(text)
        if end == 0 and self._cut_at > self._block:
            raise bad_response("malformed_csv", "a row of the report does not end", retryable=False)
        # Looked for once more when so much has come that a row must have ended, not with every piece.
        self._cut_at = self._block if end else self._block + LONGEST_ROW
        del self._pending[:end]
        return text[:end]
