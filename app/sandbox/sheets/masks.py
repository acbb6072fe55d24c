"""The ``fields`` parameter: ``properties.title,sheets(properties(sheetId,title))``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from app.sandbox.sheets.errors import SheetsError

Mask = dict[str, "Mask"]
"""Name -> what of it is wanted; nothing more said: all."""

_TOKEN = re.compile(r"[A-Za-z]+|[.,()/*]")


def parse(text: str) -> Mask:
    """The wanted members. SheetsError for what is no mask."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise _invalid(text)
    reading = iter([*tokens, ")"])
    found = _group(reading, text)
    if next(reading, None) is not None:
        raise _invalid(text)
    return found


def _group(reading: Iterator[str], text: str) -> Mask:
    found: Mask = {}
    at, named = found, False
    for token in reading:
        if token in (",", ")"):
            if not named:
                raise _invalid(text)
            if token == ")":
                return found
            at, named = found, False
        elif token == "(":
            at.update(_group(reading, text))
        elif token not in (".", "/"):
            at, named = at.setdefault(token, {}), True
    raise _invalid(text)


def shaped(content: Any, mask: Mask) -> Any:
    """The content with only the wanted members. SheetsError for a member that no answer has."""
    if not mask or "*" in mask:
        return content
    if isinstance(content, list):
        return [shaped(one, mask) for one in content]
    return {name: shaped(content[name], inner) for name, inner in mask.items() if name in content}


def _invalid(text: str) -> SheetsError:
    return SheetsError(f"Error expanding 'fields' parameter. Cannot find matching fields for path '{text}'.")
