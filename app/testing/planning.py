"""Builders for the planner's domain: rules, connectors, accepted requests and results that a test names only in part.

Days are ordinals around ``TODAY``, instants ms around ``NOW`` (noon UTC of that day).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from app.domain import closing
from app.domain.coverage import DataSet
from app.domain.messages import Accept, Offer, StoredFile
from app.domain.model import Catalogue, ConnectorFacts, Field, Quota, ReportType
from app.domain.planner import step
from app.domain.rows import Batch
from app.domain.rules import ConnectorRules, Rules
from app.domain.state import Changes, State
from app.streams import internal

TODAY = date(2026, 3, 10).toordinal()
NOW = int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp() * 1000)
REPORT = "campaign_performance"
CATALOGUE: Catalogue = {
    "DV360": {
        REPORT: ReportType(
            REPORT,
            (
                Field("date", "date", "key", "FILTER_DATE"),
                Field("impressions", "int64", "metric", "METRIC_IMPRESSIONS"),
                Field("clicks", "int64", "metric", "METRIC_CLICKS"),
                Field("reach", "int64", "metric", "METRIC_REACH", standard=False),
                Field("views", "int64", "metric", "METRIC_VIEWS", standard=False),
                Field("forbidden", "int64", "metric", "METRIC_FORBIDDEN", standard=False),
            ),
            retention_days=700,
            settling_days=3,
        )
    }
}
COLUMNS = CATALOGUE["DV360"][REPORT].standard_names


def quota(name: str = "per_second", limit: int = 4, period_ms: int = 1_000, **changes: Any) -> Quota:
    """A sliding quota of the application on report calls."""
    given: dict[str, Any] = {"connector_type": "DV360", "charge": "reports", "scope": "application"}
    return Quota(name, limit=limit, period_ms=period_ms, **(given | changes))


def rules(
    quotas: Iterable[Quota] = (), *, minimum: int = 3, polls_s: Sequence[float] = (5.0,), **changes: Any
) -> Rules:
    """Rules of one connector type with a start and a poll step, as DV360 has."""
    connector = ConnectorRules(
        quotas=tuple(quotas),
        steps=("start", "poll"),
        minimum_calls={"reports": minimum},
        poll_schedule_s=tuple(polls_s),
    )
    return Rules({"DV360": connector}, CATALOGUE, **changes)


def facts(number: int = 1, **changes: Any) -> ConnectorFacts:
    """Connector ``number`` of organisation 1, an account and a grant of its own, all under one provider's user."""
    given: dict[str, Any] = {
        "connector_id": f"conn_{number:032x}",
        "org_id": 1,
        "connector_type": "DV360",
        "account_id": f"acc{number}",
        "grant_id": f"grant_{number:032x}",
        "subject": "someone",
    }
    return ConnectorFacts(**(given | changes))


def request_id(number: int) -> str:
    """The id of request ``number``."""
    return f"req_{number:032x}"


def accept(number: int, start: int, end: int, **changes: Any) -> Accept:
    """Request ``number`` for a run of days, scheduled, standard columns, accepted at ``NOW``."""
    given: dict[str, Any] = {
        "request_id": request_id(number),
        "connector": facts(),
        "report_type": REPORT,
        "start": start,
        "end": end,
        "fields": (),
        "priority_class": 3,
        "accepted_at": NOW,
        "body_hash": f"{number:032x}",
    }
    return Accept(**(given | changes))


def stored(start: int, end: int, *, name: str = "file", rows: int = 2, reading: str = "", **changes: Any) -> StoredFile:
    """A result object over a run of days with ``rows`` rows a day; ``reading`` changes every day's digest."""
    days = tuple((day, rows, _digest(day, reading)) for day in range(start, end + 1))
    given: dict[str, Any] = {"size_bytes": 1_000, "checksum": "sha256:00", "totals": {}}
    return StoredFile(f"file:///{name}.parquet", start, end, rows * len(days), days=days, **(given | changes))


def result_of(offer: Offer, *, reading: str = "") -> StoredFile:
    """What a fetch of an offer writes: an object named after the batch and its run, over all its days and columns."""
    catalogue = CATALOGUE[offer.connector.connector_type][offer.report_type]
    asked = {*catalogue.standard_names, *offer.fields}
    absent = tuple(f.name for f in catalogue.fields if f.name not in asked)
    name = f"{offer.batch_id}-{offer.run}"
    return stored(offer.start, offer.end, name=name, reading=reading, columns_absent=absent)


def _digest(day: int, reading: str) -> str:
    return hashlib.sha256(f"{day}|{reading}".encode()).hexdigest()[:16]


def take(state: State, *messages: Any, at: int | None = None) -> Changes:
    """One planner step over messages that all arrived at one instant (default: the state's own now)."""
    now = state.now if at is None else at
    return step(state, [(message, now) for message in messages])


def batches(state: State) -> list[Batch]:
    """All open batches by first day."""
    return sorted(state.batches.values(), key=lambda b: (b.connector.connector_id, b.start, b.batch_id))


def reasons(state: State) -> dict[str, dict[str, Any] | None]:
    """Batch id -> why it waits, of those that wait for their turn."""
    return {name: closing.waiting(state, state.batches[name]) for name in state.queue}


def by_day(data: DataSet) -> dict[int, int]:
    """Day -> version held."""
    return {day: run.version for run in data.runs for day in range(run.start, run.end + 1)}


class Rows:
    """The planner's durable rows as bytes, as a compacted topic would hold them."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def write(self, changes: Changes) -> None:
        """Takes the rows of one step; None deletes."""
        for key, row in changes.rows.items():
            value = internal.dump_row(row)
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value

    def read(self) -> dict[str, Any]:
        """Key -> row, as a new owner reads them back."""
        return {key: internal.load_row(key, value) for key, value in self._values.items()}
