"""Prints how long functions and files are, docstrings aside, and fails where one is over the limit."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOTS: Final = ("app", "agents", "api", "deploy", "tests")
GENERATED: Final = "_generated"
LONGEST_FUNCTION: Final = 60
LONGEST_FILE: Final = 400


@dataclass(frozen=True)
class Size:
    """Lines of one function or file, and where it is."""

    lines: int
    where: str


def main(root: Path) -> int:
    """Exit code 1 when something is too long."""
    files = [path for name in ROOTS for path in sorted((root / name).rglob("*.py")) if GENERATED not in path.parts]
    file_sizes = [Size(len(path.read_text().splitlines()), str(path.relative_to(root))) for path in files]
    function_sizes = [size for path in files for size in functions(path.read_text(), str(path.relative_to(root)))]
    print(summary("functions", function_sizes))
    print(summary("files", file_sizes))
    too_long = [size for size in function_sizes if size.lines > LONGEST_FUNCTION]
    too_long += [size for size in file_sizes if size.lines > LONGEST_FILE]
    for size in too_long:
        print(f"too long: {size.where}: {size.lines} lines")
    return 1 if too_long else 0


def functions(source: str, name: str) -> Iterator[Size]:
    """The size of each function in a source text, from ``def`` to its end, without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield Size(node.end_lineno - node.lineno + 1 - _docstring_lines(node), f"{name}:{node.lineno} {node.name}")


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


def summary(kind: str, sizes: list[Size]) -> str:
    """One line: count, median, 95th percentile and the longest."""
    if not sizes:
        return f"{kind}: none"
    ordered = sorted(sizes, key=lambda size: size.lines)
    median = statistics.median(size.lines for size in ordered)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))].lines
    return (
        f"{kind}: {len(sizes)}, median {median:g} lines, p95 {p95}, longest {ordered[-1].lines} ({ordered[-1].where})"
    )


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[2]))
