from __future__ import annotations

from collections.abc import Callable

import pytest

from app.domain import events
from app.domain.errors import ErrorClass, Failure
from app.domain.events import Asked, DayNews
from app.domain.identity import dataset_event_id, refused_event_id, terminal_event_id
from app.domain.messages import Event, StoredFile
from app.domain.model import ConnectorFacts, Days
from app.streams.codecs import FORMATS, EventCodec, decode_event
from app.streams.wire import instant_text

HEX = "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"
REQUEST, CONNECTOR = f"req_{HEX}", f"conn_{HEX}"
NOW = 1_770_000_000_123
FACTS = ConnectorFacts(CONNECTOR, 7, "DV360", "acc", f"grant_{HEX}", "user", time_zone="Asia/Tokyo", currency="JPY")
DAYS = Days(739_617, 739_623)
ASKED = Asked(FACTS, REQUEST, {"team": "a"}, "campaign_performance", DAYS, "00-trace")
FILE = StoredFile("file:///r/1.parquet", 739_610, 739_630, 100, 2_000, "sha256:00", (), {})
FAILURE = Failure(
    ErrorClass.PROVIDER_SYSTEM, "provider_unavailable", "503 three times", retryable=True, provider_code="503"
)


def fetched(asked: Asked = ASKED, files: tuple[StoredFile, ...] = (FILE, FILE)) -> Event:
    return events.data_fetched(
        now=NOW,
        asked=asked,
        fields=("clicks",),
        batch_id=f"bat_{HEX}",
        batched_with=(f"req_{HEX[::-1]}",),
        files=files,
        records_fetched=12,
        columns=("date", "clicks"),
        dataset_version=4,
        stale=False,
        as_of=NOW - 1000,
        attempts=1,
        provider_calls=4,
        execution_time_ms=1234,
        cost="1.25",
    )


def updated() -> Event:
    return events.dataset_updated(
        now=NOW,
        connector=FACTS,
        report_type="campaign_performance",
        version=4,
        files=(FILE,),
        days=(DayNews(739_617, 3, "final", changed=True), DayNews(739_618, 0, "open", changed=False)),
        complete_through=739_618,
        reason="first",
        columns_absent=("reach",),
        totals={"impressions": "12.000000", "clicks": "3", "spend": "1.500000", "other": "9"},
        expires_at=NOW + 1,
    )


def limited() -> Event:
    return events.rate_limit_hit(
        now=NOW,
        connector_type="DV360",
        bucket="reports:user",
        scope="user",
        limit=240,
        period_ms=60_000,
        until_at=NOW + 60_000,
        source="local",
    )


BUILDERS: dict[str, Callable[[], Event]] = {
    "data_fetched": fetched,
    "dataset_updated": updated,
    "fetch_failed": lambda: events.fetch_failed(now=NOW, asked=ASKED, failure=FAILURE, attempts=3, batch_id=None),
    "fetch_cancelled": lambda: events.fetch_cancelled(now=NOW, asked=ASKED, reason="asked for"),
    "data_written": lambda: events.data_written(now=NOW, asked=ASKED, target="Leads!A9", rows_written=3),
    "write_failed": lambda: events.write_failed(now=NOW, asked=ASKED, failure=FAILURE, attempts=3),
    "oauth_connected": lambda: events.oauth_connected(now=NOW, connector=FACTS, accounts=[("1", "One")], occasion=1),
    "oauth_revoked": lambda: events.oauth_revoked(
        now=NOW, connector=FACTS, reason="invalid_grant", reconnect_url=None, occasion=1
    ),
    "rate_limit_hit": limited,
    "circuit_opened": lambda: events.circuit_opened(
        now=NOW, connector_type="DV360", account_id="acc", failures=5, last_error="timeout", retry_at=NOW + 30_000
    ),
    "circuit_closed": lambda: events.circuit_closed(
        now=NOW, connector_type="DV360", account_id="acc", opened_at=NOW - 30_500
    ),
}


def codec(wire_format: str) -> EventCodec:
    return EventCodec(wire_format, schema_id=9 if wire_format == "confluent" else None)


def test_there_is_a_builder_for_every_event_type() -> None:
    assert tuple(BUILDERS) == events.EVENT_TYPES
    assert set(events.EVENT_TYPES) >= events.TERMINAL_TYPES


@pytest.mark.parametrize("wire_format", ["avro", "json"])
@pytest.mark.parametrize("kind", events.EVENT_TYPES)
def test_every_event_is_complete_on_the_wire(kind: str, wire_format: str) -> None:
    event = BUILDERS[kind]()
    assert event.type == kind
    read = decode_event(codec(wire_format).encode(event)[1])
    data = {
        name: instant_text(value) if name in ("as_of", "expires_at", "until", "retry_at") else value
        for name, value in event.data.items()
    }
    assert read == {
        "event_id": event.event_id,
        "type": kind,
        "occurred_at": "2026-02-02T02:40:00.123Z",
        "org_id": event.org_id,
        "connector_id": event.connector_id,
        "connector_type": "DV360",
        "request_id": event.request_id,
        "labels": event.labels,
        "data": data,
    }


@pytest.mark.parametrize("kind", sorted(events.TERMINAL_TYPES))
def test_terminal_events_of_one_request_share_one_id(kind: str) -> None:
    event = BUILDERS[kind]()
    assert event.event_id == terminal_event_id(CONNECTOR, REQUEST)
    assert (event.request_id, event.org_id, event.labels) == (REQUEST, 7, {"team": "a"})


@pytest.mark.parametrize("kind", events.EVENT_TYPES)
def test_the_same_fact_has_the_same_id(kind: str) -> None:
    assert BUILDERS[kind]() == BUILDERS[kind]()


def test_the_receipt_tells_files_slice_and_sizes() -> None:
    data = fetched().data
    assert data["storage_location"] == "file:///r/1.parquet"
    assert data["size_bytes"] == 4_000
    assert data["slice"] == {"columns": ["date", "clicks"], "from": DAYS.first, "to": DAYS.last}
    assert data["date_range"] == {"start": DAYS.first, "end": DAYS.last}
    assert data["files"][0] == {
        "uri": "file:///r/1.parquet",
        "from": "2025-12-25",
        "to": "2026-01-14",
        "rows": 100,
        "size_bytes": 2_000,
        "checksum": "sha256:00",
    }


def test_the_receipt_of_a_table_has_no_days() -> None:
    data = fetched(Asked(FACTS, REQUEST, {}, "table")).data
    assert data["date_range"] is None
    assert data["slice"]["from"] is data["files"][0]["to"] is None


def test_a_receipt_without_files_can_be_written() -> None:
    event = fetched(files=())
    assert event.data["storage_location"] is None
    assert decode_event(codec("avro").encode(event)[1])["data"]["files"] == []


def test_a_data_set_version_has_its_own_id_and_totals() -> None:
    event = updated()
    assert event.event_id == dataset_event_id(7, CONNECTOR, "campaign_performance", 4)
    assert event.request_id is None
    assert event.data["totals"] == {"impressions": 12, "clicks": 3, "spend": "1.500000"}
    assert event.data["days"][1] == {"date": "2026-01-02", "rows": 0, "state": "open", "changed": False}
    assert (event.data["currency"], event.data["time_zone"], event.data["account_id"]) == ("JPY", "Asia/Tokyo", "acc")


def test_a_failure_tells_class_code_and_what_the_provider_said() -> None:
    event = events.fetch_failed(now=NOW, asked=ASKED, failure=FAILURE, attempts=3, batch_id=f"bat_{HEX}")
    assert event.data["error"] == {
        "class": "provider_system",
        "code": "provider_unavailable",
        "provider_code": "503",
        "message": "503 three times",
        "retryable": True,
    }
    assert event.data["refused"] is False


def test_a_long_message_is_cut() -> None:
    failure = Failure(ErrorClass.INTERNAL, "x", "y" * 1_000_000, retryable=False)
    event = events.fetch_failed(now=NOW, asked=ASKED, failure=failure, attempts=1, batch_id=None)
    assert len(event.data["error"]["message"]) == events.MAX_MESSAGE_LENGTH


@pytest.mark.parametrize("kind", ["fetch_failed", "write_failed"])
def test_a_refusal_has_an_id_of_its_own(kind: str) -> None:
    event = events.refused(kind=kind, now=NOW, request_id=REQUEST, value=b"v", failure=FAILURE, connector_id=CONNECTOR)
    assert event.event_id == refused_event_id(REQUEST, b"v")
    assert event.event_id != terminal_event_id(CONNECTOR, REQUEST)
    assert (event.data["refused"], event.data["attempts"], event.type) == (True, 0, kind)
    assert decode_event(codec("avro").encode(event)[1])["org_id"] is None


def test_two_closures_are_two_facts() -> None:
    def opened(now: int) -> Event:
        return events.circuit_opened(
            now=now, connector_type="TTD", account_id="a", failures=5, last_error="x", retry_at=now
        )

    assert opened(1).event_id != opened(2).event_id


@pytest.mark.parametrize(
    ("event", "key", "subject"),
    [
        (BUILDERS["fetch_cancelled"](), CONNECTOR, REQUEST),
        (BUILDERS["oauth_connected"](), CONNECTOR, CONNECTOR),
        (BUILDERS["circuit_opened"](), "DV360", None),
        (Event("evt_x", "fetch_cancelled", 0, {"reason": "x"}), None, None),
    ],
)
def test_key_and_headers_are_cloudevents_in_binary_mode(event: Event, key: str | None, subject: str | None) -> None:
    written, _, pairs = codec("avro").encode(event)
    headers = dict(pairs)
    assert written == (None if key is None else key.encode())
    assert len(headers) == len(pairs)
    expected = {
        "ce_id": event.event_id,
        "ce_source": "/connector-service",
        "ce_type": f"connector.{event.type}",
        "ce_specversion": "1.0",
        "ce_time": instant_text(event.occurred_at),
        "content-type": "application/avro",
        "ce_subject": subject,
        "ce_partitionkey": key,
        "traceparent": event.traceparent,
    }
    assert headers.pop("ce_dataschema").startswith(b"/schemas/")
    assert headers == {name: text.encode() for name, text in expected.items() if text is not None}


def test_json_says_that_it_is_json() -> None:
    _, value, headers = codec("json").encode(BUILDERS["circuit_closed"]())
    assert dict(headers)["content-type"] == b"application/json"
    assert value.startswith(b'{"event_id":"evt_')


def test_data_that_is_not_exactly_its_record_is_a_mistake() -> None:
    good = BUILDERS["circuit_closed"]()
    for wire_format in FORMATS:
        for data in ({}, {**good.data, "extra": 1}):
            with pytest.raises(ValueError, match="circuit_closed"):
                codec(wire_format).encode(Event("evt_x", "circuit_closed", NOW, data))
        with pytest.raises(ValueError, match="no event type"):
            codec(wire_format).encode(Event("evt_x", "made_up", NOW, {}))
    with pytest.raises(ValueError, match="ConnectorEvent"):
        codec("avro").encode(Event("evt_x", "circuit_closed", NOW, {"account_id": 5, "open_s": 1.0}))


def test_formats_that_cannot_be_written_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="avro, confluent, json"):
        EventCodec("xml")
    with pytest.raises(ValueError, match="schema id"):
        EventCodec("confluent")
