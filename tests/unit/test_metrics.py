"""Metrics: each named once, nothing unbounded as a label, and a scraper can read them. Logs: one line, no secret."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.logging import configure, get_logger, redact
from app.telemetry.metrics import DEFINITIONS, PREFIX, Metrics

ALLOWED = {
    *("connector_type", "report_type", "outcome", "priority", "code", "kind", "status", "answer", "quota", "source"),
    *("state", "provider", "type", "table", "topic", "partition", "route", "version", "python"),
}


def test_every_metric_is_named_once() -> None:
    names = [d.name for d in DEFINITIONS]
    attributes = [f.name for f in dataclasses.fields(Metrics) if f.name != "registry"]
    assert sorted(names) == sorted(attributes)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_names_labels_and_meanings_follow_the_rules(definition: Any) -> None:
    assert definition.meaning.endswith(".")
    assert set(definition.labels) <= ALLOWED
    assert definition.name.endswith("_total") == (definition.kind is Counter)
    assert bool(definition.buckets) == (definition.kind is Histogram)


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
