"""One event in one line. Plain functions over decoded events (docs/reference/records.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from app.services.explain import failure
from app.services.wording import amount, clock, count, millis, moment, period, span

Event = Mapping[str, Any]
Data = Mapping[str, Any]


def event_line(event: Event, now_ms: int) -> str:
    """``12:00:31  data_fetched  org 1  req_...  conn_...  210 rows of ...``. ``now_ms``: the reader's now."""
    at = millis(event.get("occurred_at"))
    org = None if event.get("org_id") is None else f"org {event['org_id']}"
    about = event.get("connector_id") or event.get("connector_type")
    head = (
        clock(at, now_ms) if at is not None else "-",
        str(event["type"]).ljust(15),
        org,
        event.get("request_id"),
        about,
    )
    return "  ".join([*(str(part) for part in head if part), summary(event, now_ms)])


def summary(event: Event, now_ms: int) -> str:
    """What happened."""
    told = _SUMMARIES.get(str(event["type"]))
    return "" if told is None else told(event["data"], now_ms)


def _of(data: Data) -> str:
    days = f", {period(data['date_range'])}" if data.get("date_range") else ""
    return f"{data['report_type']}{days}"


def _fetched(data: Data, _now: int) -> str:
    stale = ", stale" if data.get("stale") else ""
    spent = f"{count(len(data['files']), 'file')}, {count(data['provider_calls'], 'call')}"
    return f"{count(data['records_fetched'], 'row')} of {_of(data)}, {spent}{stale}"


def _updated(data: Data, _now: int) -> str:
    days = data["days"]
    changed = sum(1 for day in days if day["changed"])
    rows = count(sum(day["rows"] for day in days), "row")
    of = f"version {amount(data['version'])} of {data['report_type']}"
    return f"{of} ({data['reason']}): {count(len(days), 'day')}, {amount(changed)} changed, {rows}"


def _failed(data: Data, _now: int) -> str:
    tries = f", after {count(data['attempts'], 'attempt')}" if data.get("attempts") else ""
    return f"{'refused: ' if data.get('refused') else ''}{failure(data['error'])}{tries}"


def _cancelled(data: Data, _now: int) -> str:
    return str(data["reason"])


def _written(data: Data, _now: int) -> str:
    return f"{count(data['rows_written'], 'row')} at {data['target']}"


def _connected(data: Data, _now: int) -> str:
    return count(len(data["accounts"]), "account")


def _revoked(data: Data, _now: int) -> str:
    link = f"; connect again at {data['reconnect_url']}" if data.get("reconnect_url") else ""
    return f"{data['reason']}{link}"


def _limited(data: Data, now: int) -> str:
    until = millis(data.get("until"))
    end = "" if until is None else f" until {moment(until, now)}"
    who = "the provider says so" if data["source"] == "provider" else "by our count"
    others = ", others spend it too" if data.get("spent_by_others") else ""
    bucket = str(data["bucket"]).partition("|")[0]
    return f"{bucket} ({count(data['limit'], 'call')} in {span(data['period_s'])}) is used up{end}: {who}{others}"


def _opened(data: Data, now: int) -> str:
    retry = millis(data.get("retry_at"))
    again = "" if retry is None else f"; tried again at {moment(retry, now)}"
    failures = count(data["failures"], "failure")
    return f"account {data['account_id']}: no more calls after {failures}, the last {data['last_error']}{again}"


def _closed(data: Data, _now: int) -> str:
    return f"account {data['account_id']}: calls go on after {span(data['open_s'])}"


_SUMMARIES: Final[Mapping[str, Callable[[Data, int], str]]] = {
    "data_fetched": _fetched,
    "dataset_updated": _updated,
    "fetch_failed": _failed,
    "fetch_cancelled": _cancelled,
    "data_written": _written,
    "write_failed": _failed,
    "oauth_connected": _connected,
    "oauth_revoked": _revoked,
    "rate_limit_hit": _limited,
    "circuit_opened": _opened,
    "circuit_closed": _closed,
}
