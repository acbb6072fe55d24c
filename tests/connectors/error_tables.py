"""Every adapter's error table with the examples of its rows. `make error-tables` runs the tests of the rows and counts
what they exercised: `python -m tests.connectors.error_tables`."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.connectors.registry import connectors_of, error_tables_of

CONNECTORS = connectors_of(Settings.load({}))
TABLES: dict[str, tuple[Any, ...]] = dict(error_tables_of(CONNECTORS))
ROWS = [(kind, number) for kind, rows in TABLES.items() for number in range(len(rows))]
"""Every row there is: connector type and place in its table."""


def examples(kind: str) -> Any:
    """The module with the type's ``CASES``, called as the adapter's package: a new adapter brings one of its own."""
    return import_module(f"tests.connectors.examples.{type(CONNECTORS[kind]).__module__.split('.')[-2]}")


def decided(kind: str, case: Any) -> int:
    """Which row of the table decides an example."""
    refusal = examples(kind).read(case.status, {}, case.body)
    return next(number for number, row in enumerate(TABLES[kind]) if row.matches(refusal, case.call))


class Exercised:
    """A pytest plugin: the rows whose tests passed, as they said of themselves."""

    def __init__(self) -> None:
        self.rows: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.rows |= {str(value) for name, value in report.user_properties if name == "error_row"}


def main() -> int:
    exercised = Exercised()
    tests = Path(__file__).with_name("test_error_rows.py")
    failed = pytest.main([str(tests), "-q", "--no-header", "-p", "no:cacheprovider"], plugins=[exercised])
    there, tested = Counter(kind for kind, _ in ROWS), Counter(row.split()[0] for row in exercised.rows)
    for kind, count in there.items():
        print(f"{kind}: {count} rows, {tested[kind]} exercised")
    print(f"{len(ROWS)} rows, {len(exercised.rows)} exercised by a test")
    for kind, number in ROWS:
        if f"{kind} {number}" not in exercised.rows:
            print(f"not exercised: {kind} row {number + 1}, {TABLES[kind][number].code}")
    return int(failed) or int(len(exercised.rows) != len(ROWS))


if __name__ == "__main__":
    sys.exit(main())
