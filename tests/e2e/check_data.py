"""I9 and I10: files are what events say, rows are the provider's truth, versions grow, nothing is announced twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from tests.e2e.check_requests import Wanted, name_id
from tests.e2e.evidence import Account, Cells, Evidence, Stored, Told, Truth, account_rows
from tests.e2e.findings import Report

ReadFile = Callable[[str], Stored | None]
STANDARD: Mapping[str, tuple[str, ...]] = {
    "campaign_performance": (
        "connector_id", "date", "campaign_id", "campaign_name", "account_id", "currency", "time_zone",
        "impressions", "clicks", "conversions", "spend",
    ),
    "account_performance": (
        "connector_id", "date", "account_id", "account_name", "currency", "time_zone",
        "impressions", "clicks", "conversions", "spend",
    ),
}  # fmt: skip
"""Columns that every file of a report type has, in order; written down here again, apart from the product's schemas."""


@dataclass(slots=True)
class Files:
    """Result files by location: what lies there, and the days whose rows were found to be the truth."""

    read: ReadFile
    truth: Truth
    report: Report
    said: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    known: dict[str, Stored | None] = field(default_factory=dict)
    right: dict[str, dict[date, int]] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)

    def check(self, told: Mapping[str, Any], account: Account, report_type: str) -> dict[date, int]:
        """Compares a file with what an event says of it and with the truth; day -> rows of the days that are right.
        Done once for each location; later tellings must say the same."""
        uri = told["uri"]
        earlier = self.said.setdefault(uri, told)
        if earlier != told:
            self.report.add("I10 told differently", f"{uri}: {told} and {earlier}")
        if uri not in self.right:
            self.accounts[uri] = account.account_id
            self.right[uri] = self._check_new(told, account, report_type)
        return self.right[uri]

    def _check_new(self, told: Mapping[str, Any], account: Account, report_type: str) -> dict[date, int]:
        uri = told["uri"]
        stored = self.known[uri] = self.read(uri)
        if stored is None:
            self.report.add("I10 no file", uri)
            return {}
        for name, found in (("size_bytes", stored.size_bytes), ("checksum", stored.checksum), ("rows", stored.count)):
            if told[name] != found:
                self.report.add(f"I10 {name}", f"{uri}: the event says {told[name]}, the file has {found}")
        head = stored.columns[: len(STANDARD[report_type])]
        if head != STANDARD[report_type]:
            self.report.add("I9 columns", f"{uri}: {', '.join(stored.columns)}")
            return {}
        first, last = date.fromisoformat(told["from"]), date.fromisoformat(told["to"])
        outside = [day for day in stored.rows if not first <= day <= last]
        if outside:
            self.report.add("I9 rows outside the range", f"{uri}: {min(outside)}")
        return self._right_days(uri, stored, (first, last), account, report_type)

    def _right_days(
        self, uri: str, stored: Stored, days: tuple[date, date], account: Account, report_type: str
    ) -> dict[date, int]:
        """As now, or as this result's own report was: figures may have been restated since."""
        right: dict[date, int] = {}
        wrong: list[str] = []
        for report_id in ("", stored.report_id):
            truth = self.truth(report_id, account.account_id, *days)
            right, wrong = _compare(stored, truth, days, account, report_type)
            if not wrong:
                return right
        for text in wrong:
            self.report.add("I9 rows differ", f"{uri}: {text}")
        return right


def _compare(
    stored: Stored, truth: Mapping[date, Sequence[Cells]], days: tuple[date, date], account: Account, report_type: str
) -> tuple[dict[date, int], list[str]]:
    right: dict[date, int] = {}
    wrong: list[str] = []
    for day in each_day(*days):
        rows, wanted = stored.rows.get(day, ()), truth.get(day, ())
        if report_type == "account_performance":
            wanted = account_rows(wanted)
        fault = _difference(rows, wanted, account)
        if fault is None:
            right[day] = len(wanted)
        else:
            wrong.append(f"{day}: {fault}")
    return right, wrong


def each_day(first: date, last: date) -> list[date]:
    """The days of a range, both ends included."""
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


def _difference(rows: Sequence[Cells], wanted: Sequence[Cells], account: Account) -> str | None:
    """The first thing that is not as it should be, or None."""
    found = {row.get("campaign_id"): row for row in rows}
    if len(found) != len(rows):
        return "two rows have one key"
    expected = {row.get("campaign_id"): row for row in wanted}
    if found.keys() != expected.keys():
        return f"{len(found)} rows, {len(expected)} are true"
    for key, row in found.items():
        true = {"connector_id": account.connector_id, "time_zone": account.time_zone, **expected[key]}
        for name, cell in row.items():
            if name in true and cell != true[name]:
                return f"{key} {name} is {cell}, {true[name]} is true"
    return None


def check_receipts(
    evidence: Evidence, answered: Mapping[str, tuple[Wanted, Told]], files: Files, report: Report
) -> None:
    """Every ``data_fetched``: exactly what was asked, from files that hold it."""
    announced = _announced(evidence.events)
    for wanted, event in answered.values():
        if event.kind == "data_fetched":
            for kind, text in _receipt_faults(wanted, event, evidence.accounts, files, announced):
                report.add(kind, f"{wanted.request_id}: {text}")


def _announced(events: Sequence[Told]) -> set[tuple[str, str]]:
    return {
        (file["uri"], file["checksum"])
        for event in events
        if event.kind == "dataset_updated"
        for file in event.data["files"]
    }


def _receipt_faults(
    wanted: Wanted, event: Told, accounts: Mapping[str, Account], files: Files, announced: set[tuple[str, str]]
) -> list[tuple[str, str]]:
    data, asked = event.data, wanted.body
    account = accounts.get(wanted.connector_id)
    if account is None:
        return [("receipt of an unknown connector", wanted.connector_id)]
    if data["date_range"] != asked["date_range"] or data["report_type"] != asked["report_type"]:
        return [("I9 another request's answer", f"{data['report_type']} {data['date_range']}")]
    faults = _slice_faults(asked, data, files, account)
    if event.names_itself:
        faults.append(("receipt names itself", "it is in its own batched_with"))
    if data["size_bytes"] != sum(file["size_bytes"] for file in data["files"]):
        faults.append(("I10 sizes", "size_bytes is not the sum of the files"))
    if data["files"] and data["storage_location"] != data["files"][0]["uri"]:
        faults.append(("I10 location", str(data["storage_location"])))
    missing = [file["uri"] for file in data["files"] if (file["uri"], file["checksum"]) not in announced]
    faults += [("receipt before dataset_updated", uri) for uri in missing]
    return faults


def _slice_faults(
    asked: Mapping[str, Any], data: Mapping[str, Any], files: Files, account: Account
) -> list[tuple[str, str]]:
    first, last = (date.fromisoformat(asked["date_range"][end]) for end in ("start", "end"))
    if (data["slice"]["from"], data["slice"]["to"]) != (first.isoformat(), last.isoformat()):
        return [("I9 slice", f"{data['slice']['from']} to {data['slice']['to']}")]
    right: dict[date, int] = {}
    for file in data["files"]:
        right |= files.check(file, account, data["report_type"])
    faults = [
        ("I9 day not held", f"{day} is in none of its files") for day in each_day(first, last) if day not in right
    ]
    rows = sum(right.get(day, 0) for day in each_day(first, last))
    if not faults and data["records_fetched"] != rows:
        faults.append(("I9 records_fetched", f"{data['records_fetched']} told, {rows} in its days"))
    columns = set(STANDARD[data["report_type"]]) | set(asked.get("fields") or ())
    if set(data["slice"]["columns"]) != columns:
        faults.append(("I9 slice columns", ", ".join(sorted(set(data["slice"]["columns"]) ^ columns))))
    for file in data["files"]:
        stored = files.known.get(file["uri"])
        if stored is not None and not columns <= set(stored.columns):
            faults.append(("I9 column lost", f"{file['uri']} lacks {sorted(columns - set(stored.columns))}"))
    return faults


def check_data_sets(evidence: Evidence, files: Files, report: Report) -> None:
    """Every ``dataset_updated``: told once, id by its version, and for each single day versions only grow."""
    seen: set[tuple[Any, ...]] = set()
    newest: dict[tuple[Any, ...], int] = defaultdict(int)
    for event in sorted(evidence.events, key=lambda e: (e.partition, e.offset)):
        if event.kind != "dataset_updated":
            continue
        data = event.data
        name = (event.org_id, event.connector_id, data["report_type"])
        if (*name, data["version"]) in seen:
            report.add("data set version told twice", f"{name} version {data['version']}")
        seen.add((*name, data["version"]))
        if event.event_id != name_id("evt", *name, data["version"]):
            report.add("wrong event id", f"{event.event_id} of {name} version {data['version']}")
        for day in data["days"]:
            if data["version"] <= newest[*name, day["date"]]:
                report.add("R7 older version after a newer", f"{name} {day['date']} version {data['version']}")
            newest[*name, day["date"]] = max(newest[*name, day["date"]], data["version"])
        _check_days(event, evidence.accounts, files, report)
    report.figures["data set versions"] = len(seen)


def _check_days(event: Told, accounts: Mapping[str, Account], files: Files, report: Report) -> None:
    account = accounts.get(event.connector_id or "")
    if account is None:
        report.add("data set of an unknown connector", str(event.connector_id))
        return
    right: dict[date, int] = {}
    for file in event.data["files"]:
        right |= files.check(file, account, event.data["report_type"])
    told = {date.fromisoformat(day["date"]): day["rows"] for day in event.data["days"]}
    if told != right:
        days = sorted(day for day in told.keys() | right.keys() if told.get(day) != right.get(day))
        report.add("I10 days", f"{event.event_id}: {len(days)} days differ, first {days[0]}")


def check_runs(evidence: Evidence, files: Files, report: Report) -> None:
    """Results and the provider's own reports: each result was made of one that exists, of the same account and days,
    and no two of one; how many reports no result was made of."""
    reports = {str(one["report_id"]): one for one in evidence.reports}
    used: dict[str, str] = {}
    for uri in files.right:
        stored = files.known.get(uri)
        name = "" if stored is None else stored.report_id
        if name not in reports:
            report.add("result without a report", f"{uri} is made of {name or 'none'}")
            continue
        if name in used:
            report.add("two results of one report", f"{uri} and {used[name]}")
        used[name] = uri
        told, made = files.said[uri], reports[name]
        if (told["from"], told["to"]) != (made["start"], made["end"]):
            report.add("report of other days", f"{uri}: {made['start']} to {made['end']}")
        if made["accounts"] != [files.accounts[uri]]:
            report.add("report of another account", f"{uri}: {made['accounts']}")
    creates = sum(1 for call in evidence.calls if call["route"] == "reports.create" and call["status"] == 200)
    report.figures |= {
        "result files": len(files.right),
        "reports created": creates,
        "reports run": len(evidence.reports),
        "reports run that no result is made of": len(reports) - len(used),
    }
