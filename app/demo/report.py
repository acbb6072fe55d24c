"""The table at the end, from the events and from the simulator's own arrival log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.demo import story
from app.demo.acts import Told
from app.demo.events import Seen

COUNTED = ("reports", "operations")
"""Quota groups whose calls providers count, and this demo makes."""
Call = Mapping[str, Any]

NEXT = (
    "make up                             # the same servers, until Ctrl-C; the others in another terminal",
    (
        ".venv/bin/connector connectors add --org 1 --type DV360 --account 4567 \\\n"
        '      --credentials <(echo \'{"refresh_token": "1//sandbox-alice"}\')'
    ),
    ".venv/bin/connector fetch --type DV360 --account 4567 --days 7 --wait",
)


def figures(
    told: Told, seen: Seen, calls: Sequence[Call], ours: str, naive: str, ready_s: float, took_s: float
) -> dict[str, Any]:
    """Every number of the table. ``ours`` and ``naive``: the application ids that the simulator counted by."""
    made = [c for c in calls if c["quota_group"] in COUNTED and c["application"] == ours]
    theirs = [c for c in calls if c["quota_group"] in COUNTED and c["application"] == naive]
    alone = story.calls_alone(told.asked)
    good = [e for e in seen.ended.values() if e["type"] == "data_fetched"]
    files = _files(seen)
    return {
        "organisations": len({one.account.org_id for one in told.asked}),
        "commands": len(told.asked),
        "answered_with_data": len(good),
        "answered_without_a_call": told.reused,
        "fetches": len(seen.versions),
        "provider_calls": len(made),
        "provider_calls_if_each_were_fetched_alone": alone,
        "calls_saved": alone - len(made),
        "calls_over_quota": sum(bool(c["over_quota"]) for c in made),
        "refused_by_the_provider": sum(c["status"] == 429 for c in made),
        "naive_calls": len(theirs),
        "naive_first_429_at_call": next((n for n, c in enumerate(theirs, 1) if c["status"] == 429), None),
        "naive_calls_refused": sum(c["status"] == 429 for c in theirs),
        "premium_overtook": told.overtook,
        "premium_data_s": round(told.click_s, 1),
        "pause_s": round(told.pause_s, 1),
        "pause_bucket": told.pause_reason,
        "rows": sum(file["rows"] for file in files),
        "files": len(files),
        "first_data_s": round(min(seen.ended_s.values(), default=0.0), 1),
        "ready_s": round(ready_s, 1),
        "took_s": round(took_s, 1),
    }


def _files(seen: Seen) -> list[Mapping[str, Any]]:
    """Every file once, by its place."""
    found = {file["uri"]: file for event in seen.versions for file in event["data"]["files"]}
    return [found[uri] for uri in sorted(found)]


def lines(found: Mapping[str, Any], seen: Seen) -> list[str]:
    """The table for people, the first rows of one file, and what to try next."""
    return [*_table(found), "", *_one_file(_files(seen)), "", "Try next:", *(f"  {command}" for command in NEXT)]


def _table(found: Mapping[str, Any]) -> list[str]:
    share = round(100 * found["calls_saved"] / max(1, found["provider_calls_if_each_were_fetched_alone"]))
    first, refused = found["naive_first_429_at_call"], found["naive_calls_refused"]
    naive = f"first 429 at its call {first}; {refused} of its {found['naive_calls']} calls refused"
    premium = f"{found['premium_overtook']} waiting ones; data {found['premium_data_s']} s after it was asked"
    uncalled = found["answered_without_a_call"]
    rows = [
        ("commands", f"{found['commands']} of {found['organisations']} organisations"),
        ("answered with data", f"{found['answered_with_data']}, {uncalled} of them without any call"),
        ("merged into", f"{found['fetches']} fetches"),
        ("provider calls made", found["provider_calls"]),
        ("calls if each were fetched alone", f"{found['provider_calls_if_each_were_fetched_alone']} at least"),
        ("calls saved", f"{found['calls_saved']} ({share} %)"),
        ("calls over a quota", found["calls_over_quota"]),
        ("a client that neither merges nor waits", naive),
        ("the premium request", f"overtook {premium}"),
        ("the provider's pause", f"{found['pause_s']} s on {found['pause_bucket']}; nobody called, nothing failed"),
        ("rows and files", f"{found['rows']} in {found['files']}"),
        ("first data", f"{found['first_data_s']} s after the first command"),
        ("took", f"{found['took_s']} s, ready after {found['ready_s']} s"),
    ]  # fmt: skip
    wide = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(wide)}  {value}" for name, value in rows]


def _one_file(files: Sequence[Mapping[str, Any]]) -> list[str]:
    if not files:
        return []
    import pyarrow.parquet as pq

    path = Path(str(files[0]["uri"]).removeprefix("file://").removeprefix("file:"))
    columns = ["date", "campaign_id", "campaign_name", "impressions", "clicks", "spend", "currency"]
    table = pq.read_table(path, columns=columns, partitioning=None).slice(0, 3).to_pylist()
    cells = [columns, *([str(row[name]) for name in columns] for row in table)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [f"First rows of {path.name}:", *(f"  {row}" for row in rows)]
