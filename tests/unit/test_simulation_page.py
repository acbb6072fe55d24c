"""The page of a run and its plots, and the command that makes them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.simulation import plots
from app.simulation.plots import Axis, decades, linear
from tests.unit.conftest import Run

HOSTILE = "a <script>alert(1)</script> & \" 'b'"
SCENARIO = {
    "title": HOSTILE,
    "duration": "3m",
    "planner": {"max_concurrent": 2},
    "connectors": {"GOOGLE_ADS": {"quotas": [{"name": "minute", "limit": 6, "period": "1m"}]}},
    "organisations": [{"name": "one"}, {"name": "two"}],
    "streams": [
        {"kind": "bursts", "size": 12, "ending": "walk", "ranges": [2]},
        {"kind": "poisson", "per_hour": 60, "priority": "premium"},
    ],
}


class Pieces(HTMLParser):
    """Tags, their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SCENARIO))
    return str(path)


def test_the_page_holds_five_plots_and_loads_nothing(run: Run, scenario: str, tmp_path: Path) -> None:
    code, out, err = run("simulate", scenario, "--out", str(tmp_path / "page.html"), "--json")
    assert (code, err) == (0, f"the page is in {tmp_path / 'page.html'}\n")
    assert json.loads(out)["commands"]["sent"] > 24
    text = (tmp_path / "page.html").read_text()
    pieces = Pieces()
    pieces.feed(text)
    names = [tag for tag, _ in pieces.tags]
    assert names.count("svg") == 5
    assert not {"script", "link", "img", "iframe", "image", "use"} & set(names)
    assert not any({"src", "href", "onload"} & attrs.keys() for _, attrs in pieces.tags)
    assert "url(" not in text
    assert HOSTILE in pieces.text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_command_tells_waits_quotas_savings_and_shares(run: Run, scenario: str) -> None:
    code, out, _ = run("simulate", scenario)
    assert code == 0
    for told in ("premium", "normal", "GOOGLE_ADS minute", "of its share", "over a quota: 0 calls", "needed no fetch"):
        assert told in out
    assert run("simulate", scenario, "--json")[1] == run("simulate", scenario, "--json")[1]
    assert run("simulate", scenario, "--json")[1] != run("simulate", scenario, "--json", "--seed", "9")[1]


def test_scenarios_are_listed(run: Run) -> None:
    names = [row["name"] for row in json.loads(run("simulate", "--list", "--json")[1])]
    assert names == ["backfills", "dashboards", "greedy", "million", "saturated"]
    assert "dashboards" in run("simulate", "--list")[1]


def test_wrong_scenarios_are_2_with_every_fault(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | {"sed": 1, "duration": "soon"}))
    code, out, err = run("simulate", str(path))
    assert (code, out) == (2, "")
    assert "did you mean 'seed'?" in err
    assert "duration: must be a duration" in err
    assert run("simulate")[0] == run("simulate", "dashbords")[0] == 2
    assert run("simulate", "dashboards", "--out", str(tmp_path / "none" / "page.html"))[0] == 2
    code, out, err = run("simulate", "million", "--out", str(tmp_path))  # said before it runs for a minute
    assert (code, out, err.splitlines()[0]) == (2, "", f"error: {tmp_path}: Is a directory")


@given(st.floats(0, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_values_lie_on_their_axis_and_ticks_are_few_and_round(first: float, second: float, log: bool) -> None:
    axis = decades([first, second], 10, 100, 0.1) if log else linear([first, second], 10, 100)
    low, high = sorted((max(first, 0.1 if log else 0), second))
    assert 10 <= axis.place(low) <= axis.place(max(high, low)) <= 110
    assert 1 <= len(axis.ticks()) <= (12 if log else 9)
    assert all(axis.low * 0.999 <= tick <= axis.high * 1.001 for tick in axis.ticks())


def test_an_axis_is_straight_or_by_decades() -> None:
    assert [Axis(0, 10, 0, 100).place(value) for value in (0, 5, 10, 11)] == [0, 50, 100, 100]
    assert [Axis(1, 100, 0, 100, log=True).place(value) for value in (1, 10, 100)] == [0, 50, 100]
    assert Axis(0, 10, 100, -50).place(10) == 50


def test_names_in_plots_are_escaped() -> None:
    for text in (
        plots.lines(HOSTILE, {HOSTILE: [(0, 0), (1, 1)]}, x=HOSTILE, y=HOSTILE, level=1),
        plots.scatter(HOSTILE, {HOSTILE: [(1, 2)]}, x=HOSTILE, y=HOSTILE, least=1),
        plots.bars(HOSTILE, [(HOSTILE, 1.0)], x=HOSTILE, level=1),
    ):
        assert "<script" not in text
        ElementTree.fromstring(text)
