"""Crash points: arming, and that the names, the lines that call them and the page that lists them agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config_sections import CRASH_POINTS
from app.streams import crash

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"crash", "crash_point"}
"""What a component calls the function it is given; kept as an attribute, with an underscore."""


def modules() -> Iterator[ast.Module]:
    for path in sorted(ROOT.joinpath("app").rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def named(node: ast.expr) -> str:
    """The last part of a name: ``crash`` of ``self._crash``."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.removeprefix("_")


def passed(call: ast.Call) -> ast.expr | None:
    """The point's name where a call is one of a crash point, at once or later by ``partial``."""
    if named(call.func) in NAMES:
        return call.args[0]
    if named(call.func) == "partial" and named(call.args[0]) in NAMES:
        return call.args[1]
    return None


def calls(module: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def takes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(NAMES & {arg.arg for arg in function.args.kwonlyargs})


def takers(module: ast.Module) -> Iterator[str]:
    """Classes and functions that take a crash point by keyword, under one of the names."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            made = (part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
            yield from (node.name for part in made if takes(part))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__" and takes(node):
            yield node.name


def test_every_point_is_passed_somewhere_and_every_name_passed_is_a_point() -> None:
    found = [name for module in modules() for call in calls(module) if (name := passed(call)) is not None]
    assert all(isinstance(name, ast.Constant) for name in found)
    assert sorted({str(name.value) for name in found if isinstance(name, ast.Constant)}) == sorted(CRASH_POINTS)


def test_whatever_takes_a_crash_point_is_given_it() -> None:
    """The default does nothing, so a component that is not given it would only look armed."""
    taking = {name for module in modules() for name in takers(module)}
    wiring = ast.parse(ROOT.joinpath("app", "bootstrap.py").read_text(encoding="utf-8"))
    made = [call for call in calls(wiring) if named(call.func) in taking]
    assert {named(call.func) for call in made} == taking
    forgotten = [named(call.func) for call in made if not NAMES & {word.arg for word in call.keywords}]
    assert forgotten == []


def test_the_settings_page_lists_every_point() -> None:
    page = ROOT.joinpath("docs", "reference", "settings.md").read_text(encoding="utf-8")
    section = page.partition("## Crash points")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^- `([a-z_]+)`:", section, re.MULTILINE)) == sorted(CRASH_POINTS)


@pytest.mark.parametrize(("spec", "survived"), [("committed", 0), ("committed:1", 0), ("committed:3", 2)])
def test_an_armed_point_ends_the_process_at_its_passing(spec: str, survived: int) -> None:
    class Died(Exception):
        pass

    def die(code: int) -> None:
        raise Died(code)

    point = crash.armed(spec, die)
    for _ in range(survived):
        point("committed")
        point("merged")
    with pytest.raises(Died, match="137"):
        point("committed")


@pytest.mark.parametrize("spec", [None, ""])
def test_nothing_happens_where_nothing_is_armed(spec: str | None) -> None:
    point = crash.armed(spec, lambda _code: pytest.fail("an unarmed point ended the process"))
    for name in CRASH_POINTS:
        point(name)


def test_a_point_that_does_not_exist_cannot_be_armed() -> None:
    with pytest.raises(ValueError, match="must be name or name:passing, with a name of consumed"):
        crash.armed("comitted")
