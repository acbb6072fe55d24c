"""Cuts the JSON array of searchStream, as it arrives, into its elements. Plain state, no I/O.

Elements are found by counting brackets outside strings; what is between them is checked here and each of them by
orjson, so that together nothing but a whole array of objects passes. A body that is one object instead of an array is
handed on as its only element: refusals come like that too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from app.connectors.failures import bad_response, too_large
from app.connectors.google_ads import errors
from app.domain.errors import ProviderError

MOST_ELEMENT = 32 * 1024 * 1024
"""Bytes one element may have. A batch of searchStream holds 10,000 rows: 3 to 10 MB."""

MOST_DEPTH = 32
"""How deep brackets may be nested; a row's members stand in the sixth."""

_FIRST_STRIDE, _LONGEST_STRIDE = 256, 16 * 1024
"""Bytes looked at in one go: few where an element begins, since it may be short, then more and more."""
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"{}[]')
_MARK = re.compile(rb'(?s)\\.|["{}\[\]]')
_SPACE = re.compile(rb"[ \t\r\n]*")
_BETWEEN = {
    "body": {b"[": "first", b"{": "alone"},
    "first": {b"{": "element", b"]": "end"},
    "separator": {b",": "next", b"]": "end"},
    "next": {b"{": "element"},
}
"""What may come next between elements -> the state after it."""


class Cutter:
    """Feed it pieces; it answers whole elements. ``alone`` says that the body is one object and no array."""

    def __init__(self) -> None:
        self.alone = False
        self._state = "body"
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._stride = _FIRST_STRIDE
        self._pending: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Elements that became complete. Raises ``ProviderError``: unreadable_answer, response_too_large."""
        at = 0
        while at < len(piece):
            if self._depth == 0:
                at = self._between(piece, at)
                continue
            stride = piece[at : at + self._stride]
            self._stride = min(4 * self._stride, _LONGEST_STRIDE)
            if self._passes(stride):
                self._keep(stride)
                at += len(stride)
            else:
                end = self._end_within(stride)
                self._keep(stride[:end])
                at += end
                yield self._take()

    def finish(self) -> None:
        """Raises ``truncated_report`` when the answer ended before its array did."""
        if self._state == "body":
            raise bad_response("empty_report", "the answer is empty")
        if self._state != "end":
            raise bad_response("truncated_report", "the answer ended before its last row", system=True)

    def _between(self, piece: bytes, at: int) -> int:
        """Moves over space and one sign; over none when it opens an element."""
        space = _SPACE.match(piece, at)
        at = space.end() if space else at
        if at == len(piece):
            return at
        state = _BETWEEN.get(self._state, {}).get(piece[at : at + 1])
        if state is None:
            raise unreadable("the answer is not the JSON array it should be")
        if state in ("element", "alone"):
            self.alone = state == "alone"
            self._depth = 1
            self._keep(b"{")
        self._state = state
        return at + 1

    def _keep(self, part: bytes) -> None:
        self._pending.append(part)
        self._size += len(part)
        if self._size > MOST_ELEMENT:
            raise too_large(f"a part of the answer is longer than {MOST_ELEMENT} bytes")

    def _take(self) -> bytes:
        element = b"".join(self._pending)
        self._pending.clear()
        self._size, self._stride = 0, _FIRST_STRIDE
        self._state = "end" if self.alone else "separator"
        return element

    def _passes(self, stride: bytes) -> bool:
        """Whether the element goes on beyond the stride, without looking at its brackets one by one; the state then
        is that after the stride, else unchanged."""
        text = stride[1:] if self._escaped else stride
        escaped = False
        if b"\\" in text:
            text = text.replace(b"\\\\", b"")
            escaped = text.endswith(b"\\")
            text = text.replace(b'\\"', b"")
        marks = text.translate(None, _NO_MARKS).replace(b'""', b"").split(b'"')
        left = _unmatched(b"".join(marks[self._in_string :: 2]))
        opened = left.lstrip(b"}]")
        lowest = self._depth - (len(left) - len(opened))
        if lowest < 1:
            return False
        if opened.strip(b"{[") or lowest + len(opened) > MOST_DEPTH:
            raise unreadable("the answer's brackets do not match, or are too deep")
        self._depth = lowest + len(opened)
        self._in_string ^= len(marks) % 2 == 0
        self._escaped = escaped
        return True

    def _end_within(self, stride: bytes) -> int:
        """Offset after the bracket that ends the element."""
        begin, self._escaped = int(self._escaped), False
        for found in _MARK.finditer(stride, begin):
            mark = found.group()
            if mark == b'"':
                self._in_string = not self._in_string
            elif not self._in_string and mark in (b"{", b"["):
                self._depth += 1
            elif not self._in_string and mark in (b"}", b"]"):
                self._depth -= 1
                if self._depth == 0:
                    return found.end()
        raise unreadable("the answer's brackets do not match")


def _unmatched(brackets: bytes) -> bytes:
    """What is left when pairs are taken out, innermost first."""
    for _ in range(MOST_DEPTH):
        shorter = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(shorter) == len(brackets):
            return shorter
        brackets = shorter
    raise unreadable("the answer is nested too deeply")


def results(element: bytes) -> list[Any]:
    """The rows of one element: none when it names none. Raises ``ProviderError``: what it refuses with, or
    unreadable_answer."""
    try:
        content = orjson.loads(element)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise unreadable("a part of the answer is not JSON")
    if "error" in content:
        raise errors.refused_within(content)
    rows = content.get("results", [])
    if not isinstance(rows, list):
        raise unreadable("the answer's results are no list")
    return rows


def unreadable(message: str) -> ProviderError:
    """An answer that is not what searchStream answers."""
    return bad_response("unreadable_answer", message)
