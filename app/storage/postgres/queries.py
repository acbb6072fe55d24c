"""SQL by name. A file of ``sql/queries`` holds statements, each under a ``-- name:`` and a ``-- purpose:`` line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "sql" / "queries"
_HEAD = re.compile(r"^-- name: (?P<name>\w+)\n-- purpose: (?P<purpose>\S.*)\n", re.MULTILINE)


@cache
def statements(table: str) -> Mapping[str, str]:
    """Name -> SQL of one file. Raises ``ValueError`` for a file with text outside its statements, or a name twice."""
    text = (_FOLDER / f"{table}.sql").read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    if not heads or text[: heads[0].start()].strip():
        raise ValueError(f"{table}.sql must begin with a name and a purpose line")
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = {head["name"]: text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}
    if len(found) != len(heads):
        raise ValueError(f"{table}.sql names a statement twice")
    return found
