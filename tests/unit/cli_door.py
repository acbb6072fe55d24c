"""A real HTTP server that plays REST with canned answers (docs/front-door.md), in a thread of its own: commands run
their own event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

BASE = "/api/v1/connectors"
REQUEST = "req_" + "a" * 32
OTHER = "req_" + "b" * 32
CONNECTOR = "conn_" + "1" * 32
INSTANT = "2026-01-01T00:00:0{}.000Z"


@dataclass(frozen=True, slots=True)
class Asked:
    """One call as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Canned:
    """One answer. ``body`` text is sent as it is."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Door:
    """``answers[(method, path below the connectors)]``: in order, the last one again and again."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Canned]] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def put(self, method: str, path: str, *answers: Canned | Mapping[str, Any]) -> None:
        """What is answered there from now on."""
        self.answers[method, path] = [a if isinstance(a, Canned) else Canned(a) for a in answers]

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        path = request.path.removeprefix(BASE)
        body = json.loads(text) if text else None
        self.asked.append(Asked(request.method, path, dict(request.query), dict(request.headers), body))
        waiting = self.answers.get((request.method, path)) or [problem("not_found", 404)]
        canned = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        sent = canned.body if isinstance(canned.body, str) else json.dumps(canned.body)
        return web.Response(text=sent, status=canned.status, headers=dict(canned.headers))


def problem(slug: str, status: int, detail: str = "why", *, after: int | None = None, **more: Any) -> Canned:
    """A problem+json."""
    body = {"type": f"/problems/{slug}", "title": f"Title of {slug}", "status": status, "detail": detail, **more}
    return Canned(body, status, {} if after is None else {"Retry-After": str(after)})


def status_body(**changes: Any) -> dict[str, Any]:
    """A status body as ``GET /connectors/requests/{id}`` has it: queued, third."""
    return {
        "request_id": REQUEST,
        "status": "queued",
        "progress": 0,
        "result": None,
        "execution_time_ms": None,
        "cost": None,
        "cost_unit": "calls",
        "waiting": {"reason": "quota", "bucket": "reports_per_day", "until": "2026-01-01T00:01:00.000Z"},
        "error": None,
        "queue_position": 3,
        "estimated_wait_seconds": 45.0,
        "batched_with": [OTHER],
        "rate_limit_status": {"current": 98, "limit": 100, "reset_at": "2026-01-01T00:01:00.000Z", "bucket": "b"},
        "connector_id": CONNECTOR,
        "connector_type": "DV360",
        "report_type": "campaign_performance",
        "date_range": {"start": "2025-12-01", "end": "2025-12-07"},
        "fields": ["impressions", "clicks"],
        "priority": "normal",
        "labels": {"team": "x"},
        "attempts": 0,
        "accepted_at": INSTANT.format(0),
        "started_at": None,
        "completed_at": None,
        "deadline": None,
        "as_of": INSTANT.format(3),
    } | changes


FILE: dict[str, Any] = {
    "uri": "file:///results/bat_1-1.parquet",
    "from": "2025-12-01",
    "to": "2025-12-07",
    "rows": 70,
    "size_bytes": 5_120,
    "checksum": "sha256:00",
}


def completed(**changes: Any) -> dict[str, Any]:
    """The same, completed with one file."""
    body = status_body(
        status="completed",
        progress=100,
        waiting=None,
        queue_position=None,
        estimated_wait_seconds=None,
        batched_with=[],
        attempts=1,
        cost=3.0,
        execution_time_ms=4_200,
        started_at=INSTANT.format(1),
        completed_at=INSTANT.format(6),
        result={
            "records_fetched": 1_234,
            "size_bytes": 5_120,
            "storage_location": FILE["uri"],
            "files": [FILE],
            "dataset_version": 2,
            "as_of": INSTANT.format(2),
        },
    )
    del body["as_of"]
    return body | changes


def failed(**changes: Any) -> dict[str, Any]:
    """The same, failed after two attempts."""
    error = {
        "class": "provider_system",
        "code": "provider_unavailable",
        "provider_code": "503",
        "message": "The provider is away.",
        "retryable": True,
    }
    return completed(status="failed", progress=40, attempts=2, result=None, error=error) | changes


LIMIT = {"limit": 2_000, "remaining": 1_997, "bucket": "reports_per_day"}
CONNECTORS: dict[str, Any] = {
    "connectors": [
        {
            "id": CONNECTOR,
            "type": "DV360",
            "account_id": "4567",
            "status": "connected",
            "health": {
                "status": "degraded", "last_check": INSTANT.format(1), "latency_ms": 80, "error_rate": 0.1, "calls": 20,
            },
            "rate_limit": {**LIMIT, "reset_at": INSTANT.format(9)},
            "time_zone": "Europe/Berlin",
            "currency": "EUR",
        },
        {
            "id": "conn_" + "2" * 32,
            "type": "GOOGLE_ADS",
            "account_id": "77",
            "status": "paused",
            "health": {"status": "unknown", "last_check": None, "latency_ms": None, "error_rate": None, "calls": 0},
            "rate_limit": None,
            "time_zone": "UTC",
            "currency": None,
        },
    ],
    "parts": {"DV360": {"live": True, "as_of": INSTANT.format(3)}, "GOOGLE_ADS": {"live": False, "as_of": None}},
}  # fmt: skip

QUEUE: dict[str, Any] = {
    "queue_status": {"total_queued": 12, "your_requests": 2, "positions": [3, 7], "estimated_wait_seconds": 95.0},
    "rate_limits": {
        "DV360": {**LIMIT, "reset_at": "2099-01-01T00:00:00.000Z"}
    },
    "requests": [
        {
            "request_id": REQUEST,
            "connector_id": CONNECTOR,
            "connector_type": "DV360",
            "report_type": "campaign_performance",
            "priority": "normal",
            "status": "queued",
            "queue_position": 3,
            "estimated_wait_seconds": 45.0,
            "waiting": {"reason": "concurrency", "until": None},
        }
    ],
    "parts": {"DV360": {"live": False, "as_of": INSTANT.format(3)}},
}  # fmt: skip
