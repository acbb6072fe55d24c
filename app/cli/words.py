"""A status body as ``name  value`` lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.domain.lifecycle import TERMINAL
from app.services.explain import failure, price, reason, writing
from app.services.wording import amount, clock, count, millis, moment, ordinal, period, size, span

Body = Mapping[str, Any]


def lines(body: Body, now: int) -> list[str]:
    """The lines; what is not known has none."""
    told = [(name, text) for name, text in _facts(body, now) if text]
    wide = max(len(name) for name, _ in told)
    return [f"{name.ljust(wide)}  {text}" for name, text in told]


def _facts(body: Body, now: int) -> Iterable[tuple[str, str]]:
    ended = body["status"] in TERMINAL
    yield "request", body["request_id"]
    yield "status", _status(body)
    yield from _asked(body)
    for name, at in (("accepted", "accepted_at"), ("started", "started_at"), ("ended", "completed_at")):
        yield name, _moment(body.get(at), now)
    yield "deadline", _moment(body.get("deadline"), now)
    if not ended:
        yield from _waiting(body, now)
    yield "with", _others(body)
    yield from _outcome(body, now)
    yield "quota", _quota(body.get("rate_limit_status"), now)
    yield "as of", _moment(body.get("as_of"), now)


def _asked(body: Body) -> Iterable[tuple[str, str]]:
    if body.get("connector_type") is None:
        return
    yield "connector", f"{body['connector_type']} {body['connector_id']}"
    if body.get("write"):
        yield "write", writing(body["write"])
    else:
        yield "report", body["report_type"]
        yield "days", "" if body.get("date_range") is None else period(body["date_range"])
        yield "columns", ", ".join(body.get("fields") or ()) or "all standard ones"
    yield "priority", str(body.get("priority") or "")
    yield "labels", " ".join(f"{name}={value}" for name, value in (body.get("labels") or {}).items())


def _status(body: Body) -> str:
    progress = body.get("progress")
    return f"{body['status']}, {progress} % done" if progress and body["status"] not in TERMINAL else body["status"]


def _moment(text: object, now: int) -> str:
    at = millis(text)
    return "" if at is None else moment(at, now)


def _waiting(body: Body, now: int) -> Iterable[tuple[str, str]]:
    position, wait_s = body.get("queue_position"), body.get("estimated_wait_seconds")
    yield "place", f"{ordinal(position)} in the queue" if position else ""
    yield "waits", reason(body["waiting"], now) if body.get("waiting") else ""
    yield "starts", f"in about {span(wait_s)} (at {clock(now + int(wait_s * 1000), now)})" if wait_s else ""


def _others(body: Body) -> str:
    others = body.get("batched_with") or ()
    return f"{count(len(others), 'other request')}: {' '.join(others)}" if others else ""


def _outcome(body: Body, now: int) -> Iterable[tuple[str, str]]:
    yield "failure", failure(body["error"]) if body.get("error") else ""
    yield "attempts", amount(body["attempts"]) if body.get("attempts") else ""
    if body.get("cost") is not None:
        yield "cost", price(body)
    took = body.get("execution_time_ms")
    end = "last answer" if body.get("write") else "file"
    yield "took", f"{span(took / 1000)} from the first call to the {end}" if took else ""
    result = body.get("result")
    if result:
        yield from _result(result, now)


def _result(result: Body, now: int) -> Iterable[tuple[str, str]]:
    if "records_fetched" in result:
        version = result.get("dataset_version")
        yield "rows", amount(result["records_fetched"]) + ("" if version is None else f", data set version {version}")
    if "rows_written" in result:
        yield "rows", f"{amount(result['rows_written'])} written at {result['target']}"
    yield "read", _moment(result.get("as_of"), now)
    yield "note", result.get("message") or ""
    for file in result.get("files") or ():
        yield "file", file_line(file)


def file_line(file: Body) -> str:
    """``file:///... 2026-09-01 to 2026-09-07 (7 days), 70 rows, 5.1 kB``."""
    days = f" {period({'start': file['from'], 'end': file['to']})}," if file.get("from") else ""
    return f"{file['uri']}{days} {count(file['rows'], 'row')}, {size(file['size_bytes'])}"


def _quota(limit: Body | None, now: int) -> str:
    if not limit:
        return ""
    reset = millis(limit.get("reset_at"))
    free = "" if reset is None or reset <= now else f", all free again at {moment(reset, now)}"
    of = f" of {limit['bucket']}" if limit.get("bucket") else ""
    return f"{amount(limit['current'])} of {amount(limit['limit'])} calls{of} spent{free}"
