"""A dozen records that must not be served, each broken in its own way, and what must become of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.domain.messages import Event
from app.streams.codecs import EventCodec
from app.streams.topics import Names
from app.streams.wire import encode_avro, encode_json
from tests.e2e import traffic
from tests.e2e.evidence import Account
from tests.e2e.gathering import dead_letter, read_topic


@dataclass(frozen=True, slots=True)
class Broken:
    """One record and the code it must be put aside with."""

    what: str
    record: traffic.Encoded
    code: str


def records(account: Account) -> list[Broken]:
    """All of them; ids are new each time."""
    day = traffic.today() - timedelta(days=50)
    key = account.connector_id.encode()

    def good(**more: Any) -> dict[str, Any]:
        return traffic.fetch(account, day, day, **more)

    def json_of(what: str, code: str, **more: Any) -> Broken:
        return Broken(what, (key, encode_json("FetchCommand", good(**more))), code)

    avro = encode_avro("FetchCommand", good())
    backwards = {"start": day.isoformat(), "end": (day - timedelta(days=3)).isoformat()}
    return [
        Broken("empty", (key, b""), "empty_record"),
        Broken("null", (key, None), "empty_record"),
        Broken("truncated", (key, avro[:-9]), "truncated"),
        Broken("trailing bytes", (key, avro + b"\x00"), "trailing_bytes"),
        Broken("an event's schema", (key, _event()), "unknown_schema"),
        Broken("not JSON", (key, b"hello"), "unknown_format"),
        Broken("half a JSON object", (key, encode_json("FetchCommand", good())[:-20]), "malformed_json"),
        json_of("unknown connector", "unknown_connector", connector_id=f"conn_{0xBAD:032x}"),
        json_of("end before start", "invalid_date_range", date_range=backwards),
        json_of("unknown report", "unknown_report_type", report_type="campaign_performanse"),
        json_of("premium without the plan", "priority_not_allowed", priority="premium"),
        json_of("unknown field", "unknown_field_name", fields=["clicks", "klicks"]),
    ]


def _event() -> bytes:
    data = {"reason": "none"}
    _, value, _ = EventCodec("avro").encode(Event("evt_1", "fetch_cancelled", 1, data))
    return value


def between(good: Sequence[traffic.Encoded], bad: Sequence[traffic.Encoded]) -> Iterator[traffic.Encoded]:
    """Good and broken records in turn, as evenly as their numbers allow; all of one key, so of one partition."""
    for at, record in enumerate(bad):
        if at * len(good) // len(bad) != (at - 1) * len(good) // len(bad):
            yield good[at * len(good) // len(bad)]
        yield record


async def faults(bootstrap: str, prefix: str, bad: Sequence[Broken]) -> list[str]:
    """What is wrong with the dead-letter topic: each broken record must be there once, untouched, with its reason."""
    found = [dead_letter(r.headers, r.value) async for r in read_topic(bootstrap, Names(prefix).dlq)]
    problems = []
    for one in bad:
        mine = [dead for dead in found if dead.value == one.record[1] and dead.code == one.code and dead.detail]
        if len(mine) != 1:
            codes = [dead.code for dead in found if dead.value == one.record[1]]
            problems.append(f"{one.what}: should be put aside once as {one.code}, was as {codes or 'nothing'}")
    return problems
