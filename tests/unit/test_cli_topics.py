"""What ``events`` and ``dlq list`` make of records: filters, the newest, lines, and bytes that are anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from app.cli import dlq, events
from app.cli.events import Filter
from app.cli.failures import CommandFailed
from app.cli.newest import Newest
from app.domain import events as facts
from app.domain.errors import ErrorClass, Failure
from app.domain.events import EVENT_TYPES, Asked, DayNews
from app.domain.messages import Event, StoredFile
from app.domain.model import Days
from app.services.explain_events import event_line, summary
from app.streams.codecs import EventCodec, dlq_headers
from app.streams.wire import decode_event
from app.testing import rest_world

NOW = 1_767_225_600_000
REQUEST = rest_world.REQUEST
FILE = StoredFile("file:///a", 739_500, 739_506, 35, 5_020, "sha256:0", ((739_500, 35, "0" * 16),), {"clicks": "3"})
FAILURE = Failure(ErrorClass.AUTHORISATION, "no_access", "Not allowed.", retryable=False, provider_code="403")


@dataclass
class Record:
    value: bytes | None
    headers: Sequence[tuple[str, Any]] = ()
    key: bytes | None = None
    timestamp: int = NOW
    partition: int = 0
    offset: int = 0
    topic: str = "t"


def asked() -> Asked:
    return Asked(rest_world.facts(), REQUEST, {"team": "x"}, "campaign_performance", Days(739_500, 739_506))


def fetched() -> Event:
    return facts.data_fetched(
        now=NOW, asked=asked(), fields=["clicks"], batch_id=None, batched_with=[], files=[FILE], records_fetched=35,
        columns=["clicks"], dataset_version=1, stale=False, as_of=NOW, attempts=1, provider_calls=3,
        execution_time_ms=5, cost="3.0000",
    )  # fmt: skip


def updated() -> Event:
    days = [DayNews(739_500, 20, "final", changed=True), DayNews(739_501, 15, "open", changed=False)]
    return facts.dataset_updated(
        now=NOW, connector=rest_world.facts(), report_type="campaign_performance", version=3, files=[FILE], days=days,
        complete_through=None, reason="restated",
    )  # fmt: skip


def limited(**changes: Any) -> Event:
    given: dict[str, Any] = {
        "now": NOW, "connector_type": "DV360", "bucket": "reports_per_day|", "scope": "application", "limit": 2_000,
        "period_ms": 86_400_000, "until_at": NOW + 60_000, "source": "local",
    }  # fmt: skip
    return facts.rate_limit_hit(**(given | changes))


refused = facts.refused(kind="write_failed", now=NOW, request_id=REQUEST, value=b"x", failure=FAILURE)
LINES: list[tuple[Event, str]] = [
    (fetched(), "35 rows of campaign_performance, 2025-09-06 to 2025-09-12 (7 days), 1 file, 3 calls"),
    (updated(), "version 3 of campaign_performance (restated): 2 days, 1 changed, 35 rows"),
    (
        facts.fetch_failed(now=NOW, asked=asked(), failure=FAILURE, attempts=2, batch_id=None),
        "Not allowed (no_access; the provider says 403), after 2 attempts",
    ),
    (facts.fetch_cancelled(now=NOW, asked=asked(), reason="cancelled by command"), "cancelled by command"),
    (facts.data_written(now=NOW, asked=asked(), target="S!A1", rows_written=1), "1 row at S!A1"),
    (refused, "refused: Not allowed (no_access; the provider says 403)"),
    (facts.oauth_connected(now=NOW, connector=rest_world.facts(), accounts=[("1", "a")], occasion=1), "1 account"),
    (
        facts.oauth_revoked(
            now=NOW, connector=rest_world.facts(), reason="gone", reconnect_url="https://x", occasion=1
        ),
        "gone; connect again at https://x",
    ),
    (limited(), "reports_per_day (2,000 calls in 1 day) is used up until 00:01:00 (in 1 min): by our count"),
    (
        limited(source="provider", spent_by_others=True, until_at=None),
        "reports_per_day (2,000 calls in 1 day) is used up: the provider says so, others spend it too",
    ),
    (
        facts.circuit_opened(
            now=NOW, connector_type="DV360", account_id="4", failures=5, last_error="timeout", retry_at=NOW + 30_000
        ),
        "account 4: no more calls after 5 failures, the last timeout; tried again at 00:00:30 (in 30 s)",
    ),
    (
        facts.circuit_closed(now=NOW, connector_type="DV360", account_id="4", opened_at=NOW - 30_000),
        "account 4: calls go on after 30 s",
    ),
]


@pytest.mark.parametrize(("event", "text"), LINES, ids=lambda value: getattr(value, "type", ""))
@pytest.mark.parametrize("format", ["avro", "json"])
def test_every_event_has_its_line(event: Event, text: str, format: str) -> None:  # noqa: A002
    decoded = decode_event(EventCodec(format).encode(event)[1])
    assert summary(decoded, NOW) == text
    line = event_line(decoded, NOW)
    assert line.startswith(f"00:00:00  {event.type}")
    assert line.endswith(text)
    for part in (event.request_id, event.connector_id):
        assert part is None or part in line


def test_no_event_type_is_without_a_line() -> None:
    assert {event.type for event, _ in LINES} == set(EVENT_TYPES)


def test_confluent_framing_is_read_by_the_schema_that_its_header_names() -> None:
    _, value, headers = EventCodec("confluent", schema_id=17).encode(fetched())
    decoded = events._decoded(Record(value, headers))
    assert decoded is not None
    assert decoded["request_id"] == REQUEST


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff\xfe", b"\0\0\0\0\1x", b'{"type": "other"}'])
def test_what_is_no_event_is_said_and_passed_over(value: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert events._decoded(Record(value, [("ce_dataschema", None)])) is None
    assert "is no event" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(None, None, None, None), True),
        (Filter(7, "data_fetched", REQUEST, rest_world.CONNECTOR), True),
        (Filter(8, None, None, None), False),
        (Filter(None, "fetch_failed", None, None), False),
        (Filter(None, None, "req_" + "9" * 32, None), False),
        (Filter(None, None, None, "conn_" + "9" * 32), False),
    ],
)
def test_filters(wanted: Filter, fits: bool) -> None:
    assert wanted.fits(decode_event(EventCodec().encode(fetched())[1])) == fits


def test_the_newest_of_all_partitions_come_in_order_of_time() -> None:
    shown: list[int] = []
    newest = Newest(3, shown.append)
    for at, partition, offset in ((5, 0, 0), (9, 0, 1), (1, 1, 0), (7, 1, 1), (7, 2, 0)):
        newest.take(Record(None, timestamp=at, partition=partition, offset=offset), 10 * at + partition)
    newest.show()
    assert (shown, newest.left_out, newest.shown) == ([71, 72, 90], 2, 3)


def told(value: bytes | None, key: bytes | None = b"k", headers: Any = None) -> dict[str, Any]:
    given = dlq_headers(
        error_code="malformed_json",
        error_detail="why",
        topic="connector.commands",
        partition=3,
        offset=12,
        failed_at=NOW,
    )
    return dlq.letter(Record(value, given if headers is None else headers, key))


def test_a_dead_letter_says_why_and_where() -> None:
    assert told(b'{"a": 1') == {
        "failed_at": "2026-01-01T00:00:00.000Z",
        "error_code": "malformed_json",
        "error_detail": "why",
        "source_topic": "connector.commands",
        "source_partition": 3,
        "source_offset": 12,
        "key": "k",
        "value": '{"a": 1',
        "encoding": "text",
        "size_bytes": 7,
        "partition": 0,
        "offset": 0,
    }


@pytest.mark.parametrize(
    ("value", "shown", "encoding"),
    [
        (None, None, None),
        (b"", "", "text"),
        (b"\xff\xfe", "fffe", "hex"),
        (b"a\0b", "610062", "hex"),
        (b"\x1b[2J", "1b5b324a", "hex"),
        (b"x" * 1_000, "x" * 200, "text"),
        ("é" * 1_000, "é" * 200, "text"),
        ("x" + "\N{GRINNING FACE}" * 400, "x" + "\N{GRINNING FACE}" * 199, "text"),
        (b"\xff" * 1_000, "ff" * 100, "hex"),
    ],
)
def test_the_beginning_of_a_value_is_text_or_hex(
    value: bytes | str | None, shown: str | None, encoding: str | None
) -> None:
    letter = told(value.encode() if isinstance(value, str) else value)
    assert (letter["value"], letter["encoding"]) == (shown, encoding)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("error_code", None), ("source_offset", b"x"), ("source_partition", "²".encode())],
        [("error_detail", b"\xff\x1b[2J"), ("\x1b", b"")],
    ],
)
@pytest.mark.parametrize("key", [None, b"", b"\xff\0"])
def test_odd_headers_and_keys_are_shown_and_never_steer(
    headers: Any, key: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    letter = told(b"\x1b[2J" * 90, key, headers)
    json.dumps(letter)
    dlq._print(letter)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert "\x1b" not in out
    assert "None" not in out


def test_an_event_type_that_there_is_not_is_told_all_there_are() -> None:
    with pytest.raises(CommandFailed, match="no event type 'nope'") as refused:
        events._type("nope")
    assert refused.value.advice == f"one of {', '.join(sorted(EVENT_TYPES))}"
