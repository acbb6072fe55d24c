"""Public facts (spec section 13): one plain function per event type, each giving a complete ``messages.Event``.

Keyword arguments only; ``now`` and every ``_at`` are ms since the epoch, days are ordinals, costs decimal text. Ids are
computed from what the fact is about, so that a fact told twice has one id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from app.domain.errors import Failure
from app.domain.identity import dataset_event_id, refused_event_id, terminal_event_id, text_id, uuid5
from app.domain.messages import Event, StoredFile
from app.domain.model import ConnectorFacts, Days

TERMINAL_TYPES = frozenset({"data_fetched", "fetch_failed", "fetch_cancelled", "data_written", "write_failed"})
"""Exactly one of these ends every accepted request."""

EVENT_TYPES = (
    *("data_fetched", "dataset_updated", "fetch_failed", "fetch_cancelled", "data_written", "write_failed"),
    *("oauth_connected", "oauth_revoked", "rate_limit_hit", "circuit_opened", "circuit_closed"),
)

MAX_MESSAGE_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that a terminal event answers. ``days`` None: a table."""

    connector: ConnectorFacts
    request_id: str
    labels: Mapping[str, str]
    report_type: str | None = None
    days: Days | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class DayNews:
    """One day of a new version: ordinal, rows, state (``open``, ``settling``, ``final``), whether its rows differ."""

    day: int
    rows: int
    state: str
    changed: bool


def data_fetched(
    *,
    now: int,
    asked: Asked,
    fields: Sequence[str],
    batch_id: str | None,
    batched_with: Sequence[str],
    files: Sequence[StoredFile],
    records_fetched: int,
    columns: Sequence[str],
    dataset_version: int | None,
    stale: bool,
    as_of: int | None,
    attempts: int,
    provider_calls: int,
    execution_time_ms: int,
    cost: str,
    cost_unit: str = "calls",
) -> Event:
    """The requester's receipt. ``records_fetched`` counts the rows of its own range; ``columns`` are what it reads."""
    data = {
        "report_type": asked.report_type or "",
        "date_range": date_range(asked.days),
        "fields": list(fields),
        "batch_id": batch_id,
        "batched_with": list(batched_with),
        "storage_location": files[0].uri if files else None,
        "files": [_file(file, table=asked.days is None) for file in files],
        "records_fetched": records_fetched,
        "size_bytes": sum(file.size_bytes for file in files),
        "slice": {"columns": list(columns), **_ends(asked.days)},
        "dataset_version": dataset_version,
        "stale": stale,
        "as_of": as_of,
        "attempts": attempts,
        "provider_calls": provider_calls,
        "execution_time_ms": execution_time_ms,
        "cost": cost,
        "cost_unit": cost_unit,
    }
    return _terminal("data_fetched", now, asked, data)


def dataset_updated(
    *,
    now: int,
    connector: ConnectorFacts,
    report_type: str,
    version: int,
    files: Sequence[StoredFile],
    days: Sequence[DayNews],
    complete_through: int | None,
    reason: str,
    columns_absent: Sequence[str] = (),
    totals: Mapping[str, str] | None = None,
    expires_at: int | None = None,
    traceparent: str | None = None,
) -> Event:
    """A new version of a data set. ``totals``: decimal text by column; impressions, clicks, spend are told."""
    data = {
        "report_type": report_type,
        "version": version,
        "files": [_file(file, table=False) for file in files],
        "days": [{"date": _text(d.day), "rows": d.rows, "state": d.state, "changed": d.changed} for d in days],
        "columns_absent": list(columns_absent),
        "complete_through": None if complete_through is None else _text(complete_through),
        "time_zone": connector.time_zone,
        "currency": connector.currency or next((f.currency for f in files if f.currency), None),
        "account_id": connector.account_id,
        "totals": _totals(totals),
        "reason": reason,
        "expires_at": expires_at,
    }
    event_id = dataset_event_id(connector.org_id, connector.connector_id, report_type, version)
    return _of_connector("dataset_updated", event_id, now, connector, data, traceparent)


def fetch_failed(*, now: int, asked: Asked, failure: Failure, attempts: int, batch_id: str | None) -> Event:
    """An accepted fetch request has failed for good."""
    return _terminal("fetch_failed", now, asked, _failed(asked, failure, attempts, batch_id))


def write_failed(*, now: int, asked: Asked, failure: Failure, attempts: int, batch_id: str | None = None) -> Event:
    """An accepted write request has failed for good."""
    return _terminal("write_failed", now, asked, _failed(asked, failure, attempts, batch_id))


def fetch_cancelled(*, now: int, asked: Asked, reason: str) -> Event:
    """An accepted request was withdrawn."""
    return _terminal("fetch_cancelled", now, asked, {"reason": reason[:MAX_MESSAGE_LENGTH]})


def data_written(*, now: int, asked: Asked, target: str, rows_written: int) -> Event:
    """An accepted write request is done."""
    return _terminal("data_written", now, asked, {"target": target, "rows_written": rows_written})


def refused(
    *,
    kind: str,
    now: int,
    request_id: str,
    value: bytes,
    failure: Failure,
    org_id: int | None = None,
    connector_id: str | None = None,
    connector_type: str | None = None,
    labels: Mapping[str, str] | None = None,
    report_type: str | None = None,
    days: Days | None = None,
    traceparent: str | None = None,
) -> Event:
    """A command that never became a request; ``kind`` is fetch_failed or write_failed, ``value`` the record's bytes.

    ``connector_type`` is told only for the organisation's own connector.
    """
    return Event(
        event_id=refused_event_id(request_id, value),
        type=kind,
        occurred_at=now,
        data=_failure_data(report_type, days, failure, 0, None, refused=True),
        org_id=org_id,
        connector_id=connector_id,
        connector_type=connector_type,
        request_id=request_id,
        labels=dict(labels or {}),
        traceparent=traceparent,
    )


def oauth_connected(
    *, now: int, connector: ConnectorFacts, accounts: Sequence[tuple[str, str]], occasion: str | int
) -> Event:
    """An authorisation is in place. ``accounts`` are (id, name); ``occasion`` (grant version) is part of its id."""
    event_id = text_id("evt", uuid5("oauth_connected", connector.connector_id, occasion))
    data = {"accounts": [{"id": number, "name": name} for number, name in accounts]}
    return _of_connector("oauth_connected", event_id, now, connector, data, None)


def oauth_revoked(
    *, now: int, connector: ConnectorFacts, reason: str, reconnect_url: str | None, occasion: str | int
) -> Event:
    """An authorisation is gone; once per connector and ``occasion`` (grant version)."""
    event_id = text_id("evt", uuid5("oauth_revoked", connector.connector_id, occasion))
    data = {"reason": reason[:MAX_MESSAGE_LENGTH], "reconnect_url": reconnect_url}
    return _of_connector("oauth_revoked", event_id, now, connector, data, None)


def rate_limit_hit(
    *,
    now: int,
    connector_type: str,
    bucket: str,
    scope: str,
    limit: int,
    period_ms: int,
    until_at: int | None,
    source: str,
    spent_by_others: bool = False,
    org_id: int | None = None,
    connector_id: str | None = None,
) -> Event:
    """A bucket is full (``source`` local) or closed by the provider (``provider``); once per bucket and instant.

    ``org_id`` and ``connector_id`` are given only where one connector alone spends from the bucket.
    """
    data = {
        "bucket": bucket,
        "scope": scope,
        "limit": limit,
        "period_s": period_ms // 1000,
        "until": until_at,
        "source": source,
        "spent_by_others": spent_by_others,
    }
    event_id = text_id("evt", uuid5("rate_limit_hit", connector_type, bucket, source, now))
    return Event(event_id, "rate_limit_hit", now, data, org_id, connector_id, connector_type)


def circuit_opened(
    *, now: int, connector_type: str, account_id: str, failures: int, last_error: str, retry_at: int
) -> Event:
    """Calls for (connector type, account) are stopped until ``retry_at``."""
    data = {"account_id": account_id, "failures": failures, "last_error": last_error, "retry_at": retry_at}
    event_id = text_id("evt", uuid5("circuit_opened", connector_type, account_id, now))
    return Event(event_id, "circuit_opened", now, data, connector_type=connector_type)


def circuit_closed(*, now: int, connector_type: str, account_id: str, opened_at: int) -> Event:
    """Calls for (connector type, account) go on."""
    data = {"account_id": account_id, "open_s": (now - opened_at) / 1000}
    event_id = text_id("evt", uuid5("circuit_closed", connector_type, account_id, now))
    return Event(event_id, "circuit_closed", now, data, connector_type=connector_type)


def date_range(days: Days | None) -> dict[str, str] | None:
    """``{start, end}`` as the wire has it; None for a table."""
    return None if days is None else {"start": days.first, "end": days.last}


def _terminal(kind: str, now: int, asked: Asked, data: dict[str, Any]) -> Event:
    connector = asked.connector
    return Event(
        event_id=terminal_event_id(connector.connector_id, asked.request_id),
        type=kind,
        occurred_at=now,
        data=data,
        org_id=connector.org_id,
        connector_id=connector.connector_id,
        connector_type=connector.connector_type,
        request_id=asked.request_id,
        labels=dict(asked.labels),
        traceparent=asked.traceparent,
    )


def _of_connector(
    kind: str, event_id: str, now: int, connector: ConnectorFacts, data: dict[str, Any], traceparent: str | None
) -> Event:
    return Event(
        event_id=event_id,
        type=kind,
        occurred_at=now,
        data=data,
        org_id=connector.org_id,
        connector_id=connector.connector_id,
        connector_type=connector.connector_type,
        traceparent=traceparent,
    )


def _failed(asked: Asked, failure: Failure, attempts: int, batch_id: str | None) -> dict[str, Any]:
    return _failure_data(asked.report_type, asked.days, failure, attempts, batch_id, refused=False)


def _failure_data(
    report_type: str | None, days: Days | None, failure: Failure, attempts: int, batch_id: str | None, *, refused: bool
) -> dict[str, Any]:
    return {
        "report_type": report_type,
        "date_range": date_range(days),
        "error": {
            "class": failure.error_class.value,
            "code": failure.code,
            "provider_code": failure.provider_code,
            "message": failure.message[:MAX_MESSAGE_LENGTH],
            "retryable": failure.retryable,
        },
        "attempts": attempts,
        "batch_id": batch_id,
        "refused": refused,
    }


def _file(file: StoredFile, *, table: bool) -> dict[str, Any]:
    return {
        "uri": file.uri,
        **_ends(None if table else Days(file.start, file.end)),
        "rows": file.rows,
        "size_bytes": file.size_bytes,
        "checksum": file.checksum,
    }


def _ends(days: Days | None) -> dict[str, str | None]:
    return {"from": None, "to": None} if days is None else {"from": days.first, "to": days.last}


def _totals(totals: Mapping[str, str] | None) -> dict[str, Any] | None:
    if totals is None:
        return None
    # Counts come as decimal text of a sum, which may be written with a fraction of zeros.
    counts = {name: int(Decimal(totals[name])) if name in totals else None for name in ("impressions", "clicks")}
    return {**counts, "spend": totals.get("spend")}


def _text(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()
