"""Metrics: each named once, nothing unbounded as a label, and a scraper can read them. Logs: one line, no secret."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.logging import configure, get_logger, redact
from app.telemetry.metrics import DEFINITIONS, PREFIX, Metrics

ALLOWED = {
    *("connector_type", "report_type", "outcome", "priority", "code", "kind", "status", "answer", "quota", "source"),
    *("provider", "type", "table", "topic", "partition", "route", "version", "python", "state"),
}


def test_every_metric_is_named_once() -> None:
    names = [d.name for d in DEFINITIONS]
    attributes = [f.name for f in dataclasses.fields(Metrics) if f.type in ("Counter", "Gauge", "Histogram")]
    assert sorted(names) == sorted(attributes)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_names_labels_and_meanings_follow_the_rules(definition: Any) -> None:
    assert definition.meaning.endswith(".")
    assert set(definition.labels) <= ALLOWED
    assert definition.name.endswith("_total") == (definition.kind is Counter)
    assert bool(definition.buckets) == (definition.kind is Histogram)


def test_the_reference_tells_every_metric_with_its_labels_and_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): tuple(row[1:]) for row in rows}
    assert len(told) == len(rows), "a metric is told twice"
    assert told == {
        PREFIX + d.name: (d.kind.__name__.lower(), ", ".join(f"`{label}`" for label in d.labels), d.meaning)
        for d in DEFINITIONS
    }


def test_alerts_of_the_reference_name_metrics_that_exist() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"connector_[a-z_]+", page.replace("connector_type", "")))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} == {PREFIX + d.name for d in DEFINITIONS}


def test_gauges_of_state_are_set_before_a_scraper_sees_them() -> None:
    metrics, depth = Metrics(), [3, 4]
    metrics.before_exposition(lambda: metrics.live_requests.labels("DV360").set(depth.pop(0)))
    for expected in (b" 3.0", b" 4.0"):
        body, _ = metrics.exposition("")
        assert PREFIX.encode() + b'live_requests{connector_type="DV360"}' + expected in body


def test_two_workers_in_one_process_do_not_collide() -> None:
    one, two = Metrics(), Metrics()
    one.dlq_total.labels("malformed_json").inc()
    assert two.registry.get_sample_value(PREFIX + "dlq_total", {"code": "malformed_json"}) is None


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_a_scraper_can_read_them(accept: str) -> None:
    metrics = Metrics()
    metrics.describe_build("1.2.3")
    metrics.planner_step_seconds.labels("DV360").observe(0.003)
    body, content_type = metrics.exposition(accept)
    families = {f.name: f for f in text_string_to_metric_families(body.decode().replace("# EOF\n", ""))}
    assert families[PREFIX + "build_info"].samples[0].labels["version"] == "1.2.3"
    assert PREFIX + "planner_step_seconds" in families
    assert content_type.partition(";")[0] in ("text/plain", "application/openmetrics-text")


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure("DEBUG", json=True, stream=stream)
    yield stream
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


SECRETS = [
    "ya29.A0ARrdaM-abcdef",
    "1//0gAbCdEf-123456",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "hunter2-password",
    "EAAGm0PX4ZCpsBAKZC",
]
LEAKS: list[Any] = [
    {"access_token": SECRETS[0]},
    {"refresh_token": SECRETS[1], "nested": {"api_key": SECRETS[3]}},
    f"Authorization: Bearer {SECRETS[2]}",
    f"GET https://host/x?access_token={SECRETS[0]}&page=2",
    f"postgresql://someone:{SECRETS[3]}@db:5432/x",
    f"redis://:{SECRETS[3]}@cache:6379/0",
    [f"grant_type=refresh_token&refresh_token={SECRETS[1]}", {"password": SECRETS[3]}],
    f'{{"client_secret": "{SECRETS[3]}"}}',
    f"Malformed access token {SECRETS[4]}",
    f"GET https://host/token?fb_exchange_token={SECRETS[3]}&grant_type=x",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_secrets_are_masked_by_name_and_by_form(leak: Any) -> None:
    shown = json.dumps(redact(leak))
    assert not [s for s in SECRETS if s in shown]
    assert "***" in shown


def test_ordinary_facts_stay_as_they_are() -> None:
    facts = {"request_id": "req_1", "tokens_total": 3, "url": "https://host/x?page=2", "code": "quota", "n": [1, None]}
    assert redact(facts) == facts


def test_a_record_is_one_line_with_its_facts(logs: io.StringIO) -> None:
    get_logger("app.x").info("fetch_started", request_id="req_1", text="a\nb\x1b[31m", attempt=1)
    (record,) = lines(logs)
    assert (record["event"], record["request_id"], record["attempt"]) == ("fetch_started", "req_1", 1)
    assert (record["level"], record["logger"], record["at"][-1]) == ("info", "app.x", "Z")


def test_records_of_libraries_have_the_same_shape(logs: io.StringIO) -> None:
    logging.getLogger("aiokafka.consumer").warning("joined %s", "group", extra={"token": SECRETS[0]})
    (record,) = lines(logs)
    assert (record["event"], record["level"], record["token"]) == ("joined group", "warning", "***")


def test_no_secret_in_messages_facts_or_tracebacks(logs: io.StringIO) -> None:
    try:
        raise RuntimeError(f"refused: Bearer {SECRETS[2]}")
    except RuntimeError:
        logging.getLogger("x").exception("failed with %s", SECRETS[0])
        get_logger("y").exception("failed", headers={"Authorization": SECRETS[3]})
    text = logs.getvalue()
    assert not [s for s in SECRETS if s in text]
    assert all("RuntimeError" in r["exception"] for r in lines(logs))


def test_for_people_a_text_cannot_start_a_line(logs: io.StringIO) -> None:
    configure("INFO", json=False, stream=logs)
    get_logger("x").info("named", name="a\n2026-01-01 forged\u202e")
    (line,) = logs.getvalue().splitlines()
    assert "\\n2026" in line
