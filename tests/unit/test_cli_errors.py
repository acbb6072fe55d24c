"""``connector errors`` and the page that is drawn from the same tables."""

from __future__ import annotations

import json
from pathlib import Path

from app.cli.errors import markdown
from app.config import Settings
from app.connectors.registry import connectors_of, error_tables_of
from tests.unit.conftest import Run

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
TABLES = error_tables_of(connectors_of(Settings.load({})))


def test_the_page_is_what_the_tables_say() -> None:
    """``.venv/bin/python -c 'from app.cli.errors import markdown; print(markdown(), end="")'`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_every_row_of_every_adapter_is_printed(run: Run) -> None:
    code, out, _ = run("errors", "--json")
    assert code == 0
    told = [(row["type"], row["row"], row["code"], row["source"], row["quota"]) for row in json.loads(out)]
    assert told == [
        (str(kind), at, row.code, row.source, row.quota)
        for kind, rows in TABLES.items()
        for at, row in enumerate(rows, 1)
    ]


def test_a_row_says_what_it_is_about_and_what_follows(run: Run) -> None:
    lines = run("errors", "DV360")[1].splitlines()
    assert len(lines) == 1 + len(TABLES["DV360"])
    assert lines[1].split()[:5] == ["DV360", "1", "403", "dailyLimitExceeded", "quota"]
    assert "not now: reports_per_day" in lines[1]
    assert "tried again with a new report" in next(line for line in lines if " report_lost " in line)
    assert "tried again; counts against the breaker" in next(line for line in lines if "500 to 599" in line)
    assert "190, 102" in run("errors", "META")[1]
    assert "rateScope ACCOUNT" in run("errors", "GOOGLE_ADS")[1]


def test_a_type_without_an_adapter_is_a_wrong_use(run: Run) -> None:
    code, _, error = run("errors", "NONE")
    assert code == 2
    assert "DV360" in error


def test_a_type_may_be_typed_in_small_letters(run: Run) -> None:
    assert run("errors", "csv_https") == run("errors", "CSV_HTTPS")
    assert run("errors", "csv_https")[0] == 0
